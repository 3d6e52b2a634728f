package db

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/free2talk/free2talk/server/talk"
)

// Measure tells meter of the pools, of how long statements take, and how many
// sessions live. Call it once, before the store is used.
func (s *Store) Measure(meter metric.Meter) error {
	hook, err := newTiming(meter)
	if err != nil {
		return err
	}
	s.AddQueryHook(hook)
	if postgres, ok := s.dialect.(*postgresDialect); ok {
		postgres.timing = hook
	}
	return errors.Join(s.measurePool(meter), s.measureSessions(meter))
}

func (s *Store) measurePool(meter metric.Meter) error {
	connections, e1 := meter.Int64ObservableGauge("free2talk_database_connections",
		metric.WithDescription("Connections of this node to the database, by state: used or idle."))
	limit, e2 := meter.Int64ObservableGauge("free2talk_database_connections_limit",
		metric.WithDescription("The most connections that this node makes to the database."))
	waits, e3 := meter.Int64ObservableCounter("free2talk_database_waits",
		metric.WithDescription("How often a statement waited for a connection."))
	waited, e4 := meter.Float64ObservableCounter("free2talk_database_waited", metric.WithUnit("s"),
		metric.WithDescription("How long statements waited for connections, altogether."))
	if err := errors.Join(e1, e2, e3, e4); err != nil {
		return err
	}
	used, idle := stateIs("used"), stateIs("idle")
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stats := s.stats()
		o.ObserveInt64(connections, int64(stats.InUse), used)
		o.ObserveInt64(connections, int64(stats.Idle), idle)
		o.ObserveInt64(limit, int64(stats.MaxOpenConnections))
		o.ObserveInt64(waits, stats.WaitCount)
		o.ObserveFloat64(waited, stats.WaitDuration.Seconds())
		return nil
	}, connections, limit, waits, waited)
	return err
}

func stateIs(state string) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String("state", state)))
}

// stats is what there is of all pools together.
func (s *Store) stats() sql.DBStats {
	var all sql.DBStats
	for _, pool := range s.pools() {
		stats := pool.Stats()
		all.InUse += stats.InUse
		all.Idle += stats.Idle
		all.MaxOpenConnections += stats.MaxOpenConnections
		all.WaitCount += stats.WaitCount
		all.WaitDuration += stats.WaitDuration
	}
	return all
}

// Counting sessions costs a walk over an index, so each node spends at most a
// hundredth of a connection's time on it.
const (
	countLeast = time.Second
	countShare = 100
)

func (s *Store) measureSessions(meter metric.Meter) error {
	var mu sync.Mutex
	var last int64
	var next time.Time
	known := false
	_, err := meter.Int64ObservableGauge("free2talk_sessions",
		metric.WithDescription("Sessions that live, on all nodes together, as this node last counted them in the database."),
		metric.WithInt64Callback(func(ctx context.Context, o metric.Int64Observer) error {
			mu.Lock()
			defer mu.Unlock()
			if begun := time.Now(); begun.After(next) {
				n, err := s.livingSessions(ctx)
				if err == nil {
					last, known = n, true
				}
				next = time.Now().Add(max(countLeast, countShare*time.Since(begun)))
			}
			if known { // what was last known, where the database is away
				o.Observe(last)
			}
			return nil
		}))
	return err
}

const countWithin = 2 * time.Second

func (s *Store) livingSessions(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, countWithin)
	defer cancel()
	now, err := s.Now(ctx)
	if err != nil {
		return 0, err
	}
	row, err := one[struct{ N int64 }](ctx, s, talk.ErrSessionNotFound, `
SELECT count(*) AS n
FROM sessions
WHERE revoked_at IS NULL
  AND idle_expires_at > ?
  AND absolute_expires_at > ?`, stamp{now}, stamp{now})
	return row.N, err
}

// timing is how long statements take, by what they begin with.
type timing struct {
	took  metric.Float64Histogram
	known map[string]metric.MeasurementOption
	other metric.MeasurementOption
	many  metric.MeasurementOption
}

var _ bun.QueryHook = (*timing)(nil)

func newTiming(meter metric.Meter) (*timing, error) {
	took, err := meter.Float64Histogram("free2talk_database_statement", metric.WithUnit("s"),
		metric.WithDescription("How long statements took, by their first word, and with the wait for a connection."),
		metric.WithExplicitBucketBoundaries(.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5))
	t := &timing{took: took, known: map[string]metric.MeasurementOption{}, other: operation("other"), many: operation("batch")}
	for _, word := range []string{"select", "insert", "update", "delete", "with", "begin", "commit", "rollback"} {
		t.known[word] = operation(word)
	}
	return t, err
}

func operation(word string) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String("operation", word)))
}

// batch counts a batch that was sent at begun. Nil counts nothing.
func (t *timing) batch(ctx context.Context, begun time.Time) {
	if t != nil {
		t.took.Record(ctx, time.Since(begun).Seconds(), t.many)
	}
}

// BeforeQuery changes nothing.
func (*timing) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context { return ctx }

// AfterQuery counts a statement.
func (t *timing) AfterQuery(ctx context.Context, event *bun.QueryEvent) {
	t.record(ctx, event.Query, time.Since(event.StartTime))
}

func (t *timing) record(ctx context.Context, statement string, took time.Duration) {
	statement = strings.TrimSpace(statement)
	word, _, _ := strings.Cut(statement[:min(len(statement), len("rollback")+1)], " ")
	word, _, _ = strings.Cut(word, "\n")
	where, ok := t.known[strings.ToLower(word)]
	if !ok {
		where = t.other
	}
	t.took.Record(ctx, took.Seconds(), where)
}

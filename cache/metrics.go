package cache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// metrics is what this package tells about itself. The names are those before
// the Prometheus exporter, which appends `_total` to counters and the unit.
type metrics struct {
	requests   family
	decisions  family
	loads      metric.Float64Histogram
	ages       metric.Float64Histogram
	stale      metric.Int64Counter
	refusals   metric.Int64Counter
	unreadable metric.Int64Counter
	forgets    metric.Int64Counter
	breaks     metric.Int64Counter
	published  metric.Int64Counter
	repairs    metric.Int64Counter
	trips      metric.Float64Histogram

	decidedMu sync.Mutex
	byLabels  map[decision]*count
}

func newMetrics(meter metric.Meter, r *Redis) (*metrics, error) {
	if meter == nil {
		meter = noop.Meter{}
	}
	m := metrics{byLabels: map[decision]*count{}}
	errs := []error{
		counter(meter, &m.stale, "free2talk_cache_stale", "Entries that the sampled comparison with the database found stale, by cache."),
		counter(meter, &m.refusals, "free2talk_cache_fills_refused", "Loads that were not stored because a write came in between."),
		counter(meter, &m.unreadable, "free2talk_cache_unreadable", "Entries that could not be read, by reason."),
		counter(meter, &m.forgets, "free2talk_cache_unforgotten", "Keys that could not be unlinked after a write, and were kept from being read."),
		m.requests.observe(meter, "free2talk_cache_requests", "Entries asked for, by cache, layer and what came of it."),
		m.decisions.observe(meter, "free2talk_limiter_decisions", "Decisions about calls, by policy, result and mode."),
		counter(meter, &m.breaks, "free2talk_breaker_opened", "How often Redis was found to be away, by role."),
		counter(meter, &m.published, "free2talk_events_published", "Events that this node handed to Redis for the others."),
		counter(meter, &m.repairs, "free2talk_presence_repaired", "Connections of this node that Redis did not know, or knew and were none, when it was told."),
	}
	var err error
	m.loads, err = meter.Float64Histogram("free2talk_cache_load", metric.WithUnit("s"),
		metric.WithDescription("How long it took to load what Redis did not have."),
		metric.WithExplicitBucketBoundaries(.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5))
	errs = append(errs, err)
	m.ages, err = meter.Float64Histogram("free2talk_cache_age", metric.WithUnit("s"),
		metric.WithDescription("How old the entries were that were served; of those that were near, one in a thousand."),
		metric.WithExplicitBucketBoundaries(.01, .1, 1, 5, 15, 60, 300, 900, 1800, 3600))
	errs = append(errs, err)
	m.trips, err = meter.Float64Histogram("free2talk_redis_round_trip", metric.WithUnit("s"),
		metric.WithDescription("How long Redis took to answer, by role; one round trip may carry many commands."),
		metric.WithExplicitBucketBoundaries(.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1))
	errs = append(errs, err, m.observe(meter, r), observePool(meter, r), observeDrift(meter, r), observeMemory(meter, r), observeNear(meter, r))
	if err := errors.Join(errs...); err != nil {
		return &m, err
	}
	m.zero()
	return &m, nil
}

// zero shows what has not happened yet: a counter that begins to exist when it
// first counts has no rate that an alert could see.
func (m *metrics) zero() {
	for _, c := range []metric.Int64Counter{m.forgets, m.published, m.repairs} {
		c.Add(context.Background(), 0)
	}
	for _, role := range []Role{RoleCache, RoleLimiter, RoleBus, RolePresence} {
		m.breaks.Add(context.Background(), 0, metric.WithAttributes(attribute.String("role", string(role))))
	}
}

func counter(meter metric.Meter, into *metric.Int64Counter, name, description string) (err error) {
	*into, err = meter.Int64Counter(name, metric.WithDescription(description))
	return err
}

func (m *metrics) observe(meter metric.Meter, r *Redis) error {
	degraded, err := meter.Int64ObservableGauge("free2talk_degraded", metric.WithDescription("1 while the server does without Redis in that role."))
	if err != nil {
		return err
	}
	age, err := meter.Float64ObservableGauge("free2talk_cache_heartbeat_age", metric.WithUnit("s"),
		metric.WithDescription("How long ago the last answered heartbeat was sent; at most an hour."))
	if err != nil {
		return err
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(degraded, number(!r.Usable()), metric.WithAttributes(attribute.String("role", string(RoleCache))))
		o.ObserveInt64(degraded, number(r.limiter.breaker.open()), metric.WithAttributes(attribute.String("role", string(RoleLimiter))))
		o.ObserveInt64(degraded, number(r.bus.breaker.open()), metric.WithAttributes(attribute.String("role", string(RoleBus))))
		o.ObserveInt64(degraded, number(r.presence.breaker.open()), metric.WithAttributes(attribute.String("role", string(RolePresence))))
		o.ObserveFloat64(age, r.trust.age(time.Now()).Seconds())
		return nil
	}, degraded, age)
	return err
}

func number(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

func (m *metrics) opened(role Role) {
	m.breaks.Add(context.Background(), 1, metric.WithAttributes(attribute.String("role", string(role))))
}

func (m *metrics) unforgotten(keys int) { m.forgets.Add(context.Background(), int64(keys)) }

// tally is a counter with its attributes, made once.
type tally struct {
	counter metric.Int64Counter
	options []metric.AddOption
}

func (t tally) count(ctx context.Context) { t.counter.Add(ctx, 1, t.options...) }

func (t tally) add(ctx context.Context, n int) { t.counter.Add(ctx, int64(n), t.options...) }

// count is a number that is told when somebody asks. It costs a tenth of a
// counter's Add, which counts where nothing else is done.
type count struct {
	n   atomic.Int64
	set metric.MeasurementOption
	_   [40]byte // a line of the processor's cache for itself
}

func (c *count) count(context.Context) { c.n.Add(1) }

func (c *count) add(_ context.Context, n int) { c.n.Add(int64(n)) }

// family is the counts of one name.
type family struct {
	mu     sync.Mutex
	counts []*count // only ever appended to
}

func (f *family) observe(meter metric.Meter, name, description string) error {
	_, err := meter.Int64ObservableCounter(name, metric.WithDescription(description),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			for _, c := range f.counts {
				o.Observe(c.n.Load(), c.set)
			}
			return nil
		}))
	return err
}

// of adds the count of some labels, which must not be there yet.
func (f *family) of(set attribute.Set) *count {
	c := &count{set: metric.WithAttributeSet(set)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts = append(f.counts, c)
	return c
}

// stats is what is counted of one cache.
type stats struct {
	hit, miss, negative, wait, stale, err *count
	near, nearNegative, nearStale         *count

	metrics *metrics
	cache   attribute.KeyValue
	load    []metric.RecordOption
	ages    [2][]metric.RecordOption // of Redis, and near
	refuse  tally
}

func (m *metrics) stats(cache string) *stats {
	name := attribute.String("cache", cache)
	redis, near := attribute.String("layer", "redis"), attribute.String("layer", "near")
	result := func(layer attribute.KeyValue, result string) *count {
		return m.requests.of(attribute.NewSet(name, layer, attribute.String("result", result)))
	}
	s := &stats{
		hit: result(redis, "hit"), miss: result(redis, "miss"), negative: result(redis, "negative"),
		wait: result(redis, "wait"), stale: result(redis, "stale"), err: result(redis, "error"),
		near: result(near, "hit"), nearNegative: result(near, "negative"), nearStale: result(near, "stale"),
		metrics: m, cache: name, load: []metric.RecordOption{metric.WithAttributes(name)},
		refuse: tally{m.refusals, []metric.AddOption{metric.WithAttributes(name)}},
	}
	for i, layer := range []attribute.KeyValue{redis, near} {
		s.ages[i] = []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(name, layer))}
	}
	s.refuse.add(context.Background(), 0)
	return s
}

func (s *stats) loaded(ctx context.Context, took time.Duration) {
	s.metrics.loads.Record(ctx, took.Seconds(), s.load...)
}

// The layers that entries are served from.
const (
	ofRedis = iota
	ofNear
)

func (s *stats) aged(ctx context.Context, layer int, age time.Duration) {
	s.metrics.ages.Record(ctx, age.Seconds(), s.ages[layer]...)
}

// wasStale counts an entry that should not have been served.
func (s *stats) wasStale(ctx context.Context, layer int) {
	if layer == ofNear {
		s.nearStale.count(ctx)
	} else {
		s.stale.count(ctx)
	}
	s.metrics.stale.Add(ctx, 1, metric.WithAttributes(s.cache))
}

func (s *stats) refused(ctx context.Context) { s.refuse.count(ctx) }

func (s *stats) unreadable(ctx context.Context, why string) {
	s.metrics.unreadable.Add(ctx, 1, metric.WithAttributes(s.cache, attribute.String("reason", why)))
}

// decision is the labels of a decision of the limiter.
type decision struct{ policy, result, mode string }

// decided is the count of such decisions of the limiter.
func (m *metrics) decided(policy, result, mode string) *count {
	m.decidedMu.Lock()
	defer m.decidedMu.Unlock()
	d := decision{policy, result, mode}
	c, ok := m.byLabels[d]
	if !ok {
		c = m.decisions.of(attribute.NewSet(attribute.String("policy", policy), attribute.String("result", result), attribute.String("mode", mode)))
		m.byLabels[d] = c
	}
	return c
}

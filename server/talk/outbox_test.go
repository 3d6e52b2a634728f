package talk_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// backlog is a table of untold rows, and a cache that may be away.
type backlog struct {
	talk.Store
	talk.Cache

	mu    sync.Mutex
	rows  []int64
	away  bool
	looks int
	read  map[int64]int // how often each row was
}

// Unpublished is talk.Store's.
func (b *backlog) Unpublished(_ context.Context, after int64, _ time.Time, limit int) (rows []talk.Outgoing, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.looks++
	for _, id := range b.rows {
		if id > after && len(rows) < limit {
			b.read[id]++
			rows = append(rows, talk.Outgoing{ID: id, Keys: []talk.Key{talk.Key(fmt.Sprint(id))}})
		}
	}
	return rows, nil
}

// Published is talk.Store's.
func (b *backlog) Published(_ context.Context, ids []int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows = slices.DeleteFunc(b.rows, func(id int64) bool { return slices.Contains(ids, id) })
	return nil
}

// Forget is talk.Cache's.
func (b *backlog) Forget(context.Context, ...talk.Key) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return errors.New("redis is away")
	}
	return nil
}

func (b *backlog) set(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	do()
}

// TestABacklogIsNotReadForNothing: while nobody can be told, each row is tried
// soon, most are not tried again, and the log has one line; then all are told.
func TestABacklogIsNotReadForNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &backlog{away: true, read: map[int64]int{}}
		var lines bytes.Buffer
		o := talk.NewOutbox(b, b, time.Now, slog.New(slog.NewTextHandler(&lines, nil)))
		ctx, stop := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { o.Run(ctx) })
		for range 1200 {
			b.set(func() { b.rows = append(b.rows, int64(len(b.rows)+1)) })
			time.Sleep(25 * time.Millisecond)
		}
		time.Sleep(time.Second)
		b.set(func() {
			for _, id := range b.rows {
				if n := b.read[id]; n == 0 || n > 4 && id > 500 {
					t.Errorf("row %d was read %d times, of %d looks", id, n, b.looks)
				}
			}
			if b.looks < 90 || strings.Count(lines.String(), "step=sweep") != 1 {
				t.Errorf("%d looks, logged %s", b.looks, &lines)
			}
			b.away = false
		})
		time.Sleep(6 * time.Second)
		b.set(func() {
			if len(b.rows) != 0 || o.Stats().Swept != 1200 {
				t.Errorf("%d rows are left, %d were told", len(b.rows), o.Stats().Swept)
			}
		})
		stop()
		run.Wait()
	})
}

// blinking is a table that takes changes, and a bus that misses some of what it
// is to publish.
type blinking struct {
	backlog
	talk.Bus

	misses    int
	published []time.Duration // since the start
	began     time.Time
}

// Change is talk.Store's.
func (b *blinking) Change(context.Context, talk.Scope, func(*talk.State) error) (talk.Told, error) {
	return talk.Told{IDs: []int64{1}, Events: []talk.Event{{Topic: "room:1"}}}, nil
}

// Publish is talk.Bus's.
func (b *blinking) Publish(context.Context, []talk.Event) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.published = append(b.published, time.Since(b.began))
	if b.misses--; b.misses >= 0 {
		return errors.New("redis is away")
	}
	return nil
}

// TestWhatWasMissedByChanceIsToldAgainAtOnce: a change whose caller could not wait
// for its being told is told without a sweep, once.
func TestWhatWasMissedByChanceIsToldAgainAtOnce(t *testing.T) {
	t.Parallel()
	for misses, want := range map[int][]time.Duration{0: {0}, 1: {0, 0}, 2: {0, 0}} {
		synctest.Test(t, func(t *testing.T) {
			b := &blinking{misses: misses, began: time.Now(), backlog: backlog{rows: []int64{1}, read: map[int64]int{}}}
			o := talk.NewOutbox(b, b, time.Now, slog.New(slog.DiscardHandler))
			o.Over(b)
			ctx, stop := context.WithCancel(t.Context())
			var run sync.WaitGroup
			run.Go(func() { o.Run(ctx) })
			if err := o.Change(ctx, talk.Scope{}, nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(250 * time.Millisecond) // synctest's clock: marked by then, and not swept yet
			b.set(func() {
				if told := len(b.rows) == 0; !slices.Equal(b.published, want) || told != (misses < 2) {
					t.Errorf("%d misses: published after %v, %d rows are left", misses, b.published, len(b.rows))
				}
			})
			stop()
			run.Wait()
		})
	}
}

package cache

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// slow is a load of the world's value that takes a second and sees what was
// true when it began.
type slow struct {
	world atomic.Int64
	loads atomic.Int64
	ended atomic.Int64 // of them by cancellation
	fail  error
}

func (s *slow) group() *group[int64] {
	return newGroup(func(ctx context.Context, keys []talk.Key, _ time.Time) (map[talk.Key]int64, error) {
		s.loads.Add(1)
		seen := s.world.Load()
		if err := sleep(ctx, time.Second); err != nil {
			s.ended.Add(1)
			return nil, err
		}
		values := map[talk.Key]int64{}
		for _, key := range keys {
			values[key] = seen
		}
		return values, s.fail
	})
}

func TestGroup(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T){
		"a late reader never gets a load that began before it came": lateReader,
		"those who wait share the next load":                        shareNext,
		"one who gives up disturbs nobody":                          giveUp,
		"a load that all gave up is cancelled":                      allGiveUp,
		"many keys are one load":                                    manyKeys,
		"an error reaches all who share it":                         groupError,
		"a load that panics leaves nobody waiting":                  loadPanics,
	} {
		t.Run(name, func(t *testing.T) { t.Parallel(); synctest.Test(t, test) })
	}
}

func one64(t *testing.T, g *group[int64], key talk.Key) int64 {
	t.Helper()
	values, err := g.do(t.Context(), []talk.Key{key}, time.Now())
	if err != nil {
		t.Error(err)
	}
	return values[key]
}

func lateReader(t *testing.T) {
	var s slow
	g := s.group()
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			time.Sleep(time.Duration(i) * 300 * time.Millisecond) // synctest's clock: no time passes
			came := s.world.Add(1)
			if got := one64(t, g, "k"); got < came {
				t.Errorf("came at %d and got a load of %d", came, got)
			}
		})
	}
	all.Wait()
	if n := s.loads.Load(); n > 5 {
		t.Errorf("%d loads in under four seconds", n)
	}
}

func shareNext(t *testing.T) {
	var s slow
	g := s.group()
	var all sync.WaitGroup
	for range 100 {
		all.Go(func() { one64(t, g, "k") })
	}
	all.Wait()
	equal(t, "loads", s.loads.Load(), 2)
	equal(t, "what is left behind", behind(g), 0)
}

func giveUp(t *testing.T) {
	var s slow
	g := s.group()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() {
		if _, err := g.do(ctx, []talk.Key{"k"}, time.Now()); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	synctest.Wait()
	for range 3 {
		all.Go(func() { one64(t, g, "k") })
	}
	synctest.Wait()
	cancel()
	all.Wait()
	equal(t, "cancelled", s.ended.Load(), 1) // the first load was the one who gave up's alone
	equal(t, "loads", s.loads.Load(), 2)
}

func allGiveUp(t *testing.T) {
	var s slow
	g := s.group()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { _, _ = g.do(ctx, []talk.Key{"a", "b"}, time.Now()) })
	}
	all.Wait()
	synctest.Wait()
	equal(t, "cancelled", s.ended.Load(), s.loads.Load())
	equal(t, "what is left behind", behind(g), 0)
}

func manyKeys(t *testing.T) {
	var s slow
	g := s.group()
	var all sync.WaitGroup
	for _, keys := range [][]talk.Key{{"a", "b", "c"}, {"b", "c", "d"}, {"a", "c"}} {
		all.Go(func() {
			values, err := g.do(t.Context(), keys, time.Now())
			check(t, err)
			equal(t, "values", len(values), len(keys))
		})
		synctest.Wait()
	}
	all.Wait()
	equal(t, "loads", s.loads.Load(), 3) // a b c; d; then a b c for those who came later
}

func groupError(t *testing.T) {
	s := slow{fail: talk.ErrDatabaseUnavailable}
	g := s.group()
	g.load = func(context.Context, []talk.Key, time.Time) (map[talk.Key]int64, error) { return nil, s.fail }
	for range 2 {
		if _, err := g.do(t.Context(), []talk.Key{"k"}, time.Now()); !errors.Is(err, talk.ErrDatabaseUnavailable) {
			t.Errorf("got %v", err)
		}
	}
}

func loadPanics(t *testing.T) {
	var s slow
	s.world.Store(7)
	g := s.group()
	load := g.load
	g.load = func(context.Context, []talk.Key, time.Time) (map[talk.Key]int64, error) {
		time.Sleep(time.Second) // synctest's clock
		g.load = load
		panic("a value that cannot be read")
	}
	g.spawn = func(f func()) {
		go func() {
			defer func() { _ = recover() }()
			f()
		}()
	}
	var all sync.WaitGroup
	all.Go(func() {
		_, err := g.do(t.Context(), []talk.Key{"k"}, time.Now())
		equal(t, "error", errors.Is(err, errPanicked), true)
	})
	synctest.Wait()
	equal(t, "who waited", one64(t, g, "k"), 7) // by the next load, which does not panic
	all.Wait()
	equal(t, "what is left behind", behind(g), 0)
}

// behind is how many keys a group still knows of.
func behind(g *group[int64]) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.lines)
}

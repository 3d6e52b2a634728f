package cache

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
)

// Taking of places is one script for many logs, of which one may hold something
// else, and one be full.
func TestTakingInManyLogsAtOnce(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, where corner) {
		r := where.open(t)
		limit := limitOf(2, time.Hour)
		name := func(key string) string { return r.keys.limit(limit, key) }
		take := func(key, id string, cost int, lost ...any) *call {
			args := []any{limit.Window.Microseconds(), limit.Places, 3_600_000, cost, id, len(lost) / 2}
			return scriptTake.run(name(key), append(args, lost...)...)
		}
		check(t, raw(r).Set(t.Context(), name("text"), "no log", time.Minute).Err())
		calls := []*call{
			take("a", "1", 1), take("text", "2", 1), take("a", "3", 1), take("a", "4", 1), take("b", "5", 2),
			take("told", "6", 1, "old:1", 7_200_000_000, "new:1", 60_000_000),
		}
		check(t, r.limiter.do(t.Context(), calls...))
		var got [][]int64
		for _, c := range calls {
			numbers, err := c.ints()
			check(t, err)
			got = append(got, numbers[:2])
		}
		want := [][]int64{{1, 1}, {-1, 0}, {1, 0}, {0, 0}, {1, 0}, {1, 0}}
		if !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("taken and left: %v, want %v", got, want)
		}
		waits, err := calls[5].ints()
		check(t, err)
		around(t, "wait for what was told", time.Duration(waits[2])*time.Microsecond, time.Hour-time.Minute)
	})
}

// Through the limiter: many callers at once, one of whose logs is something
// else. Theirs is made anew, and the others lose nothing.
func TestALogThatIsNoneDisturbsNoOther(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, where corner) {
		r := where.open(t)
		l, limit := NewLimiter(r, nil), limitOf(3, time.Hour)
		check(t, raw(r).Set(t.Context(), r.keys.limit(limit, "k0"), "no log", time.Minute).Err())
		var all sync.WaitGroup
		for i := range 80 {
			all.Go(func() {
				v, err := l.Take(t.Context(), limit, fmt.Sprint("k", i%20), 1)
				if err != nil || v.Local {
					t.Errorf("%+v, %v", v, err)
				}
			})
		}
		all.Wait()
		for i := range 20 {
			equal(t, fmt.Sprint("used of k", i), held(t, l, limit, fmt.Sprint("k", i)).Used, 3)
		}
	})
}

// A server that looks like one and is several, behind a proxy, refuses commands
// with keys of several slots. It is asked for each key by itself.
func TestServersBehindOneAddress(t *testing.T) {
	t.Parallel()
	url, prefix := testenv.Redis(t)
	r := corner{url, prefix}.open(t)
	raw(r).AddHook(severalSlots{})
	world := newNumbers()
	c := world.cache(r)
	keys := []talk.Key{"room:a", "room:b", "room:c"}
	for i, key := range keys {
		world.set(key, i)
		equal(t, "loaded", get(t, c, key), i)
	}
	loads := world.loads.Load()
	values, err := c.GetAll(t.Context(), keys)
	check(t, err)
	if !maps.Equal(values, map[talk.Key]int{"room:a": 0, "room:b": 1, "room:c": 2}) {
		t.Errorf("read %v", values)
	}
	equal(t, "loads", world.loads.Load(), loads)

	l, limit := NewLimiter(r, nil), limitOf(3, time.Hour)
	var all sync.WaitGroup
	for i := range 60 {
		all.Go(func() {
			v, err := l.Take(t.Context(), limit, fmt.Sprint("k", i%20), 1)
			if err != nil || v.Local || !v.Allowed {
				t.Errorf("%+v, %v", v, err)
			}
		})
	}
	all.Wait()
}

// severalSlots is a hook of go-redis that answers as such a server does.
type severalSlots struct{}

type slotError string

func (e slotError) Error() string { return string(e) }
func (slotError) RedisError()     {}

func (severalSlots) DialHook(next redis.DialHook) redis.DialHook { return next }

func (severalSlots) refuses(cmd redis.Cmder) error {
	args := cmd.Args()
	if cmd.Name() == "mget" && len(args) > 2 || cmd.Name() == "evalsha" && args[2] != 1 {
		cmd.SetErr(slotError("CROSSSLOT Keys in request don't hash to the same slot"))
		return cmd.Err()
	}
	return nil
}

func (s severalSlots) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := s.refuses(cmd); err != nil {
			return err
		}
		return next(ctx, cmd)
	}
}

func (s severalSlots) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var asked []redis.Cmder
		for _, cmd := range cmds {
			if s.refuses(cmd) == nil {
				asked = append(asked, cmd)
			}
		}
		if len(asked) == 0 {
			return cmds[0].Err()
		}
		return next(ctx, asked)
	}
}

package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/server/talk"
)

func limitOf(places int, window time.Duration) talk.Limit {
	return talk.Limit{Policy: "api", Places: places, Window: window}
}

func failuresOf(places int, window time.Duration) talk.Limit {
	return talk.Limit{Policy: "auth", Places: places, Window: window, Failures: true}
}

func take(t testing.TB, l *Limiter, limit talk.Limit, key string, cost int) talk.Verdict {
	t.Helper()
	v, err := l.Take(t.Context(), limit, key, cost)
	if err != nil {
		t.Errorf("take: %v", err)
	}
	return v
}

func TestLimiter(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, where corner) {
		for name, test := range map[string]func(*testing.T, corner){
			"exactly its limit, with 64 callers on two nodes": exactly,
			"no window holds more than the limit":             everyWindow,
			"a verdict tells what is left and when":           verdicts,
			"a cost is taken whole or not at all":             costs,
			"nodes with other numbers count apart":            otherNumbers,
			"a hundred wrong at once are five tries":          hundredWrong,
			"two hundred right at once all pass":              twoHundredRight,
			"failures alone count":                            failuresCount,
			"a line that does not move is busy":               busyLine,
			"what is pending for too long counts":             pendingCounts,
			"what is pending among failures":                  pendingAmongFailures,
			"a wrong type is no way around":                   wrongType,
			"what is sent twice is done once":                 sentTwice,
		} {
			t.Run(name, func(t *testing.T) {
				where := where
				where.prefix += strings.ReplaceAll(name, " ", "_") + ":"
				test(t, where)
			})
		}
	})
}

func exactly(t *testing.T, where corner) {
	nodes := []*Limiter{NewLimiter(where.open(t), nil), NewLimiter(where.open(t), nil)}
	windows(t, nodes, 20)
}

// Resolution 6: exactly its limit with 64 callers on two nodes, 300 times.
func TestThreeHundredWindows(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	windows(t, []*Limiter{NewLimiter(where.open(t), nil), NewLimiter(where.open(t), nil)}, 300)
}

func windows(t *testing.T, nodes []*Limiter, rounds int) {
	t.Helper()
	limit := limitOf(5, time.Hour)
	for round := range rounds {
		var admitted atomic.Int64
		var all sync.WaitGroup
		for i := range 64 {
			all.Go(func() {
				if take(t, nodes[i%2], limit, fmt.Sprint("k", round), 1).Allowed {
					admitted.Add(1)
				}
			})
		}
		all.Wait()
		equal(t, fmt.Sprint("round ", round), admitted.Load(), 5)
	}
}

// everyWindow hammers a short window: no span of that length may hold more
// calls, from their beginning to their answer, than the limit.
func everyWindow(t *testing.T, where corner) {
	nodes := []*Limiter{NewLimiter(where.open(t), nil), NewLimiter(where.open(t), nil)}
	window := 300 * time.Millisecond
	limit := limitOf(10, window)
	ctx, cancel := context.WithTimeout(t.Context(), 8*window)
	defer cancel()
	var mu sync.Mutex
	var calls []span
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			for ctx.Err() == nil {
				began := time.Now()
				v := take(t, nodes[i%2], limit, "k", 1)
				if equal(t, "local", v.Local, false); v.Allowed {
					mu.Lock()
					calls = append(calls, span{began, time.Now()})
					mu.Unlock()
				}
				pass(t, time.Millisecond)
			}
		})
	}
	all.Wait()
	if len(calls) < 40 {
		t.Errorf("only %d admitted in 8 windows", len(calls))
	}
	for _, first := range calls {
		within := 0
		for _, c := range calls {
			if !c.began.Before(first.began) && c.ended.Sub(first.began) < window {
				within++
			}
		}
		if within > limit.Places {
			t.Errorf("%d admitted within a window", within)
		}
	}
}

// span is when a call was made.
type span struct{ began, ended time.Time }

func verdicts(t *testing.T, where corner) {
	l := NewLimiter(where.open(t), nil)
	limit := limitOf(3, time.Hour)
	for left := 2; left >= 0; left-- {
		v := take(t, l, limit, "k", 1)
		equal(t, "allowed", v.Allowed, true)
		equal(t, "left", v.Left, left)
		equal(t, "limit", v.Limit, limit)
		equal(t, "local", v.Local, false)
		around(t, "reset", v.Reset, time.Hour)
	}
	other := NewLimiter(where.open(t), nil) // knows it from Redis only
	for _, node := range []*Limiter{l, l, other, other} {
		v := take(t, node, limit, "k", 1)
		equal(t, "allowed", v.Allowed, false)
		equal(t, "left", v.Left, 0)
		around(t, "reset", v.Reset, time.Hour)
	}
}

func around(t testing.TB, what string, got, want time.Duration) {
	t.Helper()
	if got > want || got < want-10*time.Second {
		t.Errorf("%s: got %s, want %s", what, got, want)
	}
}

func costs(t *testing.T, where corner) {
	l := NewLimiter(where.open(t), nil)
	limit := limitOf(10, time.Hour)
	equal(t, "7 of 10", take(t, l, limit, "k", 7).Allowed, true)
	v := take(t, l, limit, "k", 4)
	equal(t, "4 of 3", v.Allowed, false)
	equal(t, "left", v.Left, 3)
	equal(t, "3 of 3", take(t, l, limit, "k", 3).Allowed, true)
	equal(t, "1 of 0", take(t, l, limit, "k", 1).Allowed, false)
	equal(t, "11 of 10", take(t, l, limit, "other", 11).Allowed, false)
	equal(t, "10 of 10", take(t, l, limit, "other", 10).Allowed, true)
}

func otherNumbers(t *testing.T, where corner) {
	a, b := NewLimiter(where.open(t), nil), NewLimiter(where.open(t), nil)
	few, lots, short := limitOf(2, time.Hour), limitOf(4, time.Hour), limitOf(2, time.Minute)
	for range 2 {
		equal(t, "few", take(t, a, few, "k", 1).Allowed, true)
		equal(t, "short", take(t, b, short, "k", 1).Allowed, true)
	}
	equal(t, "few", take(t, b, few, "k", 1).Allowed, false)
	for range 4 {
		equal(t, "lots", take(t, b, lots, "k", 1).Allowed, true)
	}
	equal(t, "lots", take(t, a, lots, "k", 1).Allowed, false)
}

// tries lets many attempt at once, on two nodes, and returns how many were
// let try, refused, and told that it is busy.
func tries(t *testing.T, nodes []*Limiter, limit talk.Limit, callers int, failed bool, takes time.Duration) (tried, refused, busy int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patient) // and so for their turns: the machine may be slow
	defer cancel()
	var tries, refusals, busies atomic.Int64
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			a, v, err := nodes[i%len(nodes)].Begin(ctx, limit, "k")
			switch {
			case errors.Is(err, talk.ErrBusy):
				busies.Add(1)
			case err != nil:
				t.Errorf("begin: %v", err)
			case !v.Allowed:
				refusals.Add(1)
				if v.Reset <= 0 {
					t.Errorf("refused for %s", v.Reset)
				}
			default:
				tries.Add(1)
				pass(t, takes)
				a.End(t.Context(), failed)
				a.End(t.Context(), !failed) // once is enough
			}
		})
	}
	all.Wait()
	return tries.Load(), refusals.Load(), busies.Load()
}

func hundredWrong(t *testing.T, where corner) {
	nodes := []*Limiter{NewLimiter(where.open(t), nil), NewLimiter(where.open(t), nil)}
	tried, refused, _ := tries(t, nodes, failuresOf(5, time.Hour), 100, true, 10*time.Millisecond)
	equal(t, "tries", tried, 5)
	equal(t, "refused", refused, 95)
}

func twoHundredRight(t *testing.T, where corner) {
	nodes := []*Limiter{NewLimiter(where.open(t), nil), NewLimiter(where.open(t), nil)}
	tried, _, _ := tries(t, nodes, failuresOf(5, time.Hour), 200, false, 5*time.Millisecond)
	equal(t, "passed", tried, 200)
}

func failuresCount(t *testing.T, where corner) {
	l := NewLimiter(where.open(t), nil)
	limit := failuresOf(3, time.Hour)
	for range 20 {
		tried, _, _ := tries(t, []*Limiter{l}, limit, 1, false, 0)
		equal(t, "right", tried, 1)
	}
	for left := range 3 {
		a, v, err := l.Begin(t.Context(), limit, "k")
		check(t, err)
		equal(t, "left", v.Left, 2-left)
		a.End(t.Context(), true)
	}
	for range 2 {
		_, v, err := l.Begin(t.Context(), limit, "k")
		check(t, err)
		equal(t, "allowed", v.Allowed, false)
		around(t, "reset", v.Reset, time.Hour)
	}
	_, v, err := l.Begin(t.Context(), limit, "another address")
	check(t, err)
	equal(t, "another address", v.Allowed, true)
}

func busyLine(t *testing.T, where corner) {
	nodes := []*Limiter{NewLimiter(where.open(t), nil), NewLimiter(where.open(t), nil)}
	limit := failuresOf(1, time.Hour)
	a, _, err := nodes[0].Begin(t.Context(), limit, "k")
	check(t, err)
	for _, node := range nodes {
		ctx, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond) // too short to wait at all
		_, _, err = node.Begin(ctx, limit, "k")
		cancel()
		if !errors.Is(err, talk.ErrBusy) {
			t.Errorf("got %v", err)
		}
	}
	began := time.Now()
	_, _, err = nodes[1].Begin(t.Context(), limit, "k")
	if took := time.Since(began); !errors.Is(err, talk.ErrBusy) || took < longestTurn || took > 2*longestTurn {
		t.Errorf("got %v after %s", err, took)
	}
	a.End(t.Context(), false)
	_, v, err := nodes[1].Begin(t.Context(), limit, "k")
	check(t, err)
	equal(t, "allowed", v.Allowed, true)
}

func pendingCounts(t *testing.T, where corner) {
	r := where.open(t)
	l := NewLimiter(r, nil)
	limit := failuresOf(1, time.Hour)
	// Another node began an attempt eleven seconds ago, and died.
	now, err := raw(r).Time(t.Context()).Result()
	check(t, err)
	began := fmt.Sprint(now.Add(-11 * time.Second).UnixMicro())
	check(t, raw(r).Do(t.Context(), "zadd", r.keys.limit(limit, "k"), began, "p:dead-1").Err())
	_, v, err := l.Begin(t.Context(), limit, "k")
	check(t, err)
	equal(t, "allowed", v.Allowed, false)
	around(t, "reset", v.Reset, time.Hour-11*time.Second)
	// It was only slow, and succeeds.
	check(t, raw(r).Do(t.Context(), "zrem", r.keys.limit(limit, "k"), "p:dead-1").Err())
	_, v, err = l.Begin(t.Context(), limit, "k")
	check(t, err)
	equal(t, "allowed once it has succeeded", v.Allowed, true)
}

// What is pending among failures holds back neither the refusal nor its end.
func pendingAmongFailures(t *testing.T, where corner) {
	r := where.open(t)
	limit := failuresOf(2, time.Hour)
	now, err := raw(r).Time(t.Context()).Result()
	check(t, err)
	ago := func(d time.Duration) int64 { return now.Add(-d).UnixMicro() }
	for name, test := range map[string]struct {
		members []any
		reset   time.Duration
		again   bool // is asked again, and not remembered
	}{
		"failures alone":                {[]any{ago(30 * time.Minute), "f:1", ago(20 * time.Minute), "f:2"}, 30 * time.Minute, false},
		"one that is late before them":  {[]any{ago(40 * time.Minute), "p:1", ago(30 * time.Minute), "f:2", ago(20 * time.Minute), "f:3"}, 30 * time.Minute, false},
		"one that is late between them": {[]any{ago(30 * time.Minute), "f:1", ago(25 * time.Minute), "p:2", ago(20 * time.Minute), "f:3"}, 30 * time.Minute, false},
		"one that is late with one":     {[]any{ago(30 * time.Minute), "f:1", ago(20 * time.Minute), "p:2"}, 30 * time.Minute, true},
		"one that is new beside two":    {[]any{ago(30 * time.Minute), "p:1", ago(20 * time.Minute), "f:2", ago(0), "p:3"}, 30 * time.Minute, true},
	} {
		l, key := NewLimiter(r, nil), r.keys.limit(limit, name)
		check(t, raw(r).Do(t.Context(), append([]any{"zadd", key}, test.members...)...).Err())
		_, v, err := l.Begin(t.Context(), limit, name)
		check(t, err)
		equal(t, name+": allowed", v.Allowed, false)
		around(t, name, v.Reset, test.reset)
		check(t, raw(r).Del(t.Context(), key).Err())
		_, v, err = l.Begin(t.Context(), limit, name)
		check(t, err)
		equal(t, name+": asked again", v.Allowed, test.again)
	}
}

func wrongType(t *testing.T, where corner) {
	r := where.open(t)
	l := NewLimiter(r, nil)
	limit, failures := limitOf(1, time.Hour), failuresOf(1, time.Hour)
	for _, key := range []string{r.keys.limit(limit, "k"), r.keys.limit(failures, "k")} {
		check(t, raw(r).Set(t.Context(), key, "x", time.Hour).Err())
	}
	v := take(t, l, limit, "k", 1)
	equal(t, "allowed", v.Allowed, true)
	equal(t, "local", v.Local, false)
	equal(t, "allowed", take(t, l, limit, "k", 1).Allowed, false)
	tried, refused, _ := tries(t, []*Limiter{l}, failures, 5, true, 0)
	equal(t, "tried", tried, 1)
	equal(t, "refused", refused, 4)
}

// A log that the call has filled itself does not refuse it.
func sentTwice(t *testing.T, where corner) {
	r := where.open(t)
	l := NewLimiter(r, nil)
	for _, cost := range []int{1, 2, 3} { // of 3: the log has room for all of it again, for a part, and for nothing
		limit, id := limitOf(3, time.Hour), fmt.Sprint(cost)
		begin := &beginning{Limiter: l, limit: failuresOf(cost, time.Hour), name: r.keys.limit(failuresOf(cost, time.Hour), id)}
		take := &taking{Limiter: l, shape: l.shape(limit), limit: limit, name: r.keys.limit(limit, id), cost: cost, now: time.Now()}
		for range 3 {
			equal(t, "taken, left", twoOf(t, r, take.call(known{})), [2]int64{1, 3 - int64(cost)})
			equal(t, "begun, left", twoOf(t, r, begin.call(known{}, time.Now())), [2]int64{1, int64(cost) - 1})
		}
		equal(t, "places", raw(r).ZCard(t.Context(), take.name).Val(), int64(cost))
		equal(t, "attempts", raw(r).ZCard(t.Context(), begin.name).Val(), 1)
	}
}

// twoOf is what the first two numbers of an answer are.
func twoOf(t *testing.T, r *Redis, c *call) [2]int64 {
	t.Helper()
	check(t, r.limiter.do(t.Context(), c))
	reply, err := c.ints()
	check(t, err)
	return [2]int64(reply)
}

// The process stands still once Redis has done what it was asked, and so asks again.
func TestACallerWhoWasFrozenHasThePlaceThatItTook(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	limit, failures := limitOf(2, time.Hour), failuresOf(1, time.Hour)
	timeout := 200 * time.Millisecond
	l := NewLimiter(where.open(t, func(c *Config) { c.Timeout = timeout }), nil)
	raw(l.redis).AddHook(&standstill{of: scriptTake, lasts: (sleptFor + 1) * timeout})
	raw(l.redis).AddHook(&standstill{of: scriptBegin, lasts: (sleptFor + 1) * timeout})
	v := take(t, l, limit, "k", 2)
	equal(t, "taken", v.Allowed, true)
	equal(t, "local", v.Local, false)
	a, v, err := l.Begin(t.Context(), failures, "k")
	check(t, err)
	equal(t, "begun", v.Allowed, true)
	equal(t, "local", v.Local, false)
	a.End(t.Context(), false)
	_, v, err = l.Begin(t.Context(), failures, "k")
	check(t, err)
	equal(t, "begun once it has ended", v.Allowed, true)
}

// standstill is a hook of go-redis after which nothing goes on: the first answer
// to a script comes too late.
type standstill struct {
	of    *script
	lasts time.Duration
	once  sync.Once
}

func (*standstill) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *standstill) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil && slices.Contains([]any{s.of.digest, s.of.source}, cmd.Args()[1]) {
			s.once.Do(func() {
				<-time.After(s.lasts)
				err = context.DeadlineExceeded
			})
		}
		return err
	}
}

func (*standstill) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

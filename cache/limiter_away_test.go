package cache

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/server/talk"
)

func two() int { return 2 }

func admitted(t *testing.T, l *Limiter, limit talk.Limit, calls int) (n int, local bool) {
	t.Helper()
	for range calls {
		if v := take(t, l, limit, "k", 1); v.Allowed {
			n, local = n+1, v.Local
		}
	}
	return n, local
}

func TestLimiterAlone(t *testing.T) {
	t.Parallel()
	server, where := own(t)
	a, b := NewLimiter(where.open(t, quick), two), NewLimiter(where.open(t, quick), two)
	server.Kill()
	limit := limitOf(10, time.Hour)
	for _, node := range []*Limiter{a, b} {
		n, local := admitted(t, node, limit, 100)
		equal(t, "admitted by a node", n, 5)
		equal(t, "local", local, true)
	}
	n, _ := admitted(t, a, talk.Limit{Policy: "strict", Places: 1, Window: time.Hour}, 10)
	equal(t, "of one", n, 1)
	tried, refused, _ := tries(t, []*Limiter{a}, failuresOf(4, time.Hour), 50, true, time.Millisecond)
	equal(t, "tries", tried, 2)
	equal(t, "refused", refused, 48)
	passed, _, _ := tries(t, []*Limiter{b}, failuresOf(4, time.Hour), 100, false, time.Millisecond)
	equal(t, "passed", passed, 100)

	// Back, and empty: what they admitted alone they tell, and it counts.
	server.Restart()
	for _, node := range []*Limiter{a, b} {
		await(t, "redis", func() bool {
			return !take(t, node, limitOf(1, time.Hour), "probe", 1).Local && !node.redis.limiter.breaker.open()
		})
	}
	n, _ = admitted(t, a, limit, 100)
	if n > 5 {
		t.Errorf("%d more on the node that had 5", n)
	}
}

// Checklist 15: FLUSHALL between failures, and the node's own count still holds.
func TestLimiterFlushed(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	a, b := NewLimiter(where.open(t), nil), NewLimiter(where.open(t), nil)
	limit, failures := limitOf(5, time.Hour), failuresOf(5, time.Hour)
	for want := range 5 {
		v := take(t, a, limit, "k", 1)
		equal(t, "allowed", v.Allowed, true)
		equal(t, "left", v.Left, 4-want)
		tried, _, _ := tries(t, []*Limiter{a}, failures, 1, true, 0)
		equal(t, "tried", tried, 1)
		check(t, raw(a.redis).FlushAll(t.Context()).Err())
	}
	equal(t, "the sixth", take(t, a, limit, "k", 1).Allowed, false)
	_, refused, _ := tries(t, []*Limiter{a}, failures, 1, true, 0)
	equal(t, "the sixth failure", refused, 1)

	// And a node tells again what Redis lost, so that the others count it too.
	key := "another"
	for range 3 {
		_, err := a.Take(t.Context(), limit, key, 1)
		check(t, err)
	}
	check(t, raw(a.redis).FlushAll(t.Context()).Err())
	for range 2 {
		equal(t, "the node's own", take(t, a, limit, key, 1).Allowed, true)
	}
	equal(t, "another node's", take(t, b, limit, key, 1).Allowed, false)
}

func TestAnEndThatRedisDidNotHearIsToldLater(t *testing.T) {
	t.Parallel()
	server, where := own(t)
	r := where.open(t, quick)
	l := NewLimiter(r, nil)
	limit := failuresOf(1, time.Hour)
	a, _, err := l.Begin(t.Context(), limit, "k")
	check(t, err)
	server.Stop()
	a.End(t.Context(), false)
	server.Cont()
	await(t, "redis to hear of it", func() bool {
		l.sayAgain(t.Context())
		return raw(r).Exists(t.Context(), r.keys.limit(limit, "k")).Val() == 0
	})
}

// The heartbeat does not wait until all is told: Redis would not be used meanwhile.
func TestWhatIsToldLaterHoldsUpNoHeartbeat(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	r := where.idle(t)
	l := NewLimiter(r, nil)
	limit := failuresOf(1, time.Hour)
	for id := range uint64(5000) {
		a := &attempt{Limiter: l, limit: limit, name: r.keys.limit(limit, fmt.Sprint(id%10)), id: id}
		l.unsaid.add(unsaidEnd{a, true, time.Now()})
	}
	raw(r).AddHook(distant{time.Millisecond})
	began := time.Now()
	watch(t, r)
	await(t, "redis to be used", r.Usable)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("used after %s", took)
	}
	await(t, "all to be told", func() bool { return len(l.unsaid.first()) == 0 })
	for key := range 10 {
		equal(t, fmt.Sprint("failures of ", key), raw(r).ZCard(t.Context(), r.keys.limit(limit, fmt.Sprint(key))).Val(), 500)
	}
}

// distant is a hook of go-redis that makes each trip take longer.
type distant struct{ by time.Duration }

func (distant) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d distant) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		<-time.After(d.by)
		return next(ctx, cmd)
	}
}

func (d distant) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		<-time.After(d.by)
		return next(ctx, cmds)
	}
}

// Whoever has ended tells nothing any more, and loses nothing.
func TestWhatIsToldLaterEndsWithTheNode(t *testing.T) {
	t.Parallel()
	r := embedded(t).idle(t)
	l := NewLimiter(r, nil)
	limit := failuresOf(1, time.Hour)
	for id := range uint64(2 * mostCalls) {
		l.unsaid.add(unsaidEnd{&attempt{Limiter: l, limit: limit, name: r.keys.limit(limit, "k"), id: id}, false, time.Now()})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	l.sayAgain(ended)
	equal(t, "left by who has ended", len(l.unsaid.ends), 2*mostCalls)
	l.sayAgain(t.Context())
	equal(t, "left", len(l.unsaid.ends), 0)
}

// Redis is told when it failed, and not only that: also where it stood still and
// then does what nobody waits for any more.
func TestAFailureThatIsToldLateIsAsOldAsItIs(t *testing.T) {
	t.Parallel()
	server, where := own(t)
	r := where.open(t, quick)
	l := NewLimiter(r, nil)
	limit := failuresOf(2, time.Hour)
	a, _, err := l.Begin(t.Context(), limit, "k")
	check(t, err)
	server.Stop()
	failed := time.Now()
	a.End(t.Context(), true)
	pass(t, 3*time.Second)
	server.Cont()
	await(t, "all to be told", func() bool {
		l.sayAgain(t.Context())
		l.unsaid.mu.Lock()
		defer l.unsaid.mu.Unlock()
		return len(l.unsaid.ends) == 0
	})
	places, err := raw(r).ZRangeWithScores(t.Context(), r.keys.limit(limit, "k"), 0, -1).Result()
	check(t, err)
	equal(t, "places", len(places), 1)
	if late := time.UnixMicro(int64(places[0].Score)).Sub(failed); late.Abs() > time.Second { // two clocks
		t.Errorf("counts from %s after it failed", late)
	}
}

// Its memory is full, and it takes no more entries: what counts still does, and
// what it has lost is told to it again.
func TestALimitCountsInAFullRedis(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	a, b := NewLimiter(where.open(t), nil), NewLimiter(where.open(t), nil)
	limit, failures := limitOf(3, time.Hour), failuresOf(3, time.Hour)
	take(t, a, limit, "k", 1)
	fail(t, a, failures, "k")
	for option, value := range map[string]string{"maxmemory-policy": "noeviction", "maxmemory": "1"} {
		check(t, raw(a.redis).ConfigSet(t.Context(), option, value).Err())
	}
	for left := 1; left >= 0; left-- {
		a.redis.trust.raise()
		v := take(t, a, limit, "k", 1)
		equal(t, "local", v.Local, false)
		equal(t, "left", v.Left, left)
		attempt, v, err := a.Begin(t.Context(), failures, "k")
		check(t, err)
		equal(t, "failures: local", v.Local, false)
		equal(t, "failures: left", v.Left, left)
		attempt.End(t.Context(), true)
	}
	equal(t, "another node's", take(t, b, limit, "k", 1).Allowed, false)
	_, v, err := b.Begin(t.Context(), failures, "k")
	check(t, err)
	equal(t, "another node's failures", v.Allowed, false)
	check(t, b.Reset(t.Context(), failures, "k"))
	await(t, "the reset", func() bool { return held(t, a, failures, "k") == talk.Holding{} })
}

func TestALedgerIsBounded(t *testing.T) {
	t.Parallel()
	l := newLedger()
	now := time.Now()
	for i := range 2 * mostAccounts {
		a := l.account(seconds(time.Duration(i)*time.Second), time.Hour, now)
		l.add(a, now, place{id: uint64(i), cost: 1})
	}
	if n := len(l.accounts); n > mostAccounts {
		t.Errorf("%d accounts", n)
	}
	equal(t, "order", l.order.Len(), len(l.accounts))
	equal(t, "places", l.places, len(l.accounts))
	later := now.Add(2 * time.Hour)
	for i := range mostAccounts / 8 {
		l.account(seconds(time.Duration(-i)*time.Second), time.Hour, later)
	}
	if n := len(l.accounts); n > mostAccounts/8+2*evictSteps {
		t.Errorf("%d accounts after all expired", n)
	}
	equal(t, "places", l.places, 0)
}

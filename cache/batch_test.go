package cache

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/server/talk"
)

// gate is a hook of go-redis that counts round trips and holds them until it
// is opened.
type gate struct {
	trips atomic.Int64
	open  chan struct{}
	fail  error
	fails int64 // how many trips fail, where not all do

	frozen time.Duration // before they fail
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (g *gate) pass(cmds []redis.Cmder, next func() error) error {
	if name := cmds[0].Name(); name != "set" && name != "info" {
		return next() // of a new connection
	}
	trip := g.trips.Add(1)
	<-g.open
	if g.fail == nil || g.fails > 0 && trip > g.fails {
		return next()
	}
	<-time.After(g.frozen)
	for _, c := range cmds {
		c.SetErr(g.fail)
	}
	return g.fail
}

func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return g.pass([]redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return g.pass(cmds, func() error { return next(ctx, cmds) })
	}
}

// crowd sends n calls through a gate, all but one while the first is there, opens
// it when they wait in the queue, and returns how many failed.
func crowd(t *testing.T, r *Redis, g *gate, n int) (failed int64) {
	t.Helper()
	raw(r).AddHook(g)
	var away atomic.Int64
	var all sync.WaitGroup
	for i := range n {
		if i == 1 {
			await(t, "the first trip", func() bool { return g.trips.Load() == 1 })
		}
		all.Go(func() {
			c := command("set", r.keys.prefix+"k", i, "px", 60_000)
			if err := r.limiter.do(t.Context(), c); errors.Is(err, errAway) {
				away.Add(1)
			} else if err != nil || c.reply.Val() != "OK" {
				t.Errorf("got %v, %v", c.reply.Val(), err)
			}
		})
	}
	await(t, "the queue", func() bool {
		r.limiter.mu.Lock()
		defer r.limiter.mu.Unlock()
		return len(r.limiter.queue) == n-1
	})
	close(g.open)
	all.Wait()
	return away.Load()
}

func TestCallsShareTrips(t *testing.T) {
	t.Parallel()
	r := embedded(t).idle(t)
	g := &gate{open: make(chan struct{})}
	equal(t, "failed", crowd(t, r, g, 1+mostCalls), 0)
	equal(t, "trips", g.trips.Load(), 2)
	equal(t, "led", r.limiter.led, false)
}

// Who queued behind a call that Redis did not answer does not try for itself.
func TestOneTimeOutForAll(t *testing.T) {
	t.Parallel()
	r := embedded(t).idle(t)
	g := &gate{open: make(chan struct{}), fail: errors.New("no route")}
	equal(t, "failed", crowd(t, r, g, 500), 500)
	if n := g.trips.Load(); n > 1 {
		t.Errorf("%d trips", n)
	}
	equal(t, "led", r.limiter.led, false)
}

// Who queued behind a call that failed since the process stood still has lost
// nothing, and goes next: Redis is there.
func TestWhoQueuedInAFrozenProcessGoesNext(t *testing.T) {
	t.Parallel()
	r := embedded(t).idle(t, func(c *Config) { c.Timeout = 200 * time.Millisecond })
	g := &gate{open: make(chan struct{}), fail: errors.New("its deadline is over"), fails: 1, frozen: (sleptFor + 1) * 200 * time.Millisecond}
	equal(t, "failed", crowd(t, r, g, 100), 1)
	equal(t, "trips", g.trips.Load(), 2)
}

// L1: the heartbeat of a process that stood still does not have it count alone.
func TestL1_a_process_that_stood_still_asks_redis(t *testing.T) {
	t.Parallel()
	for name, frozen := range map[string]time.Duration{"frozen": (sleptFor + 1) * defaultTimeout, "Redis away": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := embedded(t).idle(t, quick)
			g := &gate{open: make(chan struct{}), fail: errors.New("its deadline is over"), fails: 1, frozen: frozen}
			close(g.open)
			raw(r).AddHook(g)
			r.beat(t.Context())
			equal(t, "heartbeats", g.trips.Load(), 1)
			equal(t, "counts alone", r.limiter.breaker.open(), name == "Redis away")
			await(t, "a heartbeat that is answered", func() bool { // on a starving machine one may be lost to the time-out
				r.beat(t.Context())
				return !r.limiter.breaker.open()
			})
		})
	}
}

// A call that has lost one time-out to a Redis that is silent asks it nothing
// more, in no role; others find out by themselves.
func TestACallLosesOneTimeOut(t *testing.T) {
	t.Parallel()
	server, where := own(t)
	r := where.idle(t)
	one, other := context.WithValue(t.Context(), talk.LossesKey{}, &talk.Losses{}), context.WithValue(t.Context(), talk.LossesKey{}, &talk.Losses{})
	check(t, r.limiter.do(one, command("ping")))
	server.Stop()
	if err := r.limiter.do(one, command("ping")); !errors.Is(err, errAway) {
		t.Errorf("the limiter: %v", err)
	}
	equal(t, "the limiter: asked", r.limiter.breaker.failed, 1)
	for name, role := range map[string]*batcher{"cache": r.cache, "bus": r.bus, "presence": r.presence} {
		if err := role.do(one, command("ping")); !errors.Is(err, errAway) {
			t.Errorf("%s: %v", name, err)
		}
		equal(t, name+": asked", role.breaker.failed, 0)
	}
	if err := r.cache.do(other, command("ping")); !errors.Is(err, errAway) {
		t.Errorf("another call: %v", err)
	}
	equal(t, "asked by another call", r.cache.breaker.failed, 1)
}

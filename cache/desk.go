package cache

import (
	"context"
	"sync"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

var _ talk.LimitDesk = (*Limiter)(nil)

// resetsKept is for how long nodes hear of a reset, those too that Redis was
// away from.
const resetsKept = time.Hour

// Held tells how much of a limit a key has used, and takes none of it. Where
// Redis is away it is what this node admitted, and says so.
func (l *Limiter) Held(ctx context.Context, limit talk.Limit, key string) (talk.Holding, error) {
	if err := ctx.Err(); err != nil {
		return talk.Holding{}, context.Cause(ctx)
	}
	name := l.redis.keys.limit(limit, key)
	own := l.ledger.peek(name, limit, time.Now())
	waits := time.Duration(0)
	if limit.Failures {
		waits = patience
	}
	c := scriptPeek.run(name, limit.Window.Microseconds(), limit.Places, waits.Microseconds())
	err := l.redis.limiter.do(ctx, c)
	reply, bad := c.ints()
	if err != nil || bad != nil || len(reply) != 2 {
		own.Local = !isWrongType(c.err()) // that the next call takes away
		return own, nil                   //nolint:nilerr // the holding says so
	}
	return talk.Holding{Used: max(own.Used, int(reply[0])), Wait: max(own.Wait, micros(reply[1]))}, nil
}

// Reset forgets what a key has used of a limit: here and in Redis at once, on
// the other nodes with their next heartbeat. It returns ErrBusy where Redis is
// away, since then the others cannot be told.
func (l *Limiter) Reset(ctx context.Context, limit talk.Limit, key string) error {
	name := l.redis.keys.limit(limit, key)
	if err := l.redis.limiter.do(ctx, scriptReset.run(l.redis.keys.resets(), name, resetsKept.Microseconds())); err != nil {
		return talk.ErrBusy.Because(err)
	}
	if err := l.drop(ctx, name); err != nil {
		return talk.ErrBusy.Because(err)
	}
	return nil
}

// drop forgets a log here, and then in Redis: in this order, since a node that
// still has places Redis does not know tells it of them. Each node does both,
// so the last one to hear of a reset takes away what others may have told.
func (l *Limiter) drop(ctx context.Context, name string) error {
	l.ledger.forget(name)
	return l.redis.limiter.do(ctx, command("unlink", name))
}

// resets is where a node stands in the list of resets.
type resets struct {
	mu    sync.Mutex
	begun bool
	last  string // when the last one was that it heard of, in µs
}

// hearResets drops what was reset since it last looked, at first since the node
// began to count.
func (l *Limiter) hearResets(ctx context.Context) {
	r := &l.resets
	r.mu.Lock()
	defer r.mu.Unlock()
	after := "-1"
	if r.begun {
		after = r.last
	}
	c := scriptResets.run(l.redis.keys.resets(), after, time.Since(l.began).Microseconds())
	if l.redis.limiter.do(ctx, c) != nil {
		return // it stays where it is, and hears of all later
	}
	heard, err := c.reply.StringSlice()
	if err != nil || len(heard) == 0 {
		return
	}
	for _, name := range heard[1:] {
		if l.drop(ctx, name) != nil {
			return
		}
	}
	r.begun, r.last = true, heard[0]
}

// peek is what the log of this node says about a key that it may never have
// heard of.
func (l *ledger) peek(name string, limit talk.Limit, now time.Time) (h talk.Holding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.accounts[name]
	if !ok {
		return h
	}
	l.prune(a, now)
	h.Used = a.held
	if limit.Failures {
		h.Used, _ = a.counted(now)
	}
	if wait, refused := a.remembered(1, now); refused {
		h.Wait = wait
	} else if over := h.Used - limit.Places + 1; over > 0 {
		h.Wait = a.free(over, now)
	}
	return h
}

// forget empties the log of a key. Attempts that are pending stay: they have
// not failed.
func (l *ledger) forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, ok := l.accounts[name]
	if !ok {
		return
	}
	l.places -= len(a.log)
	a.log, a.held, a.refused = nil, 0, time.Time{}
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

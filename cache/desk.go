package cache

import (
	"cmp"
	"context"
	"strconv"
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
// away or refuses it, since then the others are not told.
func (l *Limiter) Reset(ctx context.Context, limit talk.Limit, key string) error {
	name := l.redis.keys.limit(limit, key)
	if err := l.surely(ctx, scriptReset.run(l.redis.keys.resets(), name, resetsKept.Microseconds())); err != nil {
		return talk.ErrBusy.Because(err)
	}
	if err := l.drop(ctx, name, l.surely); err != nil {
		return talk.ErrBusy.Because(err)
	}
	return nil
}

// surely insists on calls, and fails also where Redis refuses one.
func (l *Limiter) surely(ctx context.Context, calls ...*call) error {
	err := l.redis.limiter.insist(ctx, calls...)
	for _, c := range calls {
		err = cmp.Or(err, c.err())
	}
	return err
}

// drop forgets a log here, and then in Redis: in this order, since a node that
// still has places Redis does not know tells it of them. Each node does both,
// so the last one to hear of a reset takes away what others may have told.
func (l *Limiter) drop(ctx context.Context, name string, send func(context.Context, ...*call) error) error {
	l.unsaid.forget(name)
	l.ledger.forget(name)
	return send(ctx, command("unlink", name))
}

// resets is where a node stands in the list of resets.
type resets struct {
	mu   sync.Mutex
	last int64 // by Redis's clock, µs: it has heard of what was reset until then; 0 where it has not looked yet
}

// hearResets drops what was reset since it last looked, at first since the node
// began to count. Where Redis is away it stays where it is, and hears of all
// later.
func (l *Limiter) hearResets(ctx context.Context) {
	r := &l.resets
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.last == 0 {
		now, _, err := l.resetsAfter(ctx, -1)
		if err != nil {
			return
		}
		r.last = max(1, now-time.Since(l.began).Microseconds()) // since the answer came: rather too early than too late
	}
	last, names, err := l.resetsAfter(ctx, r.last)
	if err != nil {
		return
	}
	for _, name := range names {
		if l.drop(ctx, name, l.redis.limiter.do) != nil {
			return
		}
	}
	r.last = last
}

func (l *Limiter) resetsAfter(ctx context.Context, after int64) (last int64, names []string, err error) {
	c := scriptResets.run(l.redis.keys.resets(), after)
	if err := l.redis.limiter.do(ctx, c); err != nil {
		return 0, nil, err
	}
	heard, err := c.reply.StringSlice()
	if err != nil {
		return 0, nil, err
	}
	if len(heard) == 0 {
		return 0, nil, errMalformed
	}
	last, err = strconv.ParseInt(heard[0], 10, 64)
	return last, heard[1:], err
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
	a.log, a.held, a.untold, a.refused = nil, 0, 0, time.Time{}
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

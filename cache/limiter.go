package cache

import (
	"context"
	"crypto/rand"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// Limiter counts calls against limits, over all nodes, as exact sliding logs
// on Redis's clock. What this node admitted itself it also counts by itself,
// and the stricter decides, so that nobody gains by what Redis loses. It
// implements [talk.Limiter].
type Limiter struct {
	redis  *Redis
	nodes  func() int
	ledger *ledger
	node   string // makes ids of reservations that no other node makes
	last   atomic.Uint64
	unsaid *unsaid
	resets resets
	began  time.Time
	shapes atomic.Pointer[[]*shape]
}

var _ talk.Limiter = (*Limiter)(nil)

// NewLimiter returns a Limiter that counts in r. Where r is away, each node
// admits its share: the limit over what nodes returns, and at least one. Nil
// nodes means that there is one.
func NewLimiter(r *Redis, nodes func() int) *Limiter {
	if nodes == nil {
		nodes = func() int { return 1 }
	}
	l := &Limiter{redis: r, nodes: nodes, ledger: newLedger(), node: rand.Text()[:12] + "-", unsaid: &unsaid{}, began: time.Now()}
	r.chore(l.sayAgain)
	r.chore(l.hearResets)
	return l
}

// How a decision was reached.
const (
	modeRedis  mode = iota
	modeMemory      // by what this node knows, without a trip
	modeLocal       // Redis is away
	modes
)

type mode int

var (
	modeNames   = [modes]string{"redis", "memory", "local"}
	resultNames = [2]string{"refused", "allowed"}
)

// share is how many places this node gives while it counts alone.
func (l *Limiter) share(limit talk.Limit) int {
	return max(1, limit.Places/max(1, l.nodes()))
}

// Take takes cost places at once, or none. Less than one counts as one; more
// than there are is refused. An error is the end of ctx.
func (l *Limiter) Take(ctx context.Context, limit talk.Limit, key string, cost int) (talk.Verdict, error) {
	if err := ctx.Err(); err != nil {
		return talk.Verdict{}, context.Cause(ctx)
	}
	shape := l.shape(limit)
	t := &taking{Limiter: l, shape: shape, limit: limit, name: shape.upTo + key + "}", cost: max(1, cost), now: time.Now(), id: l.last.Add(1)}
	verdict, mode := t.decide(ctx)
	l.count(ctx, shape, verdict.Allowed, mode)
	return verdict, nil
}

func (l *Limiter) count(ctx context.Context, s *shape, allowed bool, m mode) {
	result := 0
	if allowed {
		result = 1
	}
	known := &s.counts[result][m]
	c := known.Load()
	if c == nil {
		c = l.redis.metrics.decided(s.limit.Policy, resultNames[result], modeNames[m])
		known.Store(c)
	}
	c.count(ctx)
}

// taking is one call that takes places.
type taking struct {
	*Limiter

	shape *shape
	limit talk.Limit
	name  string
	cost  int
	now   time.Time // when it was sent: never later than Redis's, so that nothing is held for longer here
	id    uint64

	account *account // of this node, as it was consulted
}

func (t *taking) decide(ctx context.Context) (talk.Verdict, mode) {
	if t.cost > t.limit.Places {
		return talk.Verdict{Limit: t.limit, Reset: t.limit.Window}, modeMemory
	}
	k, verdict := t.consult()
	if !verdict.Allowed {
		return verdict, modeMemory
	}
	c := t.call(k)
	err := t.redis.limiter.do(ctx, c)
	switch {
	case err == nil && c.numbers != nil && c.numbers[0] < 0: // it holds something else
		if err = t.redis.limiter.do(ctx, command("unlink", t.name)); err == nil {
			err = t.redis.limiter.do(ctx, c) // in a trip of its own: it may go with others, before what goes with it
		}
	case err != nil && slept(t.now, t.redis.config.Timeout): // a node that was frozen is no reason to count alone
		err = t.redis.limiter.do(ctx, c)
	}
	reply, bad := c.ints()
	if err != nil || bad != nil || len(reply) != 3 || reply[0] < 0 {
		return t.alone(), modeLocal
	}
	return t.settle(reply[0] == 1, int(reply[1]), micros(reply[2]), k), modeRedis
}

// consult asks the log of this node.
func (t *taking) consult() (known, talk.Verdict) {
	l := t.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	t.account = l.account(t.name, t.limit.Window, t.now)
	return t.account.known(t.redis.trust.number()), t.account.verdict(t.limit, t.limit.Places, t.cost, t.now)
}

func (t *taking) call(k known) *call {
	args := make([]any, 6, 6+2*len(k.lost))
	args[0], args[1], args[2] = t.shape.window, t.shape.places, t.shape.ttls[t.id%uint64(len(t.shape.ttls))]
	args[3], args[4] = t.cost, t.member(t.id)
	for _, p := range k.lost {
		for i := range p.cost {
			args = append(args, t.member(p.id)+":"+strconv.Itoa(i+1), p.at.age(t.now).Microseconds())
		}
	}
	args[5] = (len(args) - 6) / 2
	return scriptTake.run(t.name, args...)
}

// settle notes what Redis decided. It may have lost what it knew: then the
// log of this node still refuses.
func (t *taking) settle(taken bool, left int, wait time.Duration, k known) talk.Verdict {
	l := t.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.again(t.account, t.now)
	a.told(k)
	if !taken {
		a.refuse(t.cost, left, t.now.Add(wait), t.now)
		return talk.Verdict{Limit: t.limit, Left: left, Reset: wait}
	}
	v := a.fits(t.limit, t.limit.Places, t.cost, t.now) // whoever was refused meanwhile came later
	if !v.Allowed {
		return v
	}
	l.add(a, t.now, place{id: t.id, cost: t.cost, told: true})
	a.compare(t.limit.Places-left, k.held+t.cost)
	v.Left, v.Reset = min(left, v.Left-t.cost), wait
	return v
}

// alone decides without Redis, by this node's share.
func (t *taking) alone() talk.Verdict {
	l := t.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now() // a time-out may have passed
	a := l.again(t.account, now)
	places := t.share(t.limit)
	cost := min(t.cost, places)
	v := a.verdict(t.limit, places, cost, now)
	v.Local = true
	if v.Allowed {
		l.add(a, now, place{id: t.id, cost: cost})
		v.Left, v.Reset = places-a.held, a.free(1, now)
	}
	return v
}

// shape is what the decisions of one limit have in common, made once. There are
// as many as there are policies.
type shape struct {
	limit          talk.Limit
	upTo           string // the name of its logs, up to the key
	window, places any
	ttls           [8]any // varied
	counts         [2][modes]atomic.Pointer[count]
}

func (l *Limiter) shape(limit talk.Limit) *shape {
	for {
		known := l.shapes.Load()
		if known != nil {
			for _, s := range *known {
				if s.limit == limit {
					return s
				}
			}
		}
		s := &shape{limit: limit, upTo: l.redis.keys.limitUpTo(limit), window: limit.Window.Microseconds(), places: limit.Places}
		for i := range s.ttls {
			s.ttls[i] = ttl(limit.Window)
		}
		var all []*shape
		if known != nil {
			all = slices.Clone(*known)
		}
		if len(all) >= mostShapes {
			return s // somebody makes them up
		}
		all = append(all, s)
		if l.shapes.CompareAndSwap(known, &all) {
			return s
		}
	}
}

const mostShapes = 64

func (l *Limiter) member(id uint64) string {
	name := make([]byte, 0, 32)
	return string(strconv.AppendUint(append(name, l.node...), id, 36))
}

// ttl is how long a log outlives its last place, in ms: longer than the
// window, never shorter, and not all at the same moment.
func ttl(window time.Duration) int64 {
	return (window + jitter(window/10) + time.Second).Milliseconds()
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }

package cache

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

const (
	longestTurn = 4 * time.Second       // in the line of a limit that is full of pending attempts, for calls without a deadline
	firstPoll   = 5 * time.Millisecond  // of another node's attempts
	longestPoll = 25 * time.Millisecond // likewise; those of this node wake the line themselves
)

// waiter is a caller in the line of an account.
type waiter struct {
	turn chan struct{} // closed when it is first
}

// Begin takes a place that is only pending, for a limit that counts failures;
// see [talk.Limiter]. Within a node callers get their places in the order in
// which they came. Where it is refused, or returns an error, the attempt does
// nothing.
func (l *Limiter) Begin(ctx context.Context, limit talk.Limit, key string) (talk.Attempt, talk.Verdict, error) {
	shape := l.shape(limit)
	b := &beginning{Limiter: l, limit: limit, name: shape.upTo + key + "}"}
	waits, ok := talk.Patience(ctx)
	if !ok {
		waits = longestTurn
	}
	bounded, cancel := context.WithTimeoutCause(ctx, waits, talk.ErrBusy)
	defer cancel()
	w := b.enter()
	defer b.leave(w)
	select {
	case <-w.turn:
	case <-bounded.Done():
		return l.busy(bounded, limit)
	}
	for poll := firstPoll; ; poll = min(2*poll, longestPoll) {
		v, state, mode := b.try(bounded)
		switch state {
		case begun:
			l.count(ctx, shape, v.Allowed, mode)
			return &attempt{Limiter: l, limit: limit, name: b.name, id: b.id}, v, nil
		case refused:
			l.count(ctx, shape, v.Allowed, mode)
			return ended{}, v, nil
		}
		if !b.wait(bounded, poll) {
			return l.busy(bounded, limit)
		}
	}
}

func (l *Limiter) busy(ctx context.Context, limit talk.Limit) (talk.Attempt, talk.Verdict, error) {
	err := context.Cause(ctx)
	if errors.Is(err, talk.ErrBusy) {
		l.redis.metrics.decided(limit.Policy, "busy", modeNames[modeMemory]).count(ctx)
	}
	return ended{}, talk.Verdict{Limit: limit}, err
}

// beginning is one call that begins an attempt.
type beginning struct {
	*Limiter

	limit talk.Limit
	name  string
	id    uint64
}

// What a try has come to.
type state int

const (
	begun state = iota + 1
	refused
	full // of attempts that are pending
)

func (b *beginning) enter() *waiter {
	l := b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &waiter{turn: make(chan struct{})}
	a := l.account(b.name, b.limit.Window, time.Now())
	if a.wake == nil {
		a.wake = make(chan struct{}, 1)
	}
	if a.line = append(a.line, w); len(a.line) == 1 {
		close(w.turn)
	}
	return w
}

func (b *beginning) leave(w *waiter) {
	l := b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.accounts[b.name] // busy, and so still there
	i := slices.Index(a.line, w)
	a.line = slices.Delete(a.line, i, i+1)
	if i == 0 && len(a.line) > 0 {
		close(a.line[0].turn)
	}
}

// wait returns when a place may be free, or false at the end of ctx.
func (b *beginning) wait(ctx context.Context, poll time.Duration) bool {
	b.ledger.mu.Lock()
	wake := b.ledger.accounts[b.name].wake
	b.ledger.mu.Unlock()
	timer := time.NewTimer(jitter(poll))
	defer timer.Stop()
	select {
	case <-wake:
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	return true
}

// try asks this node's log and then Redis for a place. Only who is first in
// the line tries.
func (b *beginning) try(ctx context.Context) (talk.Verdict, state, mode) {
	now := time.Now()
	k, v, s := b.consult(now)
	if s != begun {
		return v, s, modeMemory
	}
	b.id = b.last.Add(1)
	c := b.call(k, now)
	err := b.redis.limiter.do(ctx, c)
	switch {
	case isWrongType(c.err()):
		err = b.redis.limiter.do(ctx, command("unlink", b.name), c)
	case err != nil && slept(now, b.redis.config.Timeout):
		err = b.redis.limiter.do(ctx, c)
	}
	reply, bad := c.ints()
	if err != nil || bad != nil || len(reply) != 4 {
		v, s = b.alone()
		return v, b.abandon(s, c.reply != nil), modeLocal
	}
	v, s = b.settle(reply, k, now)
	return v, b.abandon(s, reply[0] == 1), modeRedis
}

func (b *beginning) consult(now time.Time) (k known, v talk.Verdict, s state) {
	l := b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(b.name, b.limit.Window, now)
	v, s = a.beginning(b.limit, b.limit.Places, now)
	return a.known(b.redis.trust.number()), v, s
}

// beginning is what the log says by itself about an attempt that wants to begin.
func (a *account) beginning(limit talk.Limit, places int, now time.Time) (talk.Verdict, state) {
	v := talk.Verdict{Limit: limit}
	if wait, no := a.remembered(1, now); no {
		v.Reset = wait
		return v, refused
	}
	counted, pending := a.counted(now)
	switch {
	case counted >= places:
		v.Reset = a.free(counted-places+1, now)
		if v.Reset <= 0 { // attempts that never end fill it
			v.Reset = a.window
		}
		return v, refused
	case counted+pending >= places:
		return v, full
	}
	v.Allowed, v.Left = true, places-counted-pending-1
	if v.Reset = a.free(1, now); v.Reset <= 0 {
		v.Reset = a.window
	}
	return v, begun
}

func (b *beginning) call(k known, now time.Time) *call {
	args := []any{b.limit.Window.Microseconds(), b.limit.Places, ttl(b.limit.Window), patience.Microseconds(), b.member(b.id)}
	for _, p := range k.lost { // counted ones only: a pending one may end while this is under way
		args = append(args, "f:"+b.member(p.id), p.at.age(now).Microseconds())
	}
	return scriptBegin.run(b.name, args...)
}

func (b *beginning) settle(reply []int64, k known, now time.Time) (talk.Verdict, state) {
	l := b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.account(b.name, b.limit.Window, now)
	a.told(k)
	wait := micros(reply[2])
	switch {
	case reply[0] == 1:
		v, s := a.beginning(b.limit, b.limit.Places, now)
		if s == begun {
			a.begin(b.id, now)
			a.compare(b.limit.Places-int(reply[1]), k.held)
			v.Left, v.Reset = min(v.Left, int(reply[1])), wait
		}
		return v, s
	case reply[3] > 0:
		return talk.Verdict{Limit: b.limit}, full
	case reply[3] == 0: // by failures alone, which nothing undoes
		a.refuse(1, 0, now.Add(wait), now)
	}
	return talk.Verdict{Limit: b.limit, Reset: wait}, refused
}

// alone decides without Redis, by this node's share.
func (b *beginning) alone() (talk.Verdict, state) {
	l := b.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	a := l.account(b.name, b.limit.Window, now)
	v, s := a.beginning(b.limit, b.share(b.limit), now)
	v.Local = true
	if s == begun {
		a.begin(b.id, now)
	}
	return v, s
}

// abandon takes back what Redis may hold of an attempt that is not made.
func (b *beginning) abandon(s state, held bool) state {
	if s != begun && held {
		b.unsaid.add(unsaidEnd{&attempt{Limiter: b.Limiter, limit: b.limit, name: b.name, id: b.id}, false, time.Now()})
	}
	return s
}

func (a *account) begin(id uint64, now time.Time) {
	if a.pending == nil {
		a.pending = map[uint64]time.Time{}
	}
	a.pending[id] = now
}

// ended is the attempt of a call that got no place.
type ended struct{}

func (ended) End(context.Context, bool) {}

// attempt is a pending place.
type attempt struct {
	*Limiter

	limit talk.Limit
	name  string
	id    uint64
	once  sync.Once
}

// End gives the place back after a success, or counts it after a failure.
// Ending twice is the same as once. Where Redis is away it is told later.
func (a *attempt) End(ctx context.Context, failed bool) {
	a.once.Do(func() {
		at := time.Now()
		told := a.redis.limiter.do(ctx, a.ending(failed, at)) == nil
		if !told {
			a.unsaid.add(unsaidEnd{a, failed, at})
		}
		a.note(failed, told)
	})
}

func (a *attempt) ending(failed bool, at time.Time) *call {
	if failed {
		return scriptFail.run(a.name, a.member(a.id), ttl(a.limit.Window), time.Since(at).Microseconds())
	}
	return command("zrem", a.name, "p:"+a.member(a.id))
}

// note ends the attempt in this node's log and wakes the line.
func (a *attempt) note(failed, told bool) {
	l := a.ledger
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	account := l.account(a.name, a.limit.Window, now)
	delete(account.pending, a.id)
	if failed {
		l.add(account, now, place{id: a.id, cost: 1, told: told})
	}
	select {
	case account.wake <- struct{}{}:
	default:
	}
}

// unsaid is the attempts whose ends Redis was not told of.
type unsaid struct {
	saying sync.Mutex // held while the first are told
	mu     sync.Mutex
	ends   []unsaidEnd // oldest first; what is being told is still there, so that a reset changes it too
}

type unsaidEnd struct {
	attempt *attempt
	failed  bool
	at      time.Time
}

const mostUnsaid = 10_000

func (u *unsaid) add(e unsaidEnd) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.ends) < mostUnsaid { // the rest counts as failed, which is the safe side
		u.ends = append(u.ends, e)
	}
}

// forget has what failed of a log count no more. Its places are still given back.
func (u *unsaid) forget(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range u.ends {
		if u.ends[i].attempt.name == name {
			u.ends[i].failed = false
		}
	}
}

// first are those that have waited longest, as many as fit into a pipeline.
func (u *unsaid) first() []unsaidEnd {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.ends[:min(len(u.ends), mostCalls)])
}

// said drops the first n.
func (u *unsaid) said(n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.ends = u.ends[n:]; len(u.ends) == 0 {
		u.ends = nil
	}
}

// sayAgain tells Redis the ends that it could not be told, many in a trip. The
// next heartbeat waits for it: what takes longer than that may goes after it.
func (l *Limiter) sayAgain(ctx context.Context) {
	u := l.unsaid
	u.saying.Lock()
	defer u.saying.Unlock()
	for until := time.Now().Add(beatEvery); ctx.Err() == nil && time.Now().Before(until); {
		ends := u.first()
		if len(ends) == 0 || l.say(ctx, ends) != nil {
			return // what was heard of them is said once more, which changes nothing
		}
		u.said(len(ends))
	}
}

func (l *Limiter) say(ctx context.Context, ends []unsaidEnd) error {
	calls := make([]*call, 0, len(ends))
	for _, e := range ends {
		if time.Since(e.at) <= e.attempt.limit.Window {
			calls = append(calls, e.attempt.ending(e.failed, e.at))
		}
	}
	if len(calls) == 0 {
		return nil
	}
	return l.redis.limiter.do(ctx, calls...)
}

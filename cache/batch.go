package cache

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/server/talk"
)

// mostCalls is how many are in a pipeline, so that none holds a connection for long.
const mostCalls = 128

// call is one command, or one script on one key.
type call struct {
	script *script
	key    string
	args   []any
	// item is what the script does one of many of: calls that differ in nothing
	// else are one command, which answers for each. Its first word says what it is
	// about, and a command has no two of one; the words of all come one after the
	// other, first words first. Nil where it does not.
	item []any
	// optional is what a Redis whose memory is full may refuse, and is not away by
	// that: it reads and forgets as before.
	optional bool

	reply   *redis.Cmd
	numbers []int64 // the answer of a script of several keys
}

// command makes a call of a plain command; its first argument is its name.
func command(args ...any) *call { return &call{args: args} }

// run makes a call of a script on a key.
func (s *script) run(key string, args ...any) *call { return &call{script: s, key: key, args: args} }

// of makes it a call of one of the things that its script does many of at once.
func (c *call) of(item ...any) *call {
	c.item = item
	return c
}

// ifSpace makes it a call that costs speed alone where Redis has no memory for it.
func (c *call) ifSpace() *call {
	c.optional = true
	return c
}

// err is how Redis answered this call: nil, redis.Nil, an answer about the
// command, or something that wraps errAway.
func (c *call) err() error {
	if c.reply == nil {
		return errAway
	}
	err := c.reply.Err()
	if isFailure(err) && !(c.optional && isFull(err)) {
		return errors.Join(errAway, err)
	}
	return err
}

// ints returns the integers of a reply.
func (c *call) ints() ([]int64, error) {
	if err := c.err(); err != nil {
		return nil, err
	}
	if c.numbers != nil {
		return c.numbers, nil
	}
	return c.reply.Int64Slice()
}

// batcher lets concurrent calls of a role share round trips. A lone call goes
// out at once, in its caller's goroutine; what comes while a pipeline is
// under way queues up and leaves with the next one. There is no goroutine of
// its own to own. One pipeline is under way at a time: Redis does one command after
// the other, so several would only be smaller, and a round trip is what costs.
type batcher struct {
	client  redis.UniversalClient
	breaker *breaker
	timeout time.Duration
	calls   int                                  // in a pipeline, at most
	yields  int                                  // of who leads, at most, besides the first: see gather
	apart   atomic.Bool                          // no command has keys of several slots
	took    func(context.Context, time.Duration) // hears of each round trip
	patient *batcher                             // for what is unhurried; nil: this one

	mu    sync.Mutex
	led   bool // somebody leads: a pipeline is under way, or about to be
	queue []*ticket
	spare sync.Pool // of tickets
}

// ticket is the calls of one caller in the queue.
type ticket struct {
	calls []*call
	// turn gets true where its caller is to send what is in the queue, of which it is
	// the first, and false when they were answered, or never will be.
	turn chan bool
}

// ticket returns one of those that are used again: a caller who leaves has got
// all that its turn gets.
func (b *batcher) ticket(calls []*call) *ticket {
	t, ok := b.spare.Get().(*ticket)
	if !ok {
		t = &ticket{turn: make(chan bool, 1)}
	}
	t.calls = calls
	return t
}

func (b *batcher) drop(t *ticket) {
	t.calls = nil
	b.spare.Put(t)
}

// do sends calls and returns once all are answered, or an error that wraps
// errAway. It takes at most one time-out, which is a longer one where ctx is
// unhurried; it does not end with ctx, whose values only it uses, since others
// may share the trip. Each call knows its own outcome.
func (b *batcher) do(ctx context.Context, calls ...*call) error {
	losses := talk.LossesOf(ctx)
	if losses == noHurry && b.patient != nil {
		return b.patient.shares(ctx, calls)
	}
	if losses.Lost() {
		return errAway
	}
	began := time.Now()
	err := b.shares(ctx, calls)
	if err == nil {
		return nil
	}
	if took := time.Since(began); errors.Is(err, errAway) && took > b.timeout/waitedShare && !slept(began, b.timeout) {
		losses.Lose()
	}
	return err
}

const (
	// waitedShare is the share of a time-out from which on a call that was not
	// answered has waited: who came late to a trip waits for the rest of it only.
	waitedShare = 8

	unhurriedTimeout = time.Second     // of a round trip that no request waits for
	insistFor        = 2 * time.Second // that an administrator waits for a Redis that misses time-outs
)

// noHurry is what an unhurried context holds where that of a call has its
// losses: one question of the context tells both.
var noHurry = new(talk.Losses)

// unhurried returns a context whose round trips have a time-out of their own, and
// no request waits behind them: a Redis, or a process, that has much to do would
// otherwise fail what makes it usable again, over and over.
func unhurried(ctx context.Context) context.Context {
	return context.WithValue(ctx, talk.LossesKey{}, noHurry)
}

// insist is do for what an administrator asks for, and may be done twice: where
// Redis missed a time-out it is asked again, for a while.
func (b *batcher) insist(ctx context.Context, calls ...*call) error {
	ctx = unhurried(ctx)
	for end := time.Now().Add(insistFor); ; {
		err := b.do(ctx, calls...)
		if err == nil || time.Now().After(end) || sleep(ctx, beatEvery/2) != nil {
			return err
		}
	}
}

func (b *batcher) shares(ctx context.Context, calls []*call) error {
	for len(calls) > b.calls {
		if err := b.share(ctx, calls[:b.calls]); err != nil {
			return err
		}
		calls = calls[b.calls:]
	}
	return b.share(ctx, calls)
}

func (b *batcher) share(ctx context.Context, calls []*call) error {
	t := b.ticket(calls)
	defer b.drop(t)
	b.mu.Lock()
	b.queue = append(b.queue, t)
	leads := !b.led
	b.led = true
	b.mu.Unlock()
	if leads || <-t.turn {
		return b.lead(ctx)
	}
	return outcome(calls)
}

// lead sends what is in the queue, of which the first is the caller's own, and
// hands the lead on. Where Redis is away, those who queued meanwhile are told as
// well: nobody waits for more than one time-out. Where this process stood still
// they have waited for nothing yet, and go next.
func (b *batcher) lead(ctx context.Context) error {
	tickets := b.gather()
	var calls []*call
	for _, t := range tickets {
		calls = append(calls, t.calls...)
	}
	err := b.breaker.do(context.WithoutCancel(ctx), b.timeout, func(ctx context.Context) error {
		begun := time.Now()
		err := b.exchange(ctx, calls)
		b.took(ctx, time.Since(begun))
		return err
	})
	b.mu.Lock()
	if errors.Is(err, errAway) && !errors.Is(err, errSlept) {
		tickets = append(tickets, b.queue...)
		b.queue = nil
	}
	if b.led = len(b.queue) > 0; b.led {
		b.queue[0].turn <- true
	}
	b.mu.Unlock()
	for _, t := range tickets[1:] {
		t.turn <- false
	}
	return outcome(tickets[0].calls)
}

// gather returns what a pipeline takes. It lets go first whoever could go on,
// since they may have something to send as well: most of a trip's cost is the
// trip; and again while more come by that, so often at most.
func (b *batcher) gather() []*ticket {
	for before, yields := 0, 0; ; yields++ {
		runtime.Gosched()
		b.mu.Lock()
		now := len(b.queue)
		if now == before || now >= b.calls || yields == b.yields {
			defer b.mu.Unlock()
			return b.cut()
		}
		b.mu.Unlock()
		before = now
	}
}

// cut takes as much off the queue as fits into a pipeline. The lock is held.
func (b *batcher) cut() []*ticket {
	n, calls := 0, 0
	for n < len(b.queue) && (n == 0 || calls+len(b.queue[n].calls) <= b.calls) {
		calls += len(b.queue[n].calls)
		n++
	}
	tickets := b.queue[:n:n]
	if b.queue = b.queue[n:]; len(b.queue) == 0 {
		b.queue = nil
	}
	return tickets
}

// outcome is errAway where any of calls was not answered.
func outcome(calls []*call) error {
	for _, c := range calls {
		if err := c.err(); errors.Is(err, errAway) {
			return err
		}
	}
	return nil
}

// exchange sends calls in one pipeline, and once more those whose script the
// server does not know yet, or whose keys it wants apart.
func (b *batcher) exchange(ctx context.Context, calls []*call) error {
	b.send(ctx, calls, true)
	var again []*call
	for _, c := range calls {
		apart := b.parts(c.reply.Err())
		if apart || answers(c.reply.Err(), "NOSCRIPT") {
			again = append(again, c)
		}
	}
	if len(again) > 0 {
		b.send(ctx, again, false)
	}
	return outcome(calls)
}

// parts reports whether a server that looks like one, and is several behind a
// proxy, wants keys apart; from then on they are.
func (b *batcher) parts(err error) bool {
	apart := answers(err, "CROSSSLOT")
	if apart {
		b.apart.Store(true)
	}
	return apart
}

func (b *batcher) send(ctx context.Context, calls []*call, digest bool) {
	groups := together(calls, b.apart.Load())
	if len(groups) == 1 {
		command := groups[0].command(ctx, digest)
		_ = b.client.Process(ctx, command) // the reply holds it
		groups[0].answer(ctx, command)
		return
	}
	pipe := b.client.Pipeline()
	commands := make([]redis.Cmder, len(groups))
	for i, g := range groups {
		commands[i] = g.command(ctx, digest)
		_ = pipe.Process(ctx, commands[i])
	}
	_, _ = pipe.Exec(ctx) // each reply holds its own
	for i, g := range groups {
		g.answer(ctx, commands[i])
	}
}

// replied returns the integer of a reply.
func (c *call) replied() (int64, error) {
	if err := c.err(); err != nil {
		return 0, err
	}
	return c.reply.Int64()
}

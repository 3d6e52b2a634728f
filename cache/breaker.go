package cache

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Role is what Redis is used for. Each has a breaker of its own, so that one
// that suffers does not take the others with it.
type Role string

// The roles.
const (
	RoleCache    Role = "cache"
	RoleLimiter  Role = "limiter"
	RoleBus      Role = "bus"
	RolePresence Role = "presence"
)

const (
	breakAfter = 5               // failures in a row
	breakFor   = 5 * time.Second // until one call may try again unasked; see hint
	sleptFor   = 6               // time-outs
)

// errAway is that Redis was not asked, or that it did not answer as one that
// can be used.
var errAway = errors.New("redis is away")

// errSlept is with errAway where it was this process that did not go on.
var errSlept = errors.New("this process stood still")

// breaker lets calls through until five in a row have failed; then one at a
// time, where a heartbeat was answered or for five seconds none was tried,
// until that one succeeds. So it is the heartbeat that waits for a Redis that is away,
// four times a second, and not somebody's call. It stands around go-redis and
// not inside it: there it would refuse the handshakes of its own probes too.
type breaker struct {
	now    func() time.Time
	opened func() // called, without the lock, when it opens

	mu      sync.Mutex
	failed  int       // in a row
	until   time.Time // no call passes before, where failed is at the limit
	probing bool
	tripped bool      // it is open because nobody was answered, and not by failures of its own
	last    time.Time // of the last failure
}

func newBreaker(opened func()) *breaker {
	return &breaker{now: time.Now, opened: opened}
}

// allow reports whether a call may pass. What passes must be reported.
func (b *breaker) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed < breakAfter {
		return true
	}
	if b.probing || b.now().Before(b.until) {
		return false
	}
	b.probing = true
	return true
}

// report tells the outcome of a call that passed.
func (b *breaker) report(failed bool) {
	b.mu.Lock()
	b.probing = false
	if !failed {
		b.failed = 0
		b.mu.Unlock()
		return
	}
	b.failed++
	b.last = b.now()
	opens := b.failed == breakAfter
	if b.failed >= breakAfter {
		b.failed = breakAfter
		b.until = b.last.Add(jitter(breakFor))
	}
	b.mu.Unlock()
	if opens && b.opened != nil {
		b.opened()
	}
}

// forgo takes back a call that passed and says nothing about Redis: its own
// caller gave it up.
func (b *breaker) forgo() {
	b.mu.Lock()
	b.probing = false
	b.mu.Unlock()
}

// hint lets the next call try at once where the breaker is open: Redis has
// answered somebody else. Whether it serves this role, that call will see. What
// was tripped is whole again.
func (b *breaker) hint() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = time.Time{}
	if b.tripped {
		b.failed, b.tripped = 0, false
	}
}

// trip opens it, or keeps it open: Redis has not answered somebody else.
func (b *breaker) trip() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed < breakAfter {
		b.failed, b.tripped = breakAfter, true
	}
	b.until = b.now().Add(jitter(breakFor))
}

func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed >= breakAfter
}

// failedSince reports whether a call failed at t or later.
func (b *breaker) failedSince(t time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.last.IsZero() && !b.last.Before(t)
}

// do runs a round trip under the breaker and under a time-out. What Redis
// itself answers, be it an error, is an outcome of the call; where it could
// not be used the error wraps errAway.
func (b *breaker) do(ctx context.Context, timeout time.Duration, call func(context.Context) error) error {
	if !b.allow() {
		return errAway
	}
	panicked := true
	defer func() {
		if panicked {
			b.forgo() // or no call would ever try again
		}
	}()
	began := time.Now()
	bounded, cancel := context.WithTimeoutCause(ctx, timeout, errAway)
	defer cancel()
	err := call(bounded)
	panicked = false
	switch {
	case !isFailure(err):
		b.report(false)
		return err
	case ctx.Err() != nil:
		b.forgo()
		return context.Cause(ctx)
	case slept(began, timeout): // says nothing about Redis
		b.forgo()
		return errors.Join(errAway, errSlept, err)
	default:
		b.report(true)
		return errors.Join(errAway, err)
	}
}

// slept reports whether a round trip that began then and failed outlasted its
// time-out by so much that this process itself must have stood still.
func slept(began time.Time, timeout time.Duration) bool {
	return time.Since(began) > sleptFor*timeout
}

// unusable are answers of a server that is there and cannot serve.
var unusable = []string{"READONLY", "LOADING", "OOM", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "MISCONF", "BUSY", "NOAUTH", "WRONGPASS"}

// isFailure reports whether err says that Redis cannot be used, in contrast
// to an answer about one command.
func isFailure(err error) bool {
	if err == nil || errors.Is(err, redis.Nil) {
		return false
	}
	var answer redis.Error
	if !errors.As(err, &answer) || isNetwork(err) {
		return true
	}
	word, _, _ := strings.Cut(answer.Error(), " ")
	return slices.Contains(unusable, word)
}

func isNetwork(err error) bool {
	var network net.Error
	return errors.As(err, &network)
}

// answers reports whether err is a server's answer that begins with word.
func answers(err error, word string) bool {
	if err == nil {
		return false
	}
	var answer redis.Error
	return errors.As(err, &answer) && strings.HasPrefix(answer.Error(), word)
}

// isFull reports whether a server had no memory for a command.
func isFull(err error) bool { return answers(err, "OOM") }

// isWrongType reports whether a key held another type than a command or a
// script expects. (Some servers put words of their own before it.)
func isWrongType(err error) bool {
	if err == nil {
		return false
	}
	var answer redis.Error
	return errors.As(err, &answer) && strings.Contains(answer.Error(), "WRONGTYPE")
}

// jitter varies d by a tenth in either direction, so that what began together
// does not end together.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.9 + 0.2*rand.Float64()))
}

// absence is how long a negative entry lasts: 15 to 30 s.
func absence() time.Duration {
	return absentTTL*2/3 + time.Duration(rand.Float64()*float64(absentTTL)*2/3)
}

// sleep waits for d, or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

package client

import (
	"context"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect/v2"
)

// Retries says when a call is made again by itself.
//
// Where the server is unavailable, a method that reads or is idempotent (as the
// contract says of it) is tried again after the time that the server asks for,
// or else after a random time that grows with each try. Other methods are so
// only where it says BUSY, since then nothing happened: of everything else it
// is not known whether it did.
//
// No wait is begun that would outlast the call's context.
type Retries struct {
	// Tries is how often a call is made in all. Zero means 3; 1 means no retries.
	Tries int
	// Base is the longest wait before the second try where the server names
	// none; it doubles with each further one. Zero means 100 ms.
	Base time.Duration
	// Longest bounds each such wait; where the server asks for more, the error
	// is returned instead. Zero means 5 s.
	Longest time.Duration
	// RateLimited waits also where a rate limit refused the call, whatever its
	// method, since a refused call did nothing, and where the server asks for no
	// more than that. Zero means never.
	RateLimited time.Duration
}

func (r Retries) tries() int             { return or(r.Tries, 3) }
func (r Retries) base() time.Duration    { return or(r.Base, 100*time.Millisecond) }
func (r Retries) longest() time.Duration { return or(r.Longest, 5*time.Second) }

func or[T int | time.Duration](value, zero T) T {
	if value == 0 {
		return zero
	}
	return value
}

// after says whether the call that failed with err, for the tries-th time, is
// to be made again, and after which wait.
func (r Retries) after(ctx context.Context, err error, level connect.IdempotencyLevel, tries int) (time.Duration, bool) {
	if tries >= r.tries() || ctx.Err() != nil {
		return 0, false
	}
	delay, told := RetryAfter(err)
	var bound time.Duration
	switch {
	case connect.CodeOf(err) == connect.CodeUnavailable && (level != connect.IdempotencyUnknown || Reason(err) == ReasonBusy):
		bound = r.longest()
	case Reason(err) == ReasonRateLimited && told:
		bound = r.RateLimited
	}
	if bound <= 0 || delay > bound {
		return 0, false
	}
	if told {
		delay += spread(delay / 10) // the others were told the same
	} else {
		delay = spread(min(r.base()<<(tries-1), bound))
	}
	deadline, ok := ctx.Deadline()
	return delay, !ok || time.Until(deadline) > delay
}

// spread returns a random time up to d: full jitter.
func spread(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}

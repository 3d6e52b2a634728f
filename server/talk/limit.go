package talk

import (
	"context"
	"time"
)

// Limit is a rate limit: at most Places in any window of that length, for one
// key, over all nodes.
type Limit struct {
	Policy   string // "auth", "api", …
	Places   int
	Window   time.Duration
	Failures bool // only failures count: see [Limiter.Begin]
}

// Verdict is what a limiter decided about one call.
type Verdict struct {
	Limit   Limit
	Allowed bool
	Left    int           // places left after this call
	Reset   time.Duration // until a place that is taken now is free again; after a refusal: until the call may be tried
	Local   bool          // decided in this process alone, Redis being away
}

// Limiter counts calls against limits, over all nodes.
type Limiter interface {
	// Take takes cost places at once, or none.
	Take(ctx context.Context, limit Limit, key string, cost int) (Verdict, error)
	// Begin takes a place that is only pending, for a limit that counts
	// failures. Where counted failures fill the limit the verdict refuses; where
	// pending ones fill the rest it waits its turn, in order, until a second
	// before its deadline, and
	// then returns ErrBusy. The attempt must be ended.
	Begin(ctx context.Context, limit Limit, key string) (Attempt, Verdict, error)
}

// Holding is how much of a limit one key has used.
type Holding struct {
	Used  int           // places that count now; of a limit on failures, those of failures
	Wait  time.Duration // until a call would be let in; zero where it would now
	Local bool          // Redis being away, this is what this node alone admitted
}

// LimitDesk is for administrators: it shows and clears what counts against
// limits.
type LimitDesk interface {
	// Held tells how much of limit key has used.
	Held(ctx context.Context, limit Limit, key string) (Holding, error)
	// Reset forgets it, on all nodes within a second; ErrBusy where they cannot
	// be told now.
	Reset(ctx context.Context, limit Limit, key string) error
}

// Attempt is a pending place of a limit that counts failures.
type Attempt interface {
	// End gives the place back after a success, or counts it after a failure.
	// It does not wait for the caller's context.
	End(ctx context.Context, failed bool)
}

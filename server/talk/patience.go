package talk

import (
	"context"
	"time"
)

// turnEnds is how long before its own deadline a call that waits gives up, which
// leaves it to do what it waited for.
const turnEnds = time.Second

// Patience is how long a call that waits for its turn does so before it hears
// ErrBusy: until a second before its own deadline, or for half of its time where
// there are less than two left. It is false for a call without a deadline.
func Patience(ctx context.Context) (time.Duration, bool) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0, false
	}
	left := time.Until(deadline)
	return max(left-turnEnds, left/2), true
}

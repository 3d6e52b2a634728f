package cache

import (
	"context"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// loadsWait is how long a load waits for others to end before its readers
// hear that the server is busy.
const loadsWait = 800 * time.Millisecond

// loads bounds how many loads run at once. The zero value does not.
type loads chan struct{}

func newLoads(most int) loads {
	if most <= 0 {
		return nil
	}
	return make(loads, most)
}

// begin waits until a load may run, at most loadsWait, and returns its end.
func (l loads) begin(ctx context.Context) (end func(), err error) {
	if l == nil {
		return func() {}, nil
	}
	select {
	case l <- struct{}{}:
		return l.end, nil
	default:
	}
	timer := time.NewTimer(loadsWait)
	defer timer.Stop()
	select {
	case l <- struct{}{}:
		return l.end, nil
	case <-timer.C:
		return nil, talk.ErrBusy
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (l loads) end() { <-l }

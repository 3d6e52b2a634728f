package server

import (
	"context"
	"sync"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// boundedContext is [context.WithDeadline] with a clock that is started only
// where somebody waits for it: most calls are answered before anybody does.
type boundedContext struct {
	context.Context //nolint:containedctx // it is one

	until time.Time

	mu     sync.Mutex
	inner  context.Context //nolint:containedctx // the same, with a clock; nil until somebody waits
	cancel context.CancelFunc
	over   bool
}

// boundedBy returns a context that ends at a time, or with its parent. Its end
// must be called, as a [context.CancelFunc].
func boundedBy(parent context.Context, until time.Time) *boundedContext {
	if said, ok := parent.Deadline(); ok && said.Before(until) {
		until = said
	}
	return &boundedContext{Context: parent, until: until}
}

// Deadline implements [context.Context].
func (c *boundedContext) Deadline() (time.Time, bool) { return c.until, true }

// Done implements [context.Context].
func (c *boundedContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clocked().Done()
}

// clocked starts the clock. The lock is held.
func (c *boundedContext) clocked() context.Context {
	if c.inner == nil {
		c.inner, c.cancel = context.WithDeadline(c.Context, c.until)
		if c.over {
			c.cancel()
		}
	}
	return c.inner
}

// Err implements [context.Context].
func (c *boundedContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.inner != nil:
		return c.inner.Err()
	case c.over:
		return context.Canceled
	case time.Now().Before(c.until):
		return c.Context.Err()
	}
	return c.clocked().Err()
}

// Value implements [context.Context]. What [context.Cause] asks for is asked of
// who knows it.
func (c *boundedContext) Value(key any) any {
	switch key.(type) {
	case requestKey, talk.LossesKey: // asked for at every step, and no clock's
		return c.Context.Value(key)
	}
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		return inner.Value(key)
	}
	return c.Context.Value(key)
}

// end lets go of the clock.
func (c *boundedContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if c.cancel != nil {
		c.cancel()
	}
}

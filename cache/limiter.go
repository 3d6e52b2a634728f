package cache

import (
	"context"

	"github.com/free2talk/free2talk/server/talk"
)

// Limiter counts calls against limits, over all nodes. It implements
// [talk.Limiter].
type Limiter struct {
	redis *Redis
	nodes func() int
}

var _ talk.Limiter = (*Limiter)(nil)

// NewLimiter returns a Limiter that counts in r. Where r is away, each node
// admits its share: the limit over what nodes returns, and at least one. Zero
// nodes means one.
func NewLimiter(r *Redis, nodes func() int) *Limiter {
	return &Limiter{redis: r, nodes: nodes}
}

// Take takes cost places at once, or none.
func (l *Limiter) Take(ctx context.Context, limit talk.Limit, key string, cost int) (talk.Verdict, error) {
	return talk.Verdict{}, nil
}

// Begin takes a place that is only pending.
func (l *Limiter) Begin(ctx context.Context, limit talk.Limit, key string) (talk.Attempt, talk.Verdict, error) {
	return nil, talk.Verdict{}, nil
}

package server

import (
	"context"
	"errors"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/server/talk"
)

// countedFailures are the reasons that a limit on failures counts: somebody
// guessed. A typing error in a form, a full gate or a lost connection is no guess.
var countedFailures = map[string]bool{
	talk.ErrBadCredentials.Reason: true,
	talk.ErrBanned.Reason:         true,
	talk.ErrEmailTaken.Reason:     true,
	talk.ErrUsernameTaken.Reason:  true,
}

// limit counts the call against every limit of its policy, in order, and tells
// the caller what is left. The first limit that is used up refuses; what was
// taken from those before it stays taken.
func (s *Server) limit(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		q := requestFrom(ctx)
		if len(q.rules.limits) == 0 || s.config.Limiter == nil {
			return next(ctx, spec, stream)
		}
		c := counting{limiter: s.config.Limiter, q: q}
		err := c.take(ctx)
		if errors.Is(err, talk.ErrRateLimited) {
			s.guessed(ctx, q, c.refusal)
		}
		c.tell(ctx)
		if err == nil {
			// A panic counts as no failure: the place must not stay pending.
			defer func() { c.end(ctx, err) }()
			err = next(ctx, spec, stream)
		}
		return err
	}
}

// counting is one call on its way through its limits.
type counting struct {
	limiter talk.Limiter
	q       *request
	header  []byte // RateLimit
	buffer  [96]byte
	attempt talk.Attempt // pending, or nil; at most one policy counts failures
	refusal string       // the policy that refused, or ""
}

func (c *counting) take(ctx context.Context) error {
	c.header = c.buffer[:0]
	for i := range c.q.rules.limits {
		rule := &c.q.rules.limits[i]
		key, counts := rule.key(c.q)
		if !counts {
			continue
		}
		verdict, err := c.ask(ctx, rule, key)
		if err != nil {
			return err
		}
		c.header = appendItem(c.header, verdict)
		if !verdict.Allowed {
			c.refusal = rule.Policy
			return talk.ErrRateLimited.With("policy", rule.Policy).After(verdict.Reset)
		}
	}
	return nil
}

func (c *counting) ask(ctx context.Context, rule *rule, key string) (verdict talk.Verdict, err error) {
	if rule.Failures {
		var attempt talk.Attempt
		attempt, verdict, err = c.limiter.Begin(ctx, rule.Limit, key)
		if err == nil && verdict.Allowed {
			c.attempt = attempt
		}
	} else {
		verdict, err = c.limiter.Take(ctx, rule.Limit, key, rule.cost)
	}
	verdict.Limit = rule.Limit // what the header says is what was asked
	return verdict, err
}

// tell sets the headers, before anything is sent: as headers they are there on
// errors too, and in all three protocols.
func (c *counting) tell(ctx context.Context) {
	if len(c.header) == 0 {
		return
	}
	if h := c.q.head; h != nil {
		h["Ratelimit-Policy"], h["Ratelimit"] = c.q.rules.policyHeader, []string{string(c.header)}
		return
	}
	info, ok := connect.CallInfoForServerContext(ctx)
	if !ok {
		return
	}
	info.ResponseHeader().SetValues("Ratelimit-Policy", c.q.rules.policyHeader)
	info.ResponseHeader().Set("Ratelimit", string(c.header))
}

func (c *counting) end(ctx context.Context, err error) {
	if c.attempt != nil {
		c.attempt.End(ctx, countedFailures[talk.ReasonOf(err)])
	}
}

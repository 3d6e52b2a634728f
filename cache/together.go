package cache

import (
	"context"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
)

// mostItems is how many calls are one command: a script keeps Redis to itself.
const mostItems = 100

// kind is what calls that can be one command have in common.
type kind struct {
	script    *script
	key, args string
}

// together are calls that are one command. Apart says that those for different
// keys never are.
func together(calls []*call, apart bool) []bundle {
	groups := make([]bundle, 0, len(calls))
	var open map[kind]int // the group that takes more of a kind
	for n, c := range calls {
		k, shares := c.kind(apart)
		if !shares || len(calls) == 1 {
			groups = append(groups, calls[n:n+1:n+1])
			continue
		}
		if open == nil {
			open = map[kind]int{}
		}
		i, known := open[k]
		if !known || len(groups[i]) == mostItems || groups[i].has(c) {
			i = len(groups)
			open[k], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], c)
	}
	return groups
}

func (c *call) kind(apart bool) (k kind, shares bool) {
	switch {
	case c.item != nil:
		return kind{c.script, c.key, fmt.Sprint(c.args...)}, true
	case c.script != nil && c.script.answers > 0:
		k.script = c.script
		if apart {
			k.key = c.key
		}
		return k, true
	}
	return k, false
}

// bundle is calls of one script, that differ in their item alone or, where it
// takes several keys, in everything; or one call.
type bundle []*call

// has reports whether the item of a call is about what another's is: a script
// does no two of those at once.
func (g bundle) has(c *call) bool {
	return c.item != nil && slices.ContainsFunc(g, func(other *call) bool { return other.item[0] == c.item[0] })
}

func (g bundle) command(ctx context.Context, digest bool) redis.Cmder {
	first := g[0]
	if first.script == nil {
		return redis.NewCmd(ctx, first.args...)
	}
	size := 4
	for _, c := range g {
		size += 1 + len(c.args) + len(c.item)
	}
	args := make([]any, 0, size)
	if digest {
		args = append(args, "evalsha", first.script.digest)
	} else {
		args = append(args, "eval", first.script.source)
	}
	if first.script.answers > 0 {
		args = append(args, len(g))
		for _, c := range g {
			args = append(args, c.key)
		}
		for _, c := range g {
			args = append(args, c.args...)
		}
		return redis.NewIntSliceCmd(ctx, args...)
	}
	args = append(append(args, 1, first.key), first.args...)
	for word := range first.item {
		for _, c := range g {
			args = append(args, c.item[word])
		}
	}
	return redis.NewCmd(ctx, args...)
}

// answer gives each call what is its own of the reply.
func (g bundle) answer(ctx context.Context, reply redis.Cmder) {
	switch reply := reply.(type) {
	case *redis.IntSliceCmd:
		g.count(ctx, reply)
	case *redis.Cmd:
		if g[0].item == nil {
			g[0].reply = reply
			return
		}
		answers, err := reply.Slice()
		if err == nil && len(answers) != len(g) {
			err = g.mismatch(len(answers))
		}
		for i, c := range g {
			c.reply = redis.NewCmd(ctx)
			if err != nil {
				c.reply.SetErr(err)
			} else {
				c.reply.SetVal(answers[i])
			}
		}
	}
}

// count is answer for a script of several keys.
func (g bundle) count(ctx context.Context, reply *redis.IntSliceCmd) {
	numbers, err := reply.Result()
	each := g[0].script.answers
	if err == nil && len(numbers) != each*len(g) {
		err = g.mismatch(len(numbers) / each)
	}
	whole := redis.NewCmd(ctx)
	if err != nil {
		whole.SetErr(err)
	}
	for i, c := range g {
		if c.reply, c.numbers = whole, nil; err == nil {
			c.numbers = numbers[each*i : each*(i+1)]
		}
	}
}

func (g bundle) mismatch(answers int) error {
	return fmt.Errorf("%w: %s: %d answers for %d calls", errMalformed, g[0].script.name, answers, len(g))
}

package cache

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// mostItems is how many calls are one command: a script keeps Redis to itself.
const mostItems = 100

// together are calls that are one command.
func together(calls []*call) []bundle {
	groups := make([]bundle, 0, len(calls))
	open := map[string]int{} // the group that takes more of a kind
	for _, c := range calls {
		if c.item == nil {
			groups = append(groups, bundle{c})
			continue
		}
		kind := fmt.Sprint(c.script.name, " ", c.key, " ", c.args)
		i, known := open[kind]
		if !known || len(groups[i]) == mostItems {
			i = len(groups)
			open[kind], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], c)
	}
	return groups
}

// bundle is calls of one script, that differ in their item alone; or one call.
type bundle []*call

func (g bundle) command(ctx context.Context, digest bool) *redis.Cmd {
	first := g[0]
	if first.script == nil {
		return redis.NewCmd(ctx, first.args...)
	}
	args := make([]any, 0, 4+len(first.args)+len(g)*len(first.item))
	if digest {
		args = append(args, "evalsha", first.script.digest, 1, first.key)
	} else {
		args = append(args, "eval", first.script.source, 1, first.key)
	}
	args = append(args, first.args...)
	for _, c := range g {
		args = append(args, c.item...)
	}
	return redis.NewCmd(ctx, args...)
}

// answer gives each call what is its own of the reply.
func (g bundle) answer(ctx context.Context, reply *redis.Cmd) {
	if g[0].item == nil {
		g[0].reply = reply
		return
	}
	answers, err := reply.Slice()
	if err == nil && len(answers) != len(g) {
		err = fmt.Errorf("%s: %d answers for %d calls", g[0].script.name, len(answers), len(g))
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

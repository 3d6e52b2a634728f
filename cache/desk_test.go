package cache

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// held is what a node says of a key's use.
func held(t *testing.T, l *Limiter, limit talk.Limit, key string) talk.Holding {
	t.Helper()
	h, err := l.Held(t.Context(), limit, key)
	check(t, err)
	return h
}

func fail(t *testing.T, l *Limiter, limit talk.Limit, key string) {
	t.Helper()
	a, v, err := l.Begin(t.Context(), limit, key)
	check(t, err)
	equal(t, "begun", v.Allowed, true)
	a.End(t.Context(), true)
}

func TestDesk(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, where corner) {
		for name, test := range map[string]func(*testing.T, corner){
			"what is held is told and not taken":  heldIsTold,
			"only failures are held":              heldFailures,
			"a reset is heard by every node":      resetEverywhere,
			"a reset undoes no later use":         resetOnce,
			"a reset is heard whatever was there": resetWrongType,
		} {
			t.Run(name, func(t *testing.T) {
				where := where
				where.prefix += strings.ReplaceAll(name, " ", "_") + ":"
				test(t, where)
			})
		}
	})
}

func heldIsTold(t *testing.T, where corner) {
	l, other := NewLimiter(where.open(t), nil), NewLimiter(where.open(t), nil)
	limit := limitOf(3, time.Hour)
	equal(t, "nobody", held(t, l, limit, "k"), talk.Holding{})
	take(t, l, limit, "k", 2)
	for range 5 {
		equal(t, "two", held(t, l, limit, "k"), talk.Holding{Used: 2})
		equal(t, "two, elsewhere", held(t, other, limit, "k"), talk.Holding{Used: 2})
	}
	take(t, other, limit, "k", 1)
	h := held(t, l, limit, "k")
	equal(t, "all", h.Used, 3)
	around(t, "wait", h.Wait, time.Hour)
	equal(t, "somebody else", held(t, l, limit, "j"), talk.Holding{})
}

func heldFailures(t *testing.T, where corner) {
	l := NewLimiter(where.open(t), nil)
	limit := failuresOf(2, time.Hour)
	pending, _, err := l.Begin(t.Context(), limit, "k")
	check(t, err)
	equal(t, "pending", held(t, l, limit, "k"), talk.Holding{})
	pending.End(t.Context(), false)
	fail(t, l, limit, "k")
	equal(t, "one", held(t, l, limit, "k"), talk.Holding{Used: 1})
	fail(t, l, limit, "k")
	h := held(t, l, limit, "k")
	equal(t, "both", h.Used, 2)
	around(t, "wait", h.Wait, time.Hour)
}

// Every node has refused by itself, and so would not ask Redis.
func resetEverywhere(t *testing.T, where corner) {
	nodes := []*Limiter{NewLimiter(where.open(t), nil), NewLimiter(where.open(t), nil), NewLimiter(where.open(t), nil)}
	plain, failures := limitOf(2, time.Hour), failuresOf(1, time.Hour)
	take(t, nodes[0], plain, "k", 2)
	fail(t, nodes[0], failures, "k")
	for _, l := range nodes {
		equal(t, "allowed", take(t, l, plain, "k", 1).Allowed, false)
		_, v, err := l.Begin(t.Context(), failures, "k")
		check(t, err)
		equal(t, "begun", v.Allowed, false)
	}
	check(t, nodes[1].Reset(t.Context(), plain, "k"))
	check(t, nodes[1].Reset(t.Context(), failures, "k"))
	equal(t, "held at once", held(t, nodes[1], plain, "k"), talk.Holding{})
	for i, l := range nodes {
		await(t, fmt.Sprintf("node %d to forget", i), func() bool {
			return held(t, l, plain, "k") == talk.Holding{} && held(t, l, failures, "k") == talk.Holding{}
		})
	}
	fail(t, nodes[2], failures, "k")
	equal(t, "allowed", take(t, nodes[0], plain, "k", 2).Allowed, true)
	equal(t, "and no more", take(t, nodes[2], plain, "k", 1).Allowed, false)
}

// The list of resets is something else, and no node hears what is written there.
func resetWrongType(t *testing.T, where corner) {
	a, b := NewLimiter(where.open(t), nil), NewLimiter(where.open(t), nil)
	limit := limitOf(2, time.Hour)
	take(t, b, limit, "k", 2)
	equal(t, "allowed", take(t, b, limit, "k", 1).Allowed, false)
	check(t, raw(a.redis).Set(t.Context(), a.redis.keys.resets(), "x", time.Hour).Err())
	check(t, a.Reset(t.Context(), limit, "k"))
	await(t, "the other node to forget", func() bool { return held(t, b, limit, "k") == talk.Holding{} })
}

// A node that begins later does not reset again.
func resetOnce(t *testing.T, where corner) {
	l := NewLimiter(where.open(t), nil)
	limit := limitOf(2, time.Hour)
	check(t, l.Reset(t.Context(), limit, "k"))
	l.hearResets(t.Context()) // its own, so that it does not later
	take(t, l, limit, "k", 2)
	late := NewLimiter(where.open(t), nil)
	for range 2 {
		late.hearResets(t.Context())
	}
	equal(t, "held", held(t, late, limit, "k").Used, 2)
}

// The node has begun to count, and asks what was reset since; until Redis gets
// to answer, time passes.
func TestAResetIsHeardHoweverLongTheQuestionTakes(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	r, other := where.idle(t), NewLimiter(where.open(t), nil)
	limit, once := limitOf(2, time.Hour), sync.Once{}
	l := NewLimiter(r, nil)
	take(t, l, limit, "k", 2)
	raw(r).AddHook(after{func(command func()) {
		once.Do(func() {
			check(t, other.Reset(t.Context(), limit, "k"))
			pass(t, time.Second)
		})
		command()
	}})
	l.hearResets(t.Context())
	equal(t, "held", held(t, l, limit, "k"), talk.Holding{})
}

// A failure that Redis was not told of is not told after the reset.
func TestAResetForgetsFailuresThatRedisDidNotHear(t *testing.T) {
	t.Parallel()
	server, where := own(t)
	l := NewLimiter(where.open(t, quick), nil)
	limit := failuresOf(1, time.Hour)
	a, _, err := l.Begin(t.Context(), limit, "k")
	check(t, err)
	server.Stop()
	a.End(t.Context(), true)
	server.Cont()
	await(t, "the reset", func() bool { return l.Reset(t.Context(), limit, "k") == nil })
	await(t, "all to be told", func() bool {
		l.sayAgain(t.Context())
		l.unsaid.mu.Lock()
		defer l.unsaid.mu.Unlock()
		return len(l.unsaid.ends) == 0
	})
	equal(t, "held", held(t, l, limit, "k"), talk.Holding{})
}

// Whoever resets hears of it where the other nodes would not.
func TestAResetThatRedisRefusesIsNone(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	r := where.open(t)
	l := NewLimiter(r, nil)
	limit := limitOf(2, time.Hour)
	for what, allowed := range map[string]string{"the list": r.keys.limit(limit, "k"), "the log": r.keys.resets()} {
		check(t, raw(r).Do(t.Context(), "acl", "setuser", "default", "resetkeys", "~"+allowed).Err())
		if err := l.Reset(t.Context(), limit, "k"); !errors.Is(err, talk.ErrBusy) {
			t.Errorf("without %s: %v", what, err)
		}
	}
}

func TestDeskWithoutRedis(t *testing.T) {
	t.Parallel()
	l := NewLimiter(corner{url: "redis://127.0.0.1:1"}.idle(t, quick), nil)
	limit := limitOf(5, time.Hour)
	take(t, l, limit, "k", 2)
	equal(t, "held", held(t, l, limit, "k"), talk.Holding{Used: 2, Local: true})
	if err := l.Reset(t.Context(), limit, "k"); !errors.Is(err, talk.ErrBusy) {
		t.Errorf("reset: %v", err)
	}
}

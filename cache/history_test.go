package cache

import (
	"context"
	"sync"
	"testing"

	"github.com/free2talk/free2talk/server/talk"
)

// TestHistories has two nodes on one Redis of which one does not know yet that
// the history of the database is another one.
func TestHistories(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, where corner) {
		of := func(id string) func(*Config) { return func(c *Config) { c.History, c.Near = id, DefaultNear } }
		late, knows := where.open(t, of("before")), where.open(t, of("after"))
		await(t, "what is near", func() bool { return late.Hears() && knows.Hears() })
		lost, kept, gone := talk.Key("room:lost"), talk.Key("room:kept"), talk.Key("room:gone")
		before, after := newNumbers(), newNumbers()
		before.set(lost, 1)
		before.set(kept, 2)
		after.set(kept, 1)
		after.set(gone, 1)
		old, fresh := before.cache(late), after.cache(knows)

		for range 2 { // whichever of them was the last to fill
			equal(t, "kept, before", get(t, old, kept), 2)
			equal(t, "lost, before", get(t, old, lost), 1)
			isGone(t, old, gone)
			isGone(t, fresh, lost)
			equal(t, "kept", get(t, fresh, kept), 1)
			equal(t, "gone", get(t, fresh, gone), 1)
			late.near.forgetAll()
			knows.near.forgetAll()
		}
		t.Run("only what is of this history is held", func(t *testing.T) {
			equal(t, "kept", get(t, fresh, kept), 1)
			for r, want := range map[*Redis]int{late: 0, knows: 1} {
				held, err := r.Holds(t.Context(), kept)
				check(t, err)
				equal(t, "held", held, want)
			}
		})
		t.Run("what the one that does not know changes is forgotten", func(t *testing.T) {
			equal(t, "kept", get(t, fresh, kept), 1)
			after.set(kept, 3)
			check(t, late.Forget(t.Context(), kept))
			await(t, "the change", func() bool { return get(t, fresh, kept) == 3 })
		})
		t.Run("what it tells is not heard", func(t *testing.T) { apart(t, late, knows) })
	})
}

func isGone(t *testing.T, c *Typed[int], key talk.Key) {
	t.Helper()
	if v, ok, err := c.Get(t.Context(), key); ok || err != nil {
		t.Errorf("%s is %d, %v", key, v, err)
	}
}

// apart publishes on both sides of a history's end.
func apart(t *testing.T, late, knows *Redis) {
	heard := &listenerOf{heard: map[talk.Topic]int{}}
	own, other := NewBus(knows, heard), NewBus(late, &listenerOf{heard: map[talk.Topic]int{}})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { own.Run(ctx) })
	defer running.Wait()
	defer cancel()
	topic := someTopic(1)
	own.Listen(topic)
	await(t, "the subscription", func() bool { return own.Hears(topic) })
	for _, bus := range []*Bus{other, own} { // in this order: what is heard of the second comes after the first
		check(t, bus.Publish(t.Context(), []talk.Event{{Topic: topic, Seq: 1, Fact: talk.Moved{}}}))
	}
	await(t, "its own event", func() bool { return heard.count(topic) > 0 })
	equal(t, "events", heard.count(topic), 1)
}

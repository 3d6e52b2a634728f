package cache

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// Reads of many things that Redis does not have leave the others half of the
// database: so many load at once, and the others wait.
func TestLoadsAreBounded(t *testing.T) {
	t.Parallel()
	where := embedded(t)
	r := where.open(t, func(c *Config) { c.Loads = 3 })
	world := newNumbers()
	var running, most atomic.Int64
	world.before = func([]talk.Key) {
		n := running.Add(1)
		for seen := most.Load(); n > seen && !most.CompareAndSwap(seen, n); seen = most.Load() {
		}
		pass(t, 5*time.Millisecond)
	}
	world.after = func([]talk.Key) { running.Add(-1) }
	c := world.cache(r)
	var all sync.WaitGroup
	for i := range 60 {
		key := talk.RoomKey(talk.RoomID(strconv.Itoa(i)))
		world.set(key, i)
		all.Go(func() { equal(t, "value", get(t, c, key), i) })
	}
	all.Wait()
	equal(t, "at once", most.Load(), 3)
}

func TestLoadsThatDoNotEndAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	where := embedded(t)
	r := where.open(t, func(c *Config) { c.Loads = 1 })
	world := newNumbers()
	world.set(roomA, 1)
	loading, stuck := make(chan struct{}), make(chan struct{})
	world.before = func(keys []talk.Key) {
		if keys[0] == roomA {
			close(loading)
			<-stuck
		}
	}
	c := world.cache(r)
	var all sync.WaitGroup
	all.Go(func() { equal(t, "value", get(t, c, roomA), 1) })
	<-loading
	if _, _, err := c.Get(t.Context(), talk.RoomKey("other")); !errors.Is(err, talk.ErrBusy) {
		t.Errorf("got %v", err)
	}
	close(stuck)
	all.Wait()
}

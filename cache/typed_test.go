package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

const roomA = talk.Key("room:a")

func TestTyped(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, where corner) {
		for name, test := range map[string]func(*testing.T, *Redis){
			"a value is loaded once":                         valueIsLoadedOnce,
			"absence is remembered, and ended by creation":   absenceIsRemembered, // defect 15
			"who loaded before a write does not fill after":  staleFill,           // defect 1
			"a lease that is never filled ends":              leaseEnds,
			"another node waits for the leaseholder":         waitsForLeaseholder,
			"a thousand misses at once are one load a node":  thousandMisses,
			"what cannot be read is a miss":                  unreadable,
			"many are read in one trip and one load":         many,
			"an error of the load is the reader's":           loadFails,
			"a pattern is forgotten":                         pattern,
			"existence is told without a load":               exists,
			"every entry has a time to live":                 timeToLive,
			"a restarted server that knows no script serves": noScript,
		} {
			t.Run(name, func(t *testing.T) {
				where.prefix += fmt.Sprint(len(name)) + name[:3] + ":" // the cases share a server
				test(t, where.open(t))
			})
		}
	})
}

func valueIsLoadedOnce(t *testing.T, r *Redis) {
	world := newNumbers()
	world.set(roomA, 7)
	c := world.cache(r)
	for range 5 {
		equal(t, "value", get(t, c, roomA), 7)
	}
	equal(t, "loads", world.loads.Load(), 1)
}

func absenceIsRemembered(t *testing.T, r *Redis) {
	world := newNumbers()
	c := world.cache(r)
	for range 5 {
		_, ok, err := c.Get(t.Context(), roomA)
		check(t, err)
		equal(t, "there", ok, false)
	}
	equal(t, "loads", world.loads.Load(), 1)
	left := raw(r).PTTL(t.Context(), r.keys.entry(roomA)).Val()
	if left < 14*time.Second || left > 30*time.Second {
		t.Fatalf("absence lasts %s", left)
	}
	world.set(roomA, 1)
	check(t, r.Forget(t.Context(), roomA))
	equal(t, "value", get(t, c, roomA), 1)
}

func staleFill(t *testing.T, r *Redis) {
	world := newNumbers()
	world.set(roomA, 1)
	loaded, write := make(chan struct{}), make(chan struct{})
	var once sync.Once
	world.after = func([]talk.Key) {
		once.Do(func() { close(loaded); <-write })
	}
	c := world.cache(r)
	early := make(chan int)
	go func() { early <- get(t, c, roomA) }()
	<-loaded // it has read 1, and has not stored it
	world.set(roomA, 2)
	check(t, r.Forget(t.Context(), roomA))
	close(write)
	equal(t, "the early reader", <-early, 1)
	equal(t, "a reader after the write", get(t, c, roomA), 2)
	equal(t, "again", get(t, c, roomA), 2)
	equal(t, "loads", world.loads.Load(), 2)
}

func leaseEnds(t *testing.T, r *Redis) {
	world := newNumbers()
	world.set(roomA, 1)
	c := world.cache(r)
	// Somebody took the lease, and died.
	check(t, raw(r).Set(t.Context(), r.keys.entry(roomA), newLease(r.history), 700*time.Millisecond).Err())
	equal(t, "who does not wait for it", get(t, c, roomA), 1)
	entry := raw(r).Get(t.Context(), r.keys.entry(roomA)).Val()
	if entry == "" || entry[0] != tagLease {
		t.Fatal("a reader without the lease filled")
	}
	await(t, "the lease to end", func() bool { return raw(r).Exists(t.Context(), r.keys.entry(roomA)).Val() == 0 })
	equal(t, "value", get(t, c, roomA), 1)
	before := world.loads.Load()
	equal(t, "value", get(t, c, roomA), 1)
	equal(t, "loads", world.loads.Load(), before)
}

func waitsForLeaseholder(t *testing.T, r *Redis) {
	world := newNumbers()
	world.set(roomA, 1)
	lease := newLease(r.history)
	check(t, raw(r).Set(t.Context(), r.keys.entry(roomA), lease, patient).Err())
	answer := make(chan int)
	go func() { answer <- get(t, world.cache(r), roomA) }()
	fill := scriptFill.run(r.keys.entry(roomA), lease, filled(lease, 'a', []byte("5")), 60_000)
	check(t, r.cache.do(t.Context(), fill))
	equal(t, "value", <-answer, 5)
	equal(t, "loads", world.loads.Load(), 0)
}

func thousandMisses(t *testing.T, r *Redis) {
	world := newNumbers()
	world.set(roomA, 1)
	c := world.cache(r)
	var all sync.WaitGroup
	for range 1000 {
		all.Go(func() { equal(t, "value", get(t, c, roomA), 1) })
	}
	all.Wait()
	if n := world.loads.Load(); n > 2 {
		t.Fatalf("%d loads", n)
	}
}

func unreadable(t *testing.T, r *Redis) {
	world := newNumbers()
	world.set(roomA, 9)
	c := world.cache(r)
	ctx, name := t.Context(), r.keys.entry(roomA)
	whole := string(filled(newLease(r.history), 'a', []byte("[3]")))
	plant := map[string]func() error{
		"empty":       func() error { return raw(r).Set(ctx, name, "", time.Minute).Err() },
		"cut short":   func() error { return raw(r).Set(ctx, name, whole[:9], time.Minute).Err() },
		"cut payload": func() error { return raw(r).Set(ctx, name, whole[:valueHead+1], time.Minute).Err() },
		"another kind": func() error {
			return raw(r).Set(ctx, name, string(filled(newLease(r.history), 'b', []byte("3"))), time.Minute).Err()
		},
		"a later shape": func() error { return raw(r).Set(ctx, name, whole[:17]+"\xff"+whole[18:], time.Minute).Err() },
		"garbage":       func() error { return raw(r).Set(ctx, name, "Zzzzzzzzzzzzzzzzzzzzzzzz", time.Minute).Err() },
		"a list":        func() error { return raw(r).RPush(ctx, name, "x").Err() },
		"a hash":        func() error { return raw(r).HSet(ctx, name, "x", "y").Err() },
	}
	for what, wrong := range plant {
		raw(r).Del(ctx, name)
		check(t, wrong())
		equal(t, what, get(t, c, roomA), 9)
		equal(t, what+", then", get(t, c, roomA), 9)
		before := world.loads.Load()
		equal(t, what+", at last", get(t, c, roomA), 9)
		equal(t, what+": loads", world.loads.Load(), before)
	}
}

func many(t *testing.T, r *Redis) {
	world := newNumbers()
	var keys []talk.Key
	for i := range 90 {
		key := talk.RoomKey(talk.RoomID(fmt.Sprint(i)))
		keys = append(keys, key)
		if i%3 != 0 {
			world.set(key, i)
		}
	}
	c := world.cache(r)
	for range 2 {
		found, err := c.GetAll(t.Context(), keys)
		check(t, err)
		equal(t, "found", len(found), 60)
		equal(t, "one of them", found["room:4"], 4)
		equal(t, "loads", world.loads.Load(), 1)
	}
	check(t, c.Invalidate(t.Context(), keys[:10]...))
	_, err := c.GetAll(t.Context(), keys)
	check(t, err)
	equal(t, "loads", world.loads.Load(), 2)
}

func loadFails(t *testing.T, r *Redis) {
	world := newNumbers()
	world.err = talk.ErrDatabaseUnavailable
	c := world.cache(r)
	_, _, err := c.Get(t.Context(), roomA)
	if !errors.Is(err, talk.ErrDatabaseUnavailable) {
		t.Fatalf("got %v", err)
	}
	world.err = nil
	world.set(roomA, 1)
	began := time.Now()
	equal(t, "value", get(t, c, roomA), 1) // the lease was given back: nobody waits for it
	equal(t, "stored", get(t, c, roomA), 1)
	equal(t, "loads", world.loads.Load(), 2)
	if took := time.Since(began); took > leaseTTL/2 {
		t.Fatalf("took %s", took)
	}
}

func pattern(t *testing.T, r *Redis) {
	world := newNumbers()
	c := world.cache(r)
	var keys []talk.Key
	for i := range 1200 {
		key := talk.RoomKey(talk.RoomID(fmt.Sprint(i)))
		keys = append(keys, key)
		world.set(key, i)
	}
	for some := range slices.Chunk(keys, 100) { // a slow server's leases would end before all are filled
		_, err := c.GetAll(t.Context(), some)
		check(t, err)
	}
	for pattern, want := range map[string]int{"user:*": 0, "room:7*": 111} {
		n, err := r.InvalidatePattern(t.Context(), pattern)
		check(t, err)
		equal(t, pattern, n, want)
	}
	n, err := r.InvalidatePattern(t.Context(), "*")
	check(t, err)
	equal(t, "the rest", n, 1089)
	world.set("room:5", 50)
	equal(t, "value", get(t, c, "room:5"), 50)
}

func exists(t *testing.T, r *Redis) {
	world := newNumbers()
	world.set(roomA, 1)
	c := world.cache(r)
	there := func(key talk.Key) bool {
		ok, err := c.Exists(t.Context(), key)
		check(t, err)
		return ok
	}
	equal(t, "before", there(roomA), false)
	get(t, c, roomA)
	equal(t, "after", there(roomA), true)
	_, _, err := c.Get(t.Context(), "room:none")
	check(t, err)
	equal(t, "an absence", there("room:none"), false)
	check(t, raw(r).RPush(t.Context(), r.keys.entry("room:wrong"), "x").Err())
	held, err := r.Holds(t.Context(), roomA, "room:none", "room:wrong", "room:never")
	check(t, err)
	equal(t, "held", held, 1)
}

func timeToLive(t *testing.T, r *Redis) {
	world := newNumbers()
	c := world.cache(r)
	seen := map[int64]bool{}
	for i := range 20 {
		key := talk.RoomKey(talk.RoomID(fmt.Sprint(i)))
		world.set(key, i)
		get(t, c, key)
		left := raw(r).PTTL(t.Context(), r.keys.entry(key)).Val()
		if left < roomTTL*9/10-time.Second || left > roomTTL*11/10 {
			t.Fatalf("%s lasts %s", key, left)
		}
		seen[int64(left/time.Second)] = true
	}
	if len(seen) < 3 {
		t.Fatal("all end together")
	}
}

func noScript(t *testing.T, r *Redis) {
	world := newNumbers()
	world.set(roomA, 1)
	c := world.cache(r)
	// Other tests use their scripts too: what they lose here they load again.
	check(t, r.eachMaster(t.Context(), func(ctx context.Context, master redisClient) error { return master.ScriptFlush(ctx).Err() }))
	get(t, c, roomA)
	equal(t, "value", get(t, c, roomA), 1)
	equal(t, "loads", world.loads.Load(), 1)
	check(t, r.eachMaster(t.Context(), func(ctx context.Context, master redisClient) error { return master.ScriptFlush(ctx).Err() }))
	world.set(roomA, 2)
	check(t, r.Forget(t.Context(), roomA))
	equal(t, "value", get(t, c, roomA), 2)
}

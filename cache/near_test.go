package cache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/server/talk"
)

// nearly has a node keep what it reads.
func nearly(c *Config) { c.Near = DefaultNear }

// openNear returns a node's Redis that hears what the others forget.
func (c corner) openNear(t testing.TB, options ...func(*Config)) *Redis {
	t.Helper()
	r := c.open(t, append(options, nearly)...)
	await(t, "invalidations to be heard", r.Hears)
	return r
}

// untilNear reads a key until it is near.
func untilNear(t testing.TB, r *Redis, c *Typed[int], key talk.Key) {
	t.Helper()
	_, name := key.Split()
	await(t, "the entry to be near", func() bool {
		_ = get(t, c, key)
		return r.near.get(nearKey{c.kind, name}) != nil
	})
}

func TestNear(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, where corner) {
		for name, test := range map[string]func(*testing.T, corner){
			"a hit asks nobody": nearHits,
			"a write is seen at once where it was acknowledged":  nearOwnWrite,
			"a write elsewhere is heard":                         nearOtherWrite,
			"absence is near until somebody is created":          nearAbsence,
			"who read before a write does not keep what was":     nearSlowReader,
			"who looked before a write does not keep what was":   nearSlowLook,
			"flushing by pattern reaches what Redis has not any": nearFlush,
		} {
			t.Run(name, func(t *testing.T) { test(t, corner{where.url, where.prefix + fmt.Sprint(rand.Uint32()) + ":"}) })
		}
	})
}

const roomNear = talk.Key("room:near")

func nearHits(t *testing.T, where corner) {
	r, world := where.openNear(t), newNumbers()
	world.set(roomNear, 1)
	c := world.cache(r)
	untilNear(t, r, c, roomNear)
	check(t, r.client.Del(t.Context(), r.keys.entry(roomNear)).Err())
	loads, hits := world.loads.Load(), c.stats.near.n.Load()
	for range 100 {
		equal(t, "value", get(t, c, roomNear), 1)
	}
	equal(t, "loads", world.loads.Load(), loads)
	equal(t, "hits", c.stats.near.n.Load(), hits+100)
}

func nearOwnWrite(t *testing.T, where corner) {
	r, world := where.openNear(t), newNumbers()
	world.set(roomNear, 0)
	c := world.cache(r)
	for version := range 50 {
		untilNear(t, r, c, roomNear)
		world.set(roomNear, version)
		check(t, c.Invalidate(t.Context(), roomNear))
		equal(t, "after the acknowledgement", get(t, c, roomNear), version)
	}
}

func nearOtherWrite(t *testing.T, where corner) {
	r, other, world := where.openNear(t), where.openNear(t), newNumbers()
	world.set(roomNear, 0)
	c := world.cache(r)
	for version := range 20 {
		untilNear(t, r, c, roomNear)
		world.set(roomNear, version)
		check(t, other.Forget(t.Context(), roomNear))
		acknowledged := time.Now()
		await(t, "the write", func() bool { return get(t, c, roomNear) == version })
		if late := time.Since(acknowledged); late > beatLasts {
			t.Errorf("seen after %v", late)
		}
	}
}

func nearAbsence(t *testing.T, where corner) {
	r, world := where.openNear(t), newNumbers()
	c := world.cache(r)
	await(t, "the absence to be near", func() bool {
		_, ok, err := c.Get(t.Context(), roomNear)
		check(t, err)
		equal(t, "there is", ok, false)
		return c.stats.nearNegative.n.Load() > 0
	})
	world.set(roomNear, 1)
	check(t, r.Forget(t.Context(), roomNear))
	equal(t, "created", get(t, c, roomNear), 1)
}

// A reader that has looked before a write, and comes home after it was told,
// must not keep what it saw.
func nearSlowReader(t *testing.T, where corner) {
	r, other, world := where.openNear(t), where.openNear(t), newNumbers()
	world.set(roomNear, 1)
	var once sync.Once
	c := world.cache(r)
	world.after = func([]talk.Key) {
		once.Do(func() {
			was := r.near.stamp(nearKey{c.kind, "near"})
			world.set(roomNear, 2)
			check(t, other.Forget(t.Context(), roomNear))
			await(t, "the write to be heard", func() bool { return r.near.stamp(nearKey{c.kind, "near"}) != was })
		})
	}
	equal(t, "the slow reader", get(t, c, roomNear), 1)
	equal(t, "who comes after", get(t, c, roomNear), 2)
}

// Redis has answered, and before the reader goes on there is a write.
func nearSlowLook(t *testing.T, where corner) {
	r, other, world := where.openNear(t), where.openNear(t), newNumbers()
	world.set(roomNear, 1)
	equal(t, "in Redis", get(t, world.cache(other), roomNear), 1)
	c := world.cache(r)
	var once sync.Once
	raw(r).AddHook(answered{"get", func() {
		once.Do(func() {
			was := r.near.stamp(nearKey{c.kind, "near"})
			world.set(roomNear, 2)
			check(t, other.Forget(t.Context(), roomNear))
			await(t, "the write to be heard", func() bool { return r.near.stamp(nearKey{c.kind, "near"}) != was })
		})
	}})
	equal(t, "the slow reader", get(t, c, roomNear), 1)
	equal(t, "who comes after", get(t, c, roomNear), 2)
}

// answered is a hook of go-redis that does something when a command of a name was
// answered, before its caller hears of it.
type answered struct {
	name string
	do   func()
}

func (answered) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a answered) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == a.name {
			a.do()
		}
		return err
	}
}

func (answered) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func nearFlush(t *testing.T, where corner) {
	r, other, world := where.openNear(t), where.openNear(t), newNumbers()
	world.set(roomNear, 1)
	c := world.cache(r)
	untilNear(t, r, c, roomNear)
	check(t, r.client.Del(t.Context(), r.keys.entry(roomNear)).Err())
	world.set(roomNear, 2) // behind everybody's back
	_, err := other.InvalidatePattern(t.Context(), "*")
	check(t, err)
	await(t, "the flush", func() bool { return get(t, c, roomNear) == 2 })
}

// A node that hears of a write at once, and reads again at once, must find what
// was written: who is told finds the entry unlinked.
func TestNearIsToldNoSoonerThanUnlinked(t *testing.T) {
	t.Parallel()
	where, world := embedded(t), newNumbers()
	r, writer := where.openNear(t), where.open(t)
	world.set(roomNear, 0)
	c := world.cache(r)
	key := nearKey{c.kind, "near"}
	raw(writer).AddHook(after{func(command func()) { // each of the writer
		was := r.near.stamp(key)
		command()
		late := time.After(50 * time.Millisecond)
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for r.near.stamp(key) == was {
			select {
			case <-late:
				return // it told nothing, or had been heard already
			case <-tick.C:
			}
		}
		_ = get(t, c, roomNear)
	}})
	for version := 1; version <= 5; version++ {
		r.near.forgetAll()
		untilNear(t, r, c, roomNear) // and in Redis
		world.set(roomNear, version)
		check(t, writer.Forget(t.Context(), roomNear))
		await(t, "the write", func() bool { return get(t, c, roomNear) == version })
	}
}

// after does something around each command that tells of a write.
type after struct{ do func(command func()) }

func (after) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a after) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		name := cmd.Name()
		if name != "publish" && !strings.HasPrefix(name, "eval") || strings.Contains(fmt.Sprint(cmd.Args()[1]), "invalidate:") {
			return next(ctx, cmd) // a heartbeat, for one
		}
		var err error
		a.do(func() { err = next(ctx, cmd) })
		return err
	}
}

func (after) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// What was told while a node could not hear is not served by it afterwards,
// however short that was.
func TestNearEndsItsEpochWithTheConnection(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	r, other, world := where.openNear(t), where.open(t), newNumbers()
	world.set(roomNear, 0)
	c := world.cache(r)
	for version := range 5 {
		untilNear(t, r, c, roomNear)
		epoch := r.near.epoch.Load()
		check(t, raw(r).Do(t.Context(), "client", "kill", "type", "pubsub").Err())
		world.set(roomNear, version)
		check(t, other.Forget(t.Context(), roomNear)) // nobody hears it
		await(t, "another epoch", func() bool { return r.near.epoch.Load() > epoch })
		await(t, "invalidations to be heard", r.Hears)
		equal(t, "after the silence", get(t, c, roomNear), version)
	}
}

// A connection that stands and says nothing is believed for a second.
func TestNearBelievesNoSilence(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	r, other, world := where.idle(t, nearly), where.open(t), newNumbers()
	var deaf atomic.Bool
	hear := r.hearing.subscription.ears.message
	r.hearing.subscription.ears.message = func(channel, payload string) {
		if !deaf.Load() {
			hear(channel, payload)
		}
	}
	watch(t, r)
	await(t, "invalidations to be heard", r.Hears)
	world.set(roomNear, 1)
	c := world.cache(r)
	untilNear(t, r, c, roomNear)
	deaf.Store(true)
	world.set(roomNear, 2)
	check(t, other.Forget(t.Context(), roomNear))
	acknowledged := time.Now()
	await(t, "the write", func() bool { return get(t, c, roomNear) == 2 })
	if late := time.Since(acknowledged); late > beatLasts+100*time.Millisecond {
		t.Errorf("an entry was served for %v without a word", late)
	}
}

// What was told in a silence is not served after it either, however short it was
// and though the connection stood: the bus of a Cluster drops what it cannot pass on.
func TestNearBelievesNothingFromBeforeASilence(t *testing.T) {
	t.Parallel()
	for name, silence := range map[string]time.Duration{"short": 2 * beatEvery, "longer than a heartbeat holds": 3 * beatLasts / 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, where := own(t)
			r, other, world := where.idle(t, nearly), where.open(t), newNumbers()
			var deaf atomic.Bool
			var missed atomic.Int64
			hear := r.hearing.subscription.ears.message
			r.hearing.subscription.ears.message = func(channel, payload string) {
				if !deaf.Load() {
					hear(channel, payload)
				} else if channel == r.hearing.channel {
					missed.Add(1)
				}
			}
			watch(t, r)
			await(t, "invalidations to be heard", r.Hears)
			world.set(roomNear, 1)
			c := world.cache(r)
			untilNear(t, r, c, roomNear)
			deaf.Store(true)
			world.set(roomNear, 2)
			check(t, other.Forget(t.Context(), roomNear))
			pass(t, silence)
			await(t, "a heartbeat to be missed", func() bool { return missed.Load() > 0 })
			deaf.Store(false)
			until := r.near.until.Load()
			await(t, "a heartbeat to be heard", func() bool { return r.near.until.Load() > until })
			equal(t, "after the silence", get(t, c, roomNear), 2)
		})
	}
}

// A heartbeat through two masters is lost where a later one overtakes it, and not
// where it is late, or was never sent.
func TestNearEndsItsEpochWithALostHeartbeat(t *testing.T) {
	t.Parallel()
	for name, second := range map[string]struct {
		took  int // masters
		heard int // of them before the third heartbeat is sent
		late  int // and when the first master's part of the third has been heard
		near  bool
	}{
		"whole":                          {took: 2, heard: 2, near: true},
		"late":                           {took: 2, heard: 1, late: 1, near: true},
		"all of it late":                 {took: 2, late: 2, near: true},
		"a part lost":                    {took: 2, heard: 1},
		"lost":                           {took: 2},
		"of one master, for want of two": {took: 1, heard: 1, near: true},
		"of one master, and lost":        {took: 1},
		"of none":                        {near: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := embedded(t).idle(t, nearly).hearing
			masters := twoMasters{h}
			masters.pass(masters.send(time.Now(), 2), 2)
			kept := masters.keep()
			number := masters.send(time.Now(), second.took)
			masters.pass(number, second.heard)
			last := masters.send(time.Now(), 2)
			masters.pass(last, 1)
			masters.pass(number, second.late)
			equal(t, "near before the third is heard", kept(), true)
			masters.pass(last, 1)
			equal(t, "near", kept(), second.near)
		})
	}
}

// What was sent before a connection stood could not come back on it.
func TestNearKeepsWhatIsReadWhenTheConnectionStands(t *testing.T) {
	t.Parallel()
	masters := twoMasters{embedded(t).idle(t, nearly).hearing}
	masters.send(time.Now(), 2)
	masters.up()
	kept := masters.keep()
	masters.pass(masters.send(time.Now(), 2), 2)
	equal(t, "near", kept(), true)
}

// Where no heartbeat tells of the time in between, nothing from before is believed.
func TestNearBelievesNothingFromBeforeItSlept(t *testing.T) {
	t.Parallel()
	masters := twoMasters{embedded(t).idle(t, nearly).hearing}
	now := time.Now()
	masters.pass(masters.send(now, 2), 2)
	kept := masters.keep()
	masters.pass(masters.send(now.Add(beatLasts), 2), 2)
	equal(t, "near after a second", kept(), true)
	masters.pass(masters.send(now.Add(2*beatLasts+time.Millisecond), 2), 2)
	equal(t, "near after more than a second", kept(), false)
}

// twoMasters pass heartbeats on.
type twoMasters struct{ *hearing }

// send starts a heartbeat that so many take.
func (m twoMasters) send(sent time.Time, took int) (number uint64) {
	number = m.begin(sent)
	m.told(number, took, took == 2)
	return number
}

// pass has a heartbeat come back through so many.
func (m twoMasters) pass(number uint64, through int) {
	for range through {
		m.message(m.channel, strconv.FormatUint(number, 10))
	}
}

// keep puts something near, and returns whether it is served.
func (m twoMasters) keep() (kept func() bool) {
	key := nearKey{name: "near"}
	since := m.near.stamp(key)
	m.near.put(key, since, &nearEntry{epoch: since.epoch})
	return func() bool { return m.near.get(key) != nil }
}

// Where Redis is away, a load is near for a second, and no longer than until
// this process writes.
func TestNearWithoutRedis(t *testing.T) {
	t.Parallel()
	server, where := own(t)
	r, world := where.open(t, nearly, quick), newNumbers()
	server.Stop()
	defer server.Cont()
	await(t, "redis to be away", func() bool { return !r.Usable() })
	world.set(roomNear, 1)
	c := world.cache(r)
	equal(t, "loaded", get(t, c, roomNear), 1)
	loads := world.loads.Load()
	equal(t, "near", get(t, c, roomNear), 1)
	equal(t, "loads", world.loads.Load(), loads)
	world.set(roomNear, 2)
	if err := r.Forget(t.Context(), roomNear); err == nil {
		t.Error("forgotten in a redis that is away")
	}
	equal(t, "after a write of this node", get(t, c, roomNear), 2)
	world.set(roomNear, 3) // another node's
	pass(t, nearAlone)
	equal(t, "a second later", get(t, c, roomNear), 3)
}

// A sampled comparison finds what an invalidation that went missing has left.
func TestNearProvesItself(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	r, world := where.openNear(t), newNumbers()
	world.set(roomNear, 1)
	c := world.cache(r)
	c.proof = proof{each: 1, after: 10 * time.Millisecond}
	untilNear(t, r, c, roomNear)
	_ = get(t, c, roomNear)
	await(t, "a comparison", func() bool { return world.loads.Load() > 1 && !c.proof.busy.Load() })
	equal(t, "stale", c.stats.nearStale.n.Load(), 0)
	world.set(roomNear, 2) // and nobody is told
	await(t, "the proof", func() bool { _ = get(t, c, roomNear); return c.stats.nearStale.n.Load() > 0 })
}

// C1 with what is near: no read is older than what the node that is asked had
// acknowledged before, nor than what any node had acknowledged a second
// before; also while connections break.
func TestC1_near_no_read_is_older_than_a_second(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	w := newWorld()
	h := &nearHistory{world: w, nodes: []*Redis{where.openNear(t), where.openNear(t), where.openNear(t)}}
	for i := range h.rooms {
		w.putRoom(roomID(i), "", 0)
		h.rooms[i].own = make([]atomic.Int64, len(h.nodes))
	}
	ctx, cancel := context.WithTimeout(t.Context(), spell(3*time.Second))
	defer cancel()
	var all sync.WaitGroup
	for room := range h.rooms {
		all.Go(func() { h.write(ctx, t, room) })
	}
	for i := range 6 {
		node := i % len(h.nodes)
		reader := w.reader(h.nodes[node])
		all.Go(func() { h.read(ctx, t, reader, node); h.near.Add(reader.rooms.stats.near.n.Load()) })
	}
	all.Go(func() { h.disturb(ctx, t) })
	all.Wait()
	near := h.near.Load()
	t.Logf("%d reads, of which %d near, %d writes, %d loads", h.reads.Load(), near, h.writes.Load(), w.loads.Load())
	if near < h.reads.Load()/10 {
		t.Errorf("of %d reads %d were near", h.reads.Load(), near)
	}
}

type nearHistory struct {
	world         *world
	nodes         []*Redis
	rooms         [8]nearRoom
	reads, writes atomic.Int64
	near          atomic.Int64
}

// nearRoom is what was acknowledged of a room: by each node, and when.
type nearRoom struct {
	own []atomic.Int64
	mu  sync.Mutex
	all []acknowledgement
}

type acknowledgement struct {
	version int64
	at      time.Time
}

func (r *nearRoom) acknowledge(node int, version int64) {
	r.own[node].Store(version)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, acknowledgement{version, time.Now()})
}

// least is the oldest version that a read which begins now may see.
func (r *nearRoom) least(node int) int64 {
	least := r.own[node].Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for len(r.all) > 1 && now.Sub(r.all[1].at) > beatLasts {
		r.all = r.all[1:]
	}
	if len(r.all) > 0 && now.Sub(r.all[0].at) > beatLasts {
		least = max(least, r.all[0].version)
	}
	return least
}

func (h *nearHistory) write(ctx context.Context, t *testing.T, room int) {
	for version := int64(1); ctx.Err() == nil; version++ {
		h.world.putRoom(roomID(room), "", version)
		node := rand.IntN(len(h.nodes))
		if err := h.nodes[node].Forget(ctx, talk.RoomKey(roomID(room))); err != nil {
			t.Errorf("forget: %v", err)
			return
		}
		h.rooms[room].acknowledge(node, version)
		h.writes.Add(1)
		pass(t, time.Duration(rand.IntN(40))*time.Millisecond)
	}
}

func (h *nearHistory) read(ctx context.Context, t *testing.T, reader *Reader, node int) {
	for ctx.Err() == nil {
		room := rand.IntN(len(h.rooms))
		least := h.rooms[room].least(node)
		view, err := reader.Room(context.WithoutCancel(ctx), roomID(room))
		if err != nil || view.Version < least {
			t.Errorf("read version %d (%v) after %d was acknowledged", view.Version, err, least)
			return
		}
		if h.reads.Add(1)%100 == 0 {
			runtime.Gosched()
		}
	}
}

// disturb breaks subscriptions, again and again.
func (h *nearHistory) disturb(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		pass(t, time.Duration(200+rand.IntN(800))*time.Millisecond)
		if err := raw(h.nodes[0]).Do(context.WithoutCancel(ctx), "client", "kill", "type", "pubsub").Err(); err != nil {
			t.Error(err)
		}
	}
}

// Near is bounded by bytes, and the estimate errs upwards.
func TestNearIsBounded(t *testing.T) {
	most := int64(spellBytes)
	_, where := own(t)
	r := where.open(t, func(c *Config) { c.Near = most })
	await(t, "invalidations to be heard", r.Hears)
	w := newWorld()
	reader := w.reader(r)
	name := strings.Repeat("n", 40)
	before := heap()
	for i := range 30_000 {
		value := &found[talk.RoomView]{talk.RoomView{Room: talk.Room{ID: roomID(i), Name: name + fmt.Sprint(i)}}, true}
		key := nearKey{reader.rooms.kind, string(value.value.ID)}
		r.near.put(key, r.near.stamp(key), &nearEntry{value: value, weight: weigh(600), epoch: r.near.epoch.Load()})
	}
	r.near.entries.CleanUp()
	entries, bytes := r.near.stats()
	if grown := heap() - before; grown > most*11/10 || bytes > uint64(most) || entries == 0 {
		t.Errorf("%d entries of %d bytes took %d", entries, bytes, grown)
	}
}

const spellBytes = 4 << 20

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

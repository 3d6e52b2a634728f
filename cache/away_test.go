package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/server/talk"
)

// Defect 12: Redis down costs a request at most a time-out, and the state is
// visible.
func TestFrozen(t *testing.T) {
	t.Parallel()
	server, where := own(t)
	r := where.open(t, quick)
	world := newNumbers()
	world.set(roomA, 1)
	c := world.cache(r)
	get(t, c, roomA)
	server.Stop()
	var worst time.Duration
	for i := range 2000 {
		world.set(roomA, i)
		began := time.Now()
		equal(t, "value", get(t, c, roomA), i)
		worst = max(worst, time.Since(began))
	}
	if worst > 5*defaultTimeout { // one time-out, and a busy machine
		t.Errorf("a read took %s", worst)
	}
	await(t, "the cache to count as away", func() bool { return !r.Usable() })
	frozen := time.Now()
	for range 1000 {
		get(t, c, roomA)
	}
	t.Logf("worst read %s; %s a read while away", worst, time.Since(frozen)/1000)
	if err := r.Forget(t.Context(), roomA); !errors.Is(err, errAway) {
		t.Errorf("forgotten by a frozen Redis: %v", err)
	}
	server.Cont()
	resumed := time.Now()
	await(t, "the cache to be used again", r.Usable)
	t.Logf("used again after %s", time.Since(resumed))
	await(t, "a read without a load", func() bool {
		loads := world.loads.Load()
		equal(t, "value", get(t, c, roomA), 1999)
		return world.loads.Load() == loads
	})
}

// Defect 16: it comes back by itself, however long Redis was away.
func TestAwayForLong(t *testing.T) {
	t.Parallel()
	server, where := own(t)
	server.Kill()
	r := where.idle(t, quick) // it starts without Redis
	world := newNumbers()
	world.set(roomA, 1)
	c := world.cache(r)
	for range 40 { // attempts: four times as many as after which the original gave up
		r.beat(t.Context())
		equal(t, "value", get(t, c, roomA), 1)
		if err := r.Forget(t.Context(), roomA); !errors.Is(err, errAway) {
			t.Fatalf("got %v", err)
		}
	}
	equal(t, "used", r.Usable(), false)
	server.Restart()
	watch(t, r)
	await(t, "the cache to be used", r.Usable)
	await(t, "the dirty keys to be unlinked", func() bool { return !r.dirty.has(roomA) })
	await(t, "a read without a load", func() bool {
		loads := world.loads.Load()
		equal(t, "value", get(t, c, roomA), 1)
		return world.loads.Load() == loads
	})
}

// Defect 11: what could not be invalidated is invalidated before the cache is
// used again, also when the writer died meanwhile.
func TestWriteWhileAway(t *testing.T) {
	t.Parallel()
	server, where := own(t, "--appendonly", "yes", "--appendfsync", "always") // it keeps what it held
	world := newNumbers()
	world.set(roomA, 1)
	var untold atomic.Value // the outbox
	var other *Redis
	var recoveries atomic.Int64
	writer := where.idle(t)
	stop, cancel := context.WithCancel(t.Context())
	go func() { _ = writer.Run(stop) }()
	other = where.open(t, func(c *Config) {
		c.Recover = func(ctx context.Context) error {
			if recoveries.Add(1) == 2 {
				return errors.New("the database is away too")
			}
			if key, ok := untold.Load().(talk.Key); ok {
				return other.Forget(ctx, key)
			}
			return nil
		}
	})
	await(t, "the writer", writer.Usable)
	equal(t, "before", get(t, world.cache(writer), roomA), 1)
	here := world.cache(other)
	equal(t, "before", get(t, here, roomA), 1)

	server.Kill()
	untold.Store(roomA)
	world.set(roomA, 2)
	if err := writer.Forget(t.Context(), roomA); !errors.Is(err, errAway) {
		t.Fatalf("forgotten while redis is away: %v", err)
	}
	equal(t, "the writer's own read", get(t, world.cache(writer), roomA), 2)
	cancel() // the writer dies
	await(t, "the other to notice", func() bool { return !other.Usable() })
	server.Restart()
	kept, err := raw(other).Get(t.Context(), other.keys.entry(roomA)).Result()
	check(t, err)
	equal(t, "what Redis kept", kept[valueHead:], "1")
	await(t, "the other to use redis again", func() bool {
		equal(t, "every read", get(t, here, roomA), 2)
		return other.Usable()
	})
	equal(t, "after", get(t, here, roomA), 2)
	if n := recoveries.Load(); n < 3 { // at the start; the one that failed; the one that told
		t.Errorf("%d recoveries", n)
	}
}

func TestDirtyKeysAreNotRead(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	r := where.idle(t)
	trustNow(t, r)
	world := newNumbers()
	world.set(roomA, 2)
	c := world.cache(r)
	check(t, raw(r).Set(t.Context(), r.keys.entry(roomA), filled(newLease(r.history), 'a', []byte("1")), time.Hour).Err())
	equal(t, "while it is believed", get(t, c, roomA), 1)
	r.dirty.mark([]talk.Key{roomA})
	equal(t, "while it is dirty", get(t, c, roomA), 2)
	equal(t, "what others read", raw(r).Exists(t.Context(), r.keys.entry(roomA)).Val(), 1)
	r.flush(t.Context())
	equal(t, "what others read", raw(r).Exists(t.Context(), r.keys.entry(roomA)).Val(), 0)
	equal(t, "dirty", r.dirty.has(roomA), false)
	trustNow(t, r)
	equal(t, "after", get(t, c, roomA), 2)
	equal(t, "stored", raw(r).Exists(t.Context(), r.keys.entry(roomA)).Val(), 1)
}

// trustNow is what Run does at first, and nothing after it.
func trustNow(t *testing.T, r *Redis) {
	t.Helper()
	r.beat(t.Context())
	if epoch, due := r.trust.recoveryDue(time.Now()); due {
		r.recover(t.Context(), epoch)
	}
	equal(t, "used", r.Usable(), true)
}

// What makes Redis usable again waits for one that is slow just then, in place of
// failing over and over on a machine that has much to do; a call does not.
func TestARecoveryIsPatient(t *testing.T) {
	t.Parallel()
	server, where := own(t)
	var r *Redis
	var hurried error
	r = where.idle(t, quick, func(c *Config) {
		c.Recover = func(ctx context.Context) error {
			server.Stop()
			time.AfterFunc(5*defaultTimeout, server.Cont)
			hurried = r.Forget(t.Context(), roomA)
			return r.Forget(ctx, roomA)
		}
	})
	var epoch uint64
	await(t, "a heartbeat that is answered", func() (due bool) { // on a starving machine one may be lost to the time-out
		r.beat(t.Context())
		epoch, due = r.trust.recoveryDue(time.Now())
		return due
	})
	r.recover(t.Context(), epoch)
	if !errors.Is(hurried, errAway) {
		t.Errorf("a call waited for a frozen Redis: %v", hurried)
	}
	equal(t, "recovered", r.trust.whole, true)
}

// So does what is gathered behind all requests.
func TestTalliesArePatient(t *testing.T) {
	t.Parallel()
	server, where := own(t)
	tallies := NewTallies(where.idle(t, quick))
	server.Stop()
	time.AfterFunc(5*defaultTimeout, server.Cont)
	_, err := tallies.Place(t.Context())
	check(t, err)
	server.Stop()
	time.AfterFunc(5*defaultTimeout, server.Cont)
	added, err := tallies.Add(t.Context(), batchOf("", "1:0", map[time.Time]*talk.HourTally{noon: some("ada")}))
	check(t, err)
	equal(t, "added", added, true)
}

func TestANodeThatSleptDoesNotBelieve(t *testing.T) {
	t.Parallel()
	trust := newTrust(func() {})
	now := time.Now()
	trust.heard(now, "a")
	epoch, due := trust.recoveryDue(now)
	equal(t, "due", due, true)
	equal(t, "whole", trust.recovered(epoch, nil), true)
	equal(t, "at once", trust.usable(now.Add(beatLasts)), true)
	trust.heard(now.Add(beatLasts+time.Millisecond), "a") // the first thing it does when it wakes
	equal(t, "after a silence", trust.usable(now.Add(beatLasts+time.Millisecond)), false)
}

func TestAnotherMasterIsNotBelieved(t *testing.T) {
	t.Parallel()
	trust := newTrust(func() {})
	now := time.Now()
	trust.heard(now, "a")
	epoch, _ := trust.recoveryDue(now)
	equal(t, "whole", trust.recovered(epoch, nil), true)
	trust.heard(now.Add(time.Millisecond), "b")
	equal(t, "after a failover", trust.usable(now.Add(time.Millisecond)), false)
}

// What was told the server before, or before a silence, the one that answers
// now may not know.
func TestARecoveryThatSawAFailoverOrASilenceDoesNotCount(t *testing.T) {
	t.Parallel()
	for name, heard := range map[string]func(*trust, time.Time) time.Time{
		"a failover": func(trust *trust, now time.Time) time.Time { trust.heard(now, "b"); return now },
		"a silence": func(trust *trust, now time.Time) time.Time {
			later := now.Add(beatLasts + time.Millisecond)
			trust.heard(later, "a")
			return later
		},
	} {
		trust := newTrust(func() {})
		now := time.Now()
		trust.heard(now, "a")
		epoch, _ := trust.recoveryDue(now)
		now = heard(trust, now)
		equal(t, name+": whole", trust.recovered(epoch, nil), false)
		epoch, due := trust.recoveryDue(now)
		equal(t, name+": due again", due, true)
		equal(t, name+": whole at last", trust.recovered(epoch, nil), true)
	}
}

func TestServerThatCannotServe(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct{ break_, mend [2]string }{
		"a replica":      {[2]string{"replica-read-only", "yes"}, [2]string{}},
		"full of values": {[2]string{"maxmemory", "1"}, [2]string{"maxmemory", "0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, where := own(t)
			r := where.open(t)
			ctx := t.Context()
			wrong, right := func() error { return raw(r).ConfigSet(ctx, fault.break_[0], fault.break_[1]).Err() },
				func() error { return raw(r).ConfigSet(ctx, fault.mend[0], fault.mend[1]).Err() }
			if fault.mend[0] == "" {
				wrong = func() error { return raw(r).Do(ctx, "replicaof", "127.0.0.1", "1").Err() }
				right = func() error { return raw(r).Do(ctx, "replicaof", "no", "one").Err() }
			}
			world := newNumbers()
			c := world.cache(r)
			check(t, wrong())
			for i := range 20 {
				world.set(roomA, i)
				equal(t, "value", get(t, c, roomA), i)
			}
			if err := r.Forget(ctx, roomA); !errors.Is(err, errAway) && name == "a replica" {
				t.Errorf("forgotten on a replica: %v", err)
			}
			l := NewLimiter(r, nil)
			v := take(t, l, limitOf(1, time.Hour), "k", 1)
			equal(t, "allowed", v.Allowed, true)
			equal(t, "local", v.Local, name == "a replica") // a full one still counts
			check(t, right())
			await(t, "the cache to be used", func() bool {
				equal(t, "value", get(t, c, roomA), 19)
				loads := world.loads.Load()
				get(t, c, roomA)
				return r.Usable() && world.loads.Load() == loads
			})
		})
	}
}

// C1: a server that answers reads, and passes heartbeats on, but can be made to
// forget nothing, is not believed by who only reads either.
func TestC1_who_refuses_writes_is_not_believed(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{"single": nil, "cluster": {"--cluster-enabled", "yes"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, where := own(t, args...)
			options, err := redis.ParseURL(server.URL())
			check(t, err)
			ask := redis.NewClient(options)
			defer ask.Close()
			if name == "cluster" {
				check(t, ask.Do(t.Context(), "cluster", "addslotsrange", 0, 16383).Err())
				where.url = "redis+cluster://" + server.Addr()
				await(t, "the cluster", func() bool { return ask.Set(t.Context(), "k", "v", 0).Err() == nil })
			}
			writer, reader := where.open(t, nearly), where.open(t, nearly)
			world := newNumbers()
			world.set(roomA, 1)
			c := world.cache(reader)
			await(t, "a near hit", func() bool {
				loads := world.loads.Load()
				near, _ := reader.Near()
				return get(t, c, roomA) == 1 && world.loads.Load() == loads && near == 1
			})
			check(t, ask.ConfigSet(t.Context(), "min-replicas-to-write", "1").Err())
			world.set(roomA, 2)
			if err := writer.Forget(t.Context(), roomA); !errors.Is(err, errAway) {
				t.Errorf("forgotten: %v", err)
			}
			pass(t, beatLasts) // what a read may be behind
			equal(t, "read after a second", get(t, c, roomA), 2)
			equal(t, "used", reader.Usable(), false)
			check(t, ask.ConfigSet(t.Context(), "min-replicas-to-write", "0").Err())
			await(t, "redis to be used", func() bool { return reader.Usable() && writer.Usable() })
			equal(t, "read at last", get(t, c, roomA), 2)
		})
	}
}

// A Redis whose memory is full takes no lease and no entry, but what is forgotten
// is heard by it as before.
func TestC1_what_a_full_redis_does_not_take_is_near(t *testing.T) {
	t.Parallel()
	server, where := own(t)
	options, err := redis.ParseURL(server.URL())
	check(t, err)
	ask := redis.NewClient(options)
	defer ask.Close()
	writer, reader := where.open(t, nearly), where.open(t, nearly)
	world := newNumbers()
	world.set(roomA, 1)
	c := world.cache(reader)
	await(t, "to be heard", func() bool { return reader.Hears() && writer.Hears() })
	check(t, ask.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
	check(t, ask.ConfigSet(t.Context(), "maxmemory", "1").Err())
	await(t, "a near hit, over a second after the load", func() bool {
		loads := world.loads.Load()
		get(t, c, roomA)
		pass(t, beatLasts)
		return get(t, c, roomA) == 1 && world.loads.Load() <= loads+1 && world.loads.Load() > 0
	})
	equal(t, "used", reader.Usable(), true)
	world.set(roomA, 2)
	check(t, writer.Forget(t.Context(), roomA))
	pass(t, beatLasts)
	equal(t, "read after a second", get(t, c, roomA), 2)
}

// A Redis whose memory is full is there: what it has no room for is not kept in it,
// and what is near stays so.
func TestAFullRedisIsUsed(t *testing.T) {
	t.Parallel()
	for name, press := range map[string]func(brimful, *testing.T){
		"while what it does not have is read": brimful.read,
		"while sessions are used":             brimful.touch,
		"that was not when a load began":      brimful.fill,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, where := own(t)
			f := brimful{where.openNear(t), newNumbers()}
			f.world.set(roomNear, 1)
			c := f.world.cache(f.redis)
			untilNear(t, f.redis, c, roomNear)
			key := nearKey{c.kind, "near"}
			kept, began := f.redis.near.get(key), time.Now()
			check(t, raw(f.redis).ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
			f.limit(t, "1")
			press(f, t)
			equal(t, "failed", f.redis.cache.breaker.failedSince(began), false)
			equal(t, "used", f.redis.Usable(), true)
			equal(t, "near as before", f.redis.near.get(key) == kept, true)
		})
	}
}

// brimful is a node with a Redis that has no memory left.
type brimful struct {
	redis *Redis
	world *numbers
}

func (f brimful) limit(t *testing.T, bytes string) {
	t.Helper()
	if err := raw(f.redis).ConfigSet(t.Context(), "maxmemory", bytes).Err(); err != nil {
		t.Error(err)
	}
}

// read has a crowd read what there is not.
func (f brimful) read(t *testing.T) {
	c, end := f.world.cache(f.redis), time.Now().Add(time.Second)
	var all sync.WaitGroup
	for reader := range 64 {
		all.Go(func() {
			for i := 0; time.Now().Before(end); i++ {
				_, ok, err := c.Get(t.Context(), talk.Key(fmt.Sprintf("room:%d-%d", reader, i)))
				if err != nil || ok || !f.redis.Usable() {
					t.Errorf("read %t, %v; redis is used: %t", ok, err, f.redis.Usable())
					return
				}
			}
		})
	}
	all.Wait()
}

func (f brimful) touch(t *testing.T) {
	sessions := NewSessions(f.redis)
	for range 2 * breakAfter {
		if err := sessions.Touch(t.Context(), []talk.SessionUse{{ID: "s", At: time.Now()}}); err != nil {
			t.Errorf("noted: %v", err)
		}
	}
	used, err := sessions.Used(t.Context(), []talk.SessionID{"s"})
	check(t, err)
	equal(t, "noted", len(used), 0)
}

// fill loads what it has the lease of.
func (f brimful) fill(t *testing.T) {
	f.limit(t, "0")
	f.world.set(roomA, 2)
	f.world.after = func([]talk.Key) { f.limit(t, "1") }
	equal(t, "loaded", get(t, f.world.cache(f.redis), roomA), 2)
	equal(t, "loads", f.world.loads.Load(), 2)
}

func TestFlushed(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	r := where.open(t)
	world := newNumbers()
	c := world.cache(r)
	for i := range 200 {
		world.set(roomA, i)
		check(t, r.Forget(t.Context(), roomA))
		if i%7 == 0 {
			check(t, raw(r).FlushAll(t.Context()).Err())
		}
		equal(t, "value", get(t, c, roomA), i)
	}
}

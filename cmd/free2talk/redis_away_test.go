package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
)

// mix is sixty-four people at all nodes: nine of ten calls read a room, the
// tenth changes one's own.
type mix struct {
	*world
	people []*player
	rooms  []string
	floors []floor

	mu    sync.Mutex
	took  []time.Duration // since the last phase began
	stop  chan struct{}
	end   func()
	done  sync.WaitGroup
	calls atomic.Int64
	wrong atomic.Int64
}

const mixPause = 200 * time.Millisecond // between two calls of one person, at most

func (w *world) mixed(ctx context.Context, n int) *mix {
	w.Helper()
	m := &mix{world: w, people: w.players(n), floors: make([]floor, n), stop: make(chan struct{})}
	for _, p := range m.people {
		m.rooms = append(m.rooms, w.room(p.person, 4).GetId())
	}
	for i := range m.people {
		m.done.Go(func() { m.run(context.WithoutCancel(ctx), i) }) // what is begun is finished
	}
	m.end = sync.OnceFunc(func() { close(m.stop); m.done.Wait() })
	w.Cleanup(m.end)
	return m
}

func (m *mix) run(ctx context.Context, i int) {
	for round := i; ; round++ {
		select {
		case <-m.stop:
			return
		case <-time.After(rand.N(mixPause)):
		}
		began := time.Now()
		var err error
		if round%10 == 0 {
			err = m.write(ctx, i, round)
		} else {
			err = m.read(ctx, i, rand.IntN(len(m.rooms)), round, began)
		}
		took := time.Since(began)
		m.calls.Add(1)
		if err != nil {
			m.wrong.Add(1)
			m.Errorf("after %v a call failed: %v", took, err)
		}
		m.mu.Lock()
		m.took = append(m.took, took)
		m.mu.Unlock()
	}
}

func (m *mix) write(ctx context.Context, i, node int) error {
	reply, err := m.people[i].rooms(node%len(m.nodes)).UpdateRoom(ctx, &free2talkv1.UpdateRoomRequest{
		Room: &free2talkv1.Room{Id: m.rooms[i], Topic: talk.NewID()}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"topic"}},
	})
	m.floors[i].raise(node%len(m.nodes), reply.GetRoom().GetVersion())
	return err
}

// read refuses what is older than what was acknowledged a second before, or by
// the node itself.
func (m *mix) read(ctx context.Context, i, room, node int, began time.Time) error {
	least := m.floors[room].before(node%len(m.nodes), began)
	reply, err := m.people[i].rooms(node%len(m.nodes)).GetRoom(ctx, roomByID(m.rooms[room]))
	if got := reply.GetRoom().GetVersion(); err == nil && got < least {
		m.Errorf("version %d was read after %d was acknowledged", got, least)
	}
	return err
}

// phase makes calls for a while and returns how long each took, in order.
func (m *mix) phase(long time.Duration) []time.Duration {
	m.begin()
	<-time.After(long)
	return m.so()
}

func (m *mix) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.took = nil
}

func (m *mix) so() []time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	slices.Sort(m.took)
	return slices.Clone(m.took)
}

func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(float64(len(sorted))*p))]
}

// usable says that every node reads from Redis.
func (w *world) usable() bool {
	return !slices.ContainsFunc(w.nodes, func(n *testNode) bool { return !n.redis.Usable() })
}

// TestRedisFrozen stops Redis under load. No call fails; what it cost in time
// is told and not judged, since the machine is shared.
func TestRedisFrozen(t *testing.T) {
	server := testenv.StartRedis(t)
	w := newWorld(t, onOwnRedis(server), 2)
	w.redisUsed()
	m := w.mixed(patient(t), 64)
	m.phase(testenv.Effort(500*time.Millisecond, 3*time.Second)) // until the start is over
	before := m.phase(testenv.Effort(1500*time.Millisecond, 5*time.Second))
	calls := m.calls.Load()
	m.begin()
	server.Stop()
	w.eventually(10*time.Second, "the breakers are open", func() bool {
		return !slices.ContainsFunc(w.nodes, func(n *testNode) bool { return w.measured(n, "free2talk_degraded") < 4 })
	})
	opening := m.so()
	frozen := m.phase(testenv.Effort(1500*time.Millisecond, 10*time.Second))
	server.Cont()
	resumed := time.Now()
	w.eventually(10*time.Second, "redis is used", w.usable)
	back := time.Since(resumed)
	worst := max(percentile(opening, 1), percentile(frozen, 1)) - percentile(before, 1)
	added := percentile(frozen, .99) - percentile(before, .99)
	m.phase(500 * time.Millisecond)
	calls = m.calls.Load() - calls
	t.Logf("before: p50 %v, p99 %v, worst %v; opening: worst %v of %d; frozen: p50 %v, p99 %v, worst %v; back after %v",
		percentile(before, .5), percentile(before, .99), percentile(before, 1), percentile(opening, 1), len(opening),
		percentile(frozen, .5), percentile(frozen, .99), percentile(frozen, 1), back)
	each := "calls of 64 callers, 90/10, 2 nodes in one process"
	testenv.Record(t, testenv.Figure{Row: "redis-frozen", What: "failed", Bad: m.wrong.Load(), Of: calls, Each: each})
	testenv.Record(t, testenv.Figure{Row: "redis-frozen", What: "worst added", Took: max(0, worst)})
	testenv.Record(t, testenv.Figure{Row: "redis-frozen", What: "p99 added once the breakers are open", Took: max(0, added)})
	testenv.Record(t, testenv.Figure{Row: "redis-back", What: "after CONT", Took: back})
	if m.wrong.Load() > 0 || calls == 0 {
		t.Errorf("%d of %d calls failed", m.wrong.Load(), calls)
	}
}

// redisFault is something that happens to Redis, and its end.
type redisFault struct {
	name       string
	begin, end func(ctx context.Context, server *testenv.Server, ask *redis.Client) error
}

// least is how long it lasts: reads of what no node can unlink any more are wrong
// from the second second on.
func (f redisFault) least() time.Duration {
	if f.name == "READONLY" || f.name == "NOREPLICAS" {
		return 3 * time.Second
	}
	return 700 * time.Millisecond
}

func nothing(context.Context, *testenv.Server, *redis.Client) error { return nil }

func configured(pairs ...string) func(context.Context, *testenv.Server, *redis.Client) error {
	return func(ctx context.Context, _ *testenv.Server, ask *redis.Client) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := ask.ConfigSet(ctx, pairs[i], pairs[i+1]).Err(); err != nil {
				return err
			}
		}
		return nil
	}
}

func did(args ...any) func(context.Context, *testenv.Server, *redis.Client) error {
	return func(ctx context.Context, _ *testenv.Server, ask *redis.Client) error {
		return ask.Do(ctx, args...).Err()
	}
}

// onEntries does something to every entry of a room.
func onEntries(do func(ctx context.Context, ask *redis.Client, key string) error) func(context.Context, *testenv.Server, *redis.Client) error {
	return func(ctx context.Context, _ *testenv.Server, ask *redis.Client) error {
		keys, err := ask.Keys(ctx, "*room:{*").Result()
		for _, key := range keys {
			if !strings.Contains(key, "presence") {
				err = do(ctx, ask, key)
			}
		}
		return err
	}
}

var redisFaults = []redisFault{
	{"killed_and_empty", func(_ context.Context, s *testenv.Server, _ *redis.Client) error { s.Kill(); return nil },
		func(_ context.Context, s *testenv.Server, _ *redis.Client) error { s.Restart(); return nil }},
	{"FLUSHALL", did("flushall"), nothing},
	{"full_noeviction", configured("maxmemory-policy", "noeviction", "maxmemory", "1"), configured("maxmemory", "0")},
	{"full_allkeys_lru", configured("maxmemory-policy", "allkeys-lru", "maxmemory", "1"), configured("maxmemory", "0")},
	{"half_a_second_slow", slowed, nothing},
	{"LOADING", loading, nothing},
	{"READONLY", did("replicaof", "127.0.0.1", "1"), did("replicaof", "no", "one")},
	{"NOREPLICAS", configured("min-replicas-to-write", "1"), configured("min-replicas-to-write", "0")},
	{"NOSCRIPT", did("script", "flush"), nothing},
	{"a_wrong_type", onEntries(func(ctx context.Context, ask *redis.Client, key string) error {
		pipe := ask.TxPipeline()
		pipe.Del(ctx, key)
		pipe.LPush(ctx, key, "poison")
		_, err := pipe.Exec(ctx)
		return err
	}), nothing},
	{"truncated_values", onEntries(func(ctx context.Context, ask *redis.Client, key string) error {
		value, err := ask.Get(ctx, key).Result()
		if err != nil || len(value) < 30 {
			return nil // written meanwhile
		}
		return ask.Set(ctx, key, value[:len(value)-7], redis.KeepTTL).Err()
	}), nothing},
}

// slowed has Redis answer twice a second, for a while.
func slowed(ctx context.Context, _ *testenv.Server, ask *redis.Client) error {
	for range 4 {
		if err := ask.Do(ctx, "debug", "sleep", "0.5").Err(); err != nil {
			return err
		}
	}
	return nil
}

// loading has Redis read everything from its disk again, slowly, and checks
// that it said so to who asked meanwhile.
func loading(ctx context.Context, _ *testenv.Server, ask *redis.Client) error {
	pipe := ask.Pipeline()
	pipe.Do(ctx, "debug", "populate", 10_000)
	pipe.ConfigSet(ctx, "key-load-delay", "100") // microseconds
	pipe.ConfigSet(ctx, "loading-process-events-interval-bytes", "1024")
	if _, err := pipe.Exec(ctx); err != nil {
		return err
	}
	reloaded := make(chan error, 1)
	go func() { reloaded <- ask.Do(ctx, "debug", "reload").Err() }()
	refused := 0
	for {
		select {
		case err := <-reloaded:
			if err == nil && refused == 0 {
				err = errors.New("nobody was told that it loads")
			}
			return err
		default:
			if err := ask.Incr(ctx, "counted").Err(); err != nil && strings.HasPrefix(err.Error(), "LOADING") {
				refused++
			}
		}
	}
}

// TestRedisFaults: whatever happens to Redis, no call fails, no read is
// older than it may be, and Redis is used again.
func TestRedisFaults(t *testing.T) {
	for _, fault := range redisFaults {
		t.Run(fault.name, func(t *testing.T) {
			server := testenv.StartRedis(t)
			w := newWorld(t, onOwnRedis(server), 2)
			ask := askOf(t, server)
			w.redisUsed()
			m := w.mixed(patient(t), 64)
			m.phase(testenv.Effort(0, 3*time.Second)) // until the start is over
			before := m.phase(testenv.Effort(500*time.Millisecond, 5*time.Second))
			calls := m.calls.Load()
			m.begin()
			if err := fault.begin(t.Context(), server, ask); err != nil {
				t.Fatal(err)
			}
			wait(t.Context(), testenv.Effort(fault.least(), 10*time.Second))
			during := m.so()
			if err := fault.end(t.Context(), server, ask); err != nil {
				t.Fatal(err)
			}
			ended := time.Now()
			w.eventually(10*time.Second, "redis is used", w.usable)
			back := time.Since(ended)
			m.phase(300 * time.Millisecond)
			calls = m.calls.Load() - calls
			t.Logf("before: p50 %v, p99 %v, worst %v; during: p50 %v, p99 %v, worst %v; %d calls, %d failed; back after %v",
				percentile(before, .5), percentile(before, .99), percentile(before, 1),
				percentile(during, .5), percentile(during, .99), percentile(during, 1), calls, m.wrong.Load(), back)
			testenv.Record(t, testenv.Figure{Row: "redis-faults", What: fault.name, Bad: m.wrong.Load(), Of: calls, Each: "calls"})
			if fault.name == "killed_and_empty" {
				testenv.Record(t, testenv.Figure{Row: "redis-back", What: "after a restart", Took: back})
			}
		})
	}
}

// TestWriterDiesWhileRedisIsAway: a real node acknowledges a write that it
// cannot tell anybody of, and is killed. When Redis is back, with what it
// held, nobody serves the old value.
func TestWriterDiesWhileRedisIsAway(t *testing.T) {
	server := testenv.StartRedis(t, persistent...)
	w := newWorld(t, onOwnRedis(server), 2, asPrograms)
	rounds, stale := testenv.Effort(2, 200), int64(0)
	for range rounds {
		w.redisUsed()
		owner := w.player()
		room := w.room(owner.person, 4).GetId()
		writer := w.child(t, w.settings.DatabaseURL)
		c := w.as(writer.testNode, owner.person)
		read := func(i int) int64 {
			reply, err := owner.rooms(i).GetRoom(t.Context(), roomByID(room))
			if err != nil {
				t.Error(err)
			}
			return reply.GetRoom().GetVersion()
		}
		for i := range 4 {
			read(i % 2) // it is in Redis now
		}
		server.Kill()
		w.eventually(10*time.Second, "the nodes know it", func() bool { return !w.nodes[0].redis.Usable() && !w.nodes[1].redis.Usable() })
		reply, err := c.Rooms.UpdateRoom(t.Context(), &free2talkv1.UpdateRoomRequest{
			Room: &free2talkv1.Room{Id: room, Topic: "new"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"topic"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		_ = writer.cmd.Process.Kill()
		<-writer.done
		server.Restart()
		version := reply.GetRoom().GetVersion()
		look := func() bool {
			for i := range w.nodes {
				if got := read(i); got < version {
					stale++
					t.Errorf("node %d shows version %d after %d was acknowledged", i, got, version)
				}
			}
			return w.usable()
		}
		w.eventually(10*time.Second, "redis is used", look)
		for range 5 {
			look()
		}
		if err := owner.close(t.Context(), 0, room); err != nil {
			t.Error(err)
		}
	}
	testenv.Record(t, testenv.Figure{Row: "away-stale", What: "old values served", Bad: stale, Of: int64(rounds), Each: "rounds, the writer kill -9"})
}

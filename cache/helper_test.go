package cache

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
)

// patient bounds what a test waits for: far more than it takes.
const patient = 20 * time.Second

// place of Redis: where it is and what keys are the test's.
type corner struct{ url, prefix string }

// everywhere runs a test on every Redis that this package promises to work on.
func everywhere(t *testing.T, test func(t *testing.T, where corner)) {
	t.Helper()
	places := map[string]func(*testing.T) corner{
		"embedded": embedded,
		"single":   func(t *testing.T) corner { url, prefix := testenv.Redis(t); return corner{url, prefix} },
		"sentinel": func(t *testing.T) corner {
			addr, master := testenv.Sentinel(t)
			return corner{"redis+sentinel://" + addr + "/" + master, testenv.Prefix(t)}
		},
		"cluster": func(t *testing.T) corner {
			return corner{"redis+cluster://" + strings.Join(testenv.RedisCluster(t), ","), testenv.Prefix(t)}
		},
	}
	for _, name := range slices.Sorted(maps.Keys(places)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, places[name](t))
		})
	}
}

func embedded(t *testing.T) corner {
	t.Helper()
	server, err := Embedded()
	check(t, err)
	t.Cleanup(func() { check(t, server.Close()) })
	return corner{server.URL(), testenv.Prefix(t)}
}

// own is a Redis that the test may break.
func own(t testing.TB, args ...string) (*testenv.Server, corner) {
	t.Helper()
	server := testenv.StartRedis(t, args...)
	return server, corner{server.URL(), testenv.Prefix(t)}
}

// open returns a node's Redis that is watched and, unless it is not there, used.
func (c corner) open(t testing.TB, options ...func(*Config)) *Redis {
	t.Helper()
	r := c.idle(t, options...)
	watch(t, r)
	await(t, "redis to be used", r.Usable)
	return r
}

// idle returns a node's Redis that nobody watches yet.
func (c corner) idle(t testing.TB, options ...func(*Config)) *Redis {
	t.Helper()
	config := Config{
		URL: c.url, Prefix: c.prefix, Log: slog.New(slog.DiscardHandler),
		Timeout: 5 * time.Second, // generous: the machine is shared
		Near:    -1,              // what is asked goes to Redis, unless the test is of what is near
	}
	for _, option := range options {
		option(&config)
	}
	r, err := Open(config)
	check(t, err)
	t.Cleanup(func() { check(t, r.Close()) })
	return r
}

// watch runs r until the test ends.
func watch(t testing.TB, r *Redis) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	t.Cleanup(func() { cancel(); check(t, <-done) })
}

// quick is the time-out that a server has by default.
func quick(c *Config) { c.Timeout = defaultTimeout }

// await polls until a condition holds.
func await(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patient)
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("waited in vain for %s", what)
		case <-ticker.C:
		}
	}
}

// pass lets time go by, where that is what the test is about.
func pass(t testing.TB, d time.Duration) {
	t.Helper()
	<-time.After(d)
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// jsonCodec stands in for the wiring's.
type jsonCodec[T any] struct{}

func (jsonCodec[T]) Encode(value T) ([]byte, error) { return json.Marshal(value) }

func (jsonCodec[T]) Weigh(T) int { return 64 }

func (jsonCodec[T]) Decode(payload string) (value T, err error) {
	err = json.Unmarshal([]byte(payload), &value)
	return value, err
}

// counters is a cache of numbers over a world of numbers.
type numbers struct {
	mu     sync.Mutex
	values map[talk.Key]int
	loads  atomic.Int64
	err    error
	// before and after a load looked, where they are set
	before, after func(keys []talk.Key)
}

func newNumbers() *numbers { return &numbers{values: map[talk.Key]int{}} }

func (n *numbers) set(key talk.Key, value int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.values[key] = value
}

func (n *numbers) load(_ context.Context, keys []talk.Key) (map[talk.Key]int, error) {
	n.loads.Add(1)
	if n.before != nil {
		n.before(keys)
	}
	n.mu.Lock()
	values := map[talk.Key]int{}
	for _, key := range keys {
		if v, ok := n.values[key]; ok {
			values[key] = v
		}
	}
	err := n.err
	n.mu.Unlock()
	if n.after != nil {
		n.after(keys)
	}
	return values, err
}

// cache returns a node's cache of the numbers.
func (n *numbers) cache(r *Redis) *Typed[int] {
	c := NewTyped(r, "room", Codec[int](jsonCodec[int]{}), n.load)
	c.proof.each = 0 // loads are counted
	return c
}

// get reads a number that must be there.
func get(t testing.TB, c *Typed[int], key talk.Key) int {
	t.Helper()
	v, ok, err := c.Get(t.Context(), key)
	if err != nil || !ok {
		t.Errorf("%s: there is %t, %v", key, ok, err)
	}
	return v
}

// redisClient is what eachMaster hands out.
type redisClient = redis.UniversalClient

// raw is a client beside the cache, to look and to plant.
func raw(r *Redis) redis.UniversalClient { return r.client }

// spell is how long a test of chance runs.
func spell(short time.Duration) time.Duration { return testenv.Effort(short, time.Minute) }

// eventually waits for check, which is looked at again and again.
func eventually(t testing.TB, check func() bool) {
	t.Helper()
	late := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !check() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("not within 20 s")
		}
	}
}

package testenv

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/internal/testenv/service"
)

// Redis returns the URL of the shared Redis and a key prefix that is this
// test's alone. What stands under the prefix is deleted at the test's end.
func Redis(t testing.TB) (url, prefix string) {
	t.Helper()

	url, prefix = shared(t, envRedis), unique(t)+":"

	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatalf("%s: %v", envRedis, err)
	}

	t.Cleanup(func() {
		client := redis.NewClient(options)
		defer client.Close()

		err := deleteKeys(context.Background(), client, prefix)
		if err != nil {
			t.Errorf("clean up redis: %v", err)
		}
	})
	return url, prefix
}

// RedisCluster returns the addresses (host:port) of the three masters of the
// shared Cluster. Keys are to carry a prefix of [Prefix].
func RedisCluster(t testing.TB) []string {
	t.Helper()
	return strings.Split(shared(t, envCluster), ",")
}

// Sentinel returns the address (host:port) of the shared Sentinel and the
// name of the master it watches. Keys are to carry a prefix of [Prefix].
func Sentinel(t testing.TB) (addr, master string) {
	t.Helper()

	addr, master, _ = strings.Cut(shared(t, envSentinel), ",")
	return addr, master
}

// Prefix returns a key prefix that no other call returns.
func Prefix(t testing.TB) string {
	t.Helper()
	return unique(t) + ":"
}

// deleteKeys deletes the keys that start with prefix.
func deleteKeys(ctx context.Context, client *redis.Client, prefix string) error {
	const batch = 1000

	keys := client.Scan(ctx, 0, prefix+"*", batch).Iterator()
	for keys.Next(ctx) {
		err := client.Unlink(ctx, keys.Val()).Err()
		if err != nil {
			return err
		}
	}
	return keys.Err()
}

// Server is a Redis of one test. Its methods may be called from any
// goroutine; where one fails, the test does.
type Server struct {
	t     testing.TB
	redis *service.Redis
}

// StartRedis starts a Redis for this test alone, with further arguments as
// redis-server takes them ("--appendonly", "yes"). It ends with the test.
func StartRedis(t testing.TB, args ...string) *Server {
	t.Helper()

	server, err := service.StartRedis(t.Context(), args...)
	if err != nil {
		t.Fatalf("start redis: %v", err)
	}

	t.Cleanup(func() { check(t, server.Close()) })
	return &Server{t: t, redis: server}
}

// Addr is the server's host:port.
func (s *Server) Addr() string { return s.redis.Addr() }

// URL is the server's redis:// URL.
func (s *Server) URL() string { return s.redis.URL() }

// Stop freezes the server: connections stay open and nothing is answered.
func (s *Server) Stop() {
	s.t.Helper()
	check(s.t, s.redis.Stop())
}

// Cont lets a frozen server go on.
func (s *Server) Cont() {
	s.t.Helper()
	check(s.t, s.redis.Cont())
}

// Kill ends the server as a crash would and returns when it is gone.
func (s *Server) Kill() {
	s.t.Helper()
	check(s.t, s.redis.Kill())
}

// Restart starts the server again on the same port, killing it first where
// it still runs, and returns when it answers. It is empty unless it was
// started with persistence.
func (s *Server) Restart() {
	s.t.Helper()
	check(s.t, s.redis.Restart(context.WithoutCancel(s.t.Context())))
}

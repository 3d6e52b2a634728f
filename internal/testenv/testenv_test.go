package testenv_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/internal/testenv"
)

func TestPostgres(t *testing.T) {
	t.Parallel()

	t.Run("each test has an empty UTF-8 database of its own", func(t *testing.T) {
		t.Parallel()

		one, two := connect(t, testenv.Postgres(t)), connect(t, testenv.Postgres(t))

		exec(t, one, "CREATE TABLE rooms (id int)")
		exec(t, two, "CREATE TABLE rooms (id int)") // were it the same one: already exists

		if got := ask(t, one, "SHOW server_encoding"); got != "UTF8" {
			t.Errorf("encoding = %s, want UTF8", got)
		}
	})

	t.Run("advisory locks are apart", func(t *testing.T) {
		t.Parallel()

		for range 2 {
			conn := connect(t, testenv.Postgres(t))
			if got := ask(t, conn, "SELECT pg_try_advisory_lock(1)::text"); got != "true" {
				t.Errorf("the lock was taken: %s", got)
			}
		}
	})

	t.Run("the role is an ordinary one", func(t *testing.T) {
		t.Parallel()

		conn := connect(t, testenv.Postgres(t))
		if got := ask(t, conn, "SELECT rolsuper::text FROM pg_roles WHERE rolname = current_user"); got != "false" {
			t.Errorf("superuser = %s, want false", got)
		}
	})

	t.Run("the database goes with the test, open connections or not", func(t *testing.T) {
		t.Parallel()

		var dsn string

		t.Run("inner", func(t *testing.T) {
			dsn = testenv.Postgres(t)

			conn, err := pgx.Connect(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}

			t.Cleanup(func() { go conn.Close(context.Background()) }) // late on purpose
		})

		_, err := pgx.Connect(t.Context(), dsn)
		if err == nil || !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("connect after the test: %v", err)
		}
	})
}

func TestRedis(t *testing.T) {
	t.Parallel()

	t.Run("keys go with the test, and only its own", func(t *testing.T) {
		t.Parallel()

		url, kept := testenv.Redis(t)
		client := dial(t, url)
		client.Set(t.Context(), kept+"a", 1, time.Minute)

		var gone string

		t.Run("inner", func(t *testing.T) {
			_, gone = testenv.Redis(t)
			client.Set(t.Context(), gone+"a", 1, time.Minute)
		})

		if n := client.Exists(t.Context(), gone+"a").Val(); n != 0 {
			t.Error("the inner test's key is still there")
		}
		if n := client.Exists(t.Context(), kept+"a").Val(); n != 1 {
			t.Error("the outer test's key is gone")
		}
	})

	t.Run("the cluster serves every slot", func(t *testing.T) {
		t.Parallel()

		cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: testenv.RedisCluster(t)})
		t.Cleanup(func() { cluster.Close() })

		prefix := testenv.Prefix(t)
		for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
			err := cluster.Set(t.Context(), prefix+key, 1, time.Minute).Err()
			if err != nil {
				t.Errorf("set %s: %v", key, err)
			}
		}
	})

	t.Run("the sentinel names a master that answers", func(t *testing.T) {
		t.Parallel()

		addr, master := testenv.Sentinel(t)
		client := redis.NewFailoverClient(&redis.FailoverOptions{MasterName: master, SentinelAddrs: []string{addr}})
		t.Cleanup(func() { client.Close() })

		err := client.Ping(t.Context()).Err()
		if err != nil {
			t.Error(err)
		}
	})
}

func TestStartRedis(t *testing.T) {
	t.Parallel()

	t.Run("stopped it hangs, continued it answers", func(t *testing.T) {
		t.Parallel()

		server := testenv.StartRedis(t)
		client := dial(t, server.URL())

		server.Stop()

		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()

		err := client.Ping(ctx).Err()
		if err == nil {
			t.Error("a stopped server answered")
		}

		server.Cont()

		err = client.Ping(t.Context()).Err()
		if err != nil {
			t.Error(err)
		}
	})

	for _, c := range []struct {
		name string
		args []string
		left int64
	}{
		{"restarted it is empty", nil, 0},
		{"with persistence it is not", []string{"--appendonly", "yes", "--appendfsync", "always"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			server := testenv.StartRedis(t, c.args...)
			client := dial(t, server.URL())
			client.Set(t.Context(), "a", 1, 0)

			server.Kill()

			err := client.Ping(t.Context()).Err()
			if err == nil {
				t.Error("a killed server answered")
			}

			server.Restart()

			n, err := client.Exists(t.Context(), "a").Result()
			if err != nil || n != c.left {
				t.Errorf("keys left = %d, %v, want %d", n, err, c.left)
			}
		})
	}
}

func TestStartPostgres(t *testing.T) {
	t.Parallel()

	server := testenv.StartPostgres(t)
	conn := connect(t, server.DSN())
	exec(t, conn, "CREATE TABLE rooms (id int)")

	server.Stop()

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()

	_, err := conn.Exec(ctx, "SELECT 1")
	if err == nil {
		t.Error("a stopped server answered")
	}

	server.Cont()
	exec(t, connect(t, server.DSN()), "INSERT INTO rooms VALUES (1)")
	server.Stop() // killing a frozen one must work as well
	server.Kill()

	_, err = pgx.Connect(t.Context(), server.DSN())
	if err == nil {
		t.Error("a killed server took a connection")
	}

	server.Restart()

	if got := ask(t, connect(t, server.DSN()), "SELECT count(*)::text FROM rooms"); got != "1" {
		t.Errorf("rows after the crash = %s, want 1", got)
	}
}

// connect opens a connection that ends with the test.
func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()

	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}

	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func exec(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()

	_, err := conn.Exec(t.Context(), statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// ask returns the one text that a query answers.
func ask(t *testing.T, conn *pgx.Conn, query string) (answer string) {
	t.Helper()

	err := conn.QueryRow(t.Context(), query).Scan(&answer)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return answer
}

// dial opens a client that gives up at once and ends with the test.
func dial(t *testing.T, url string) *redis.Client {
	t.Helper()

	options, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}

	options.MaxRetries, options.ContextTimeoutEnabled = 3, true

	client := redis.NewClient(options)
	t.Cleanup(func() { client.Close() })
	return client
}

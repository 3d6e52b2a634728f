package service

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestByVersion(t *testing.T) {
	t.Parallel()

	paths := []string{"/usr/lib/postgresql/9.6/bin/initdb", "/usr/lib/postgresql/15/bin/initdb", "/bin/initdb"}
	if got := slices.MaxFunc(paths, byVersion); got != paths[1] {
		t.Errorf("newest = %s, want %s", got, paths[1])
	}
}

func TestFind(t *testing.T) {
	t.Parallel()

	if _, err := find("sh"); err != nil {
		t.Error(err)
	}
	if _, err := find("no-such-program"); err == nil || !strings.Contains(err.Error(), "make deps") {
		t.Errorf("err = %v, want what to do about it", err)
	}
}

func TestFreePort(t *testing.T) {
	t.Parallel()

	port, err := freePort()
	if err != nil || port < 15_000 || port >= 32_767 {
		t.Errorf("freePort() = %d, %v, want one below the system's own", port, err)
	}
}

func TestStartRedis(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)

	t.Run("a server that ends at once tells why, from its log", func(t *testing.T) {
		_, err := StartRedis(t.Context(), "--port", "none")
		if !errors.Is(err, errEnded) || !strings.Contains(err.Error(), "argument couldn't be parsed") {
			t.Errorf("err = %v", err)
		}
	})

	t.Run("a cancelled start leaves nothing behind", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()

		_, err := StartRedis(ctx)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v", err)
		}
	})

	t.Run("a closed one neither", func(t *testing.T) {
		server, err := StartRedis(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if alive(server.pid()) {
			t.Error("it is still alive")
		}
	})

	left, err := filepath.Glob(filepath.Join(temp, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q, %v", left, err)
	}
}

func TestChildren(t *testing.T) {
	t.Parallel()

	server, err := StartRedis(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })

	children, err := Children(os.Getpid())
	if err != nil || !slices.Contains(children, server.pid()) {
		t.Errorf("Children() = %v, %v, want %d among them", children, err, server.pid())
	}
}

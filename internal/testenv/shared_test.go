package testenv

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// spy is a test that remembers what it died of.
type spy struct {
	testing.TB

	fatal string
}

func (s *spy) Fatalf(format string, args ...any) {
	s.fatal = fmt.Sprintf(format, args...)
	panic(s) // a real one ends its goroutine
}

func TestMissingServers(t *testing.T) {
	for _, env := range []string{envPostgres, envRedis, envCluster, envSentinel} {
		t.Setenv(env, "")
	}

	for name, ask := range map[string]func(testing.TB){
		"Postgres":     func(t testing.TB) { Postgres(t) },
		"Redis":        func(t testing.TB) { Redis(t) },
		"RedisCluster": func(t testing.TB) { RedisCluster(t) },
		"Sentinel":     func(t testing.TB) { Sentinel(t) },
	} {
		t.Run(name+" fails and says what to do", func(t *testing.T) {
			died := &spy{TB: t}
			func() {
				defer func() { _ = recover() }()
				ask(died)
			}()
			if !strings.Contains(died.fatal, "make test") || strings.Contains(died.fatal, "\n") {
				t.Errorf("it said %q", died.fatal)
			}
		})
	}
}

func TestUnique(t *testing.T) {
	t.Parallel()

	t.Run(`Ein "Name", der für eine Datenbank nicht taugt: '; DROP`, func(t *testing.T) {
		t.Parallel()

		one, two := unique(t), unique(t)
		if one == two {
			t.Errorf("twice the same: %s", one)
		}
		if len(one) > 63 || strings.Trim(one, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			t.Errorf("no name for a database: %s", one)
		}
	})
}

func TestEffort(t *testing.T) {
	t.Setenv("FREE2TALK_TEST_LONG", "")
	if got := Effort(5, 500); got != 5 {
		t.Errorf("make test does %d, want 5", got)
	}
	t.Setenv("FREE2TALK_TEST_LONG", "1")
	if got := Effort(time.Second, time.Minute); got != time.Minute {
		t.Errorf("make faults does %v, want 1m", got)
	}
}

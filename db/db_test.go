package db_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
	"github.com/free2talk/free2talk/server/talk/talktest"
)

// open opens a database for one test, migrated.
func open(t testing.TB, config db.Config) *db.Store {
	t.Helper()
	store := openEmpty(t, config)
	if _, err := store.Migrate(context.Background(), db.Up); err != nil {
		t.Fatal(err)
	}
	return store
}

func openEmpty(t testing.TB, config db.Config) *db.Store {
	t.Helper()
	store, err := db.Open(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return store
}

func file(t testing.TB) string {
	return "sqlite://" + filepath.Join(t.TempDir(), "with ? & % space.db")
}

// dsns are the databases that everything holds on.
var dsns = map[string]func(testing.TB) string{"Postgres": testenv.Postgres, "SQLite": file}

// onBoth runs a test on each of them.
func onBoth(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Helper()
	for name, dsn := range dsns {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, dsn(t))
		})
	}
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	conform(t, testenv.Postgres)
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	conform(t, file)
}

// rounds is how often each race is run.
func rounds() int { return testenv.Effort(10, 500) }

func conform(t *testing.T, dsn func(testing.TB) string) {
	t.Helper()
	talktest.RunStore(t, func(t *testing.T, clock talk.Clock) talk.Store {
		return open(t, db.Config{URL: dsn(t), Now: clock, MaxConns: 4})
	})
	t.Run("TwoNodes", func(t *testing.T) {
		talktest.RunRaces(t, rounds(), func(t *testing.T, clock talk.Clock) []talk.Store {
			config := db.Config{URL: dsn(t), Now: clock, MaxConns: 8}
			return []talk.Store{open(t, config), open(t, config)}
		})
	})
}

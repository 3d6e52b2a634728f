package db_test

import (
	"sync"
	"testing"

	"github.com/free2talk/free2talk/db"
)

// schema is everything that a migration may leave behind.
func schema(t *testing.T, store *db.Store, dsn string) []string {
	t.Helper()
	query := `
		SELECT 'table ' || tablename FROM pg_tables WHERE schemaname = 'public'
		UNION ALL SELECT 'index ' || indexname FROM pg_indexes WHERE schemaname = 'public'
		UNION ALL SELECT 'constraint ' || conname FROM pg_constraint WHERE connamespace = 'public'::regnamespace
		UNION ALL SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
		UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal
		UNION ALL SELECT 'sequence ' || sequencename FROM pg_sequences WHERE schemaname = 'public'
		ORDER BY 1`
	if dsn[:6] == "sqlite" {
		query = "SELECT type || ' ' || name FROM sqlite_master WHERE name NOT LIKE 'sqlite%' ORDER BY 1"
	}
	var names []string
	if err := store.DB().NewRaw(query).Scan(t.Context(), &names); err != nil {
		t.Fatal(err)
	}
	return names
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		store := openEmpty(t, db.Config{URL: dsn})
		migrate := func(where db.Direction, applied bool) {
			t.Helper()
			list, err := store.Migrate(t.Context(), where)
			if err != nil || len(list) == 0 {
				t.Fatal(list, err)
			}
			for _, m := range list {
				if m.AppliedAt.IsZero() == applied {
					t.Fatalf("%s is applied: %v", m.Name, !applied)
				}
			}
		}
		migrate(db.Status, false)
		bare := len(schema(t, store, dsn))
		down := func() {
			t.Helper()
			for {
				list, err := store.Migrate(t.Context(), db.Down)
				if err != nil {
					t.Fatal(err)
				}
				if list[0].AppliedAt.IsZero() {
					return
				}
			}
		}
		migrate(db.Up, true)
		whole := len(schema(t, store, dsn))
		migrate(db.Up, true)
		peopled(t, store)
		down()
		if left := schema(t, store, dsn); len(left) != bare {
			t.Fatalf("down leaves %v", left)
		}
		down()
		migrate(db.Up, true)
		if again := len(schema(t, store, dsn)); again != whole {
			t.Fatalf("up, down, up makes %d things; up alone %d", again, whole)
		}
		peopled(t, store)
	})
}

func TestMigrateFromManyProcessesAtOnce(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		var all sync.WaitGroup
		for range 8 {
			store := openEmpty(t, db.Config{URL: dsn})
			all.Go(func() {
				if _, err := store.Migrate(t.Context(), db.Up); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		peopled(t, openEmpty(t, db.Config{URL: dsn}))
	})
}

package db_test

import (
	"strings"
	"testing"

	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
)

// TestReplaced follows servers into a failover: a store reads and writes in
// the history that it began with, or not at all.
func TestReplaced(t *testing.T) {
	t.Parallel()
	primary := testenv.StartPostgres(t)
	standby := primary.Standby()
	both := open(t, db.Config{URL: strings.Replace(primary.URL(), primary.Addr(), primary.Addr()+","+standby.Addr(), 1)})
	waiting := openEmpty(t, db.Config{URL: standby.URL()})
	before := historyOf(t, both)

	if err := waiting.Ping(t.Context()); !talk.ErrDatabaseUnavailable.Is(err) {
		t.Errorf("a standby is asked, and says %v", err)
	}
	standby.Detach(primary)
	primary.Restart()
	if err := answers(t, both); err != nil || historyOf(t, both) != before || replaced(both) {
		t.Errorf("a restart is another history: %v", err)
	}
	primary.Kill()
	if err := answers(t, both); !talk.ErrDatabaseUnavailable.Is(err) || replaced(both) {
		t.Errorf("before it is promoted, a standby is asked, and says %v", err)
	}
	standby.Promote()
	if err := answers(t, both); !talk.ErrDatabaseUnavailable.Is(err) || !replaced(both) {
		t.Errorf("a store goes on in another history: %v", err)
	}
	for name, store := range map[string]*db.Store{
		"opened before": waiting, "opened after": openEmpty(t, db.Config{URL: standby.URL()}),
	} {
		if after := historyOf(t, store); after == before || replaced(store) {
			t.Errorf("%s: the history is %s, as before", name, after)
		}
	}
}

func historyOf(t *testing.T, store *db.Store) string {
	t.Helper()
	id, err := store.HistoryID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// answers asks until no connection is left that the pool did not know to be dead.
func answers(t *testing.T, store *db.Store) (err error) {
	t.Helper()
	for range 2 * store.Conns() {
		if err = store.Ping(t.Context()); err == nil {
			break
		}
	}
	return err
}

func replaced(store *db.Store) bool {
	select {
	case <-store.Replaced():
		return true
	default:
		return false
	}
}

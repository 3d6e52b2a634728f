package db_test

import (
	"testing"
	"time"

	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/server/talk/talktest"
)

func TestNodes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		clock := talktest.NewClock()
		store := open(t, db.Config{URL: dsn, Now: clock.Now})
		renew := func(node string, live int) {
			t.Helper()
			got, err := store.Renew(t.Context(), node)
			if err != nil || got != live {
				t.Errorf("%s sees %d nodes live, %v; want %d", node, got, err, live)
			}
		}
		renew("a", 1)
		renew("b", 2)
		renew("a", 2)
		clock.Add(6 * time.Second)
		renew("b", 2)
		clock.Add(6 * time.Second) // a has been silent for twelve seconds, b for six
		renew("b", 1)
		renew("a", 2)
		if err := store.Retire(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		renew("b", 1)
	})
}

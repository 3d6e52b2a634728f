package db_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/server/talk"
	"github.com/free2talk/free2talk/server/talk/talktest"
)

func TestNodes(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		clock := talktest.NewClock()
		store := open(t, db.Config{URL: dsn, Now: clock.Now})
		renew := func(node string, begins bool, want ...string) {
			t.Helper()
			live, err := store.Renew(t.Context(), node, begins)
			if err != nil || !slices.Equal(live, want) {
				t.Errorf("%s sees %v live, %v; want %v", node, live, err, want)
			}
		}
		sweep := func(want ...string) {
			t.Helper()
			dead, err := store.SweepNodes(t.Context())
			var names []string
			for _, d := range dead {
				names = append(names, d.Name)
			}
			if err != nil || !slices.Equal(names, want) {
				t.Errorf("dead are %v, %v; want %v", names, err, want)
			}
		}
		renew("a", true, "a")
		renew("b", true, "a", "b")
		renew("a", false, "a", "b")
		clock.Add(6 * time.Second)
		renew("b", false, "a", "b")
		sweep()
		clock.Add(6 * time.Second) // a has been silent for twelve seconds, b for six
		renew("b", false, "b")
		renew("a", false, "a", "b") // late, and nobody has swept it
		clock.Add(11 * time.Second)
		renew("b", false, "b")
		sweep("a")
		sweep("a") // until what it held is taken away
		if _, err := store.Renew(t.Context(), "a", false); !errors.Is(err, talk.ErrNodeSwept) {
			t.Errorf("swept, it hears %v", err)
		}
		seen := func(want ...talk.SeenNode) {
			t.Helper()
			got, err := store.SeenNodes(t.Context())
			for i := range got {
				got[i].SeenAt = time.Time{}
			}
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("got %v, %v; want %v", got, err, want)
			}
		}
		seen(talk.SeenNode{Name: "a", Dead: true}, talk.SeenNode{Name: "b"})
		if err := store.Bury(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		sweep()
		seen(talk.SeenNode{Name: "a", Dead: true}, talk.SeenNode{Name: "b"})
		if err := errors.Join(store.Bury(t.Context(), "b"), store.Bury(t.Context(), "c")); err != nil {
			t.Fatal(err)
		}
		renew("b", false, "b") // who lives cannot be buried
		if err := store.Retire(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		sweep()
		if _, err := store.Renew(t.Context(), "a", false); !errors.Is(err, talk.ErrNodeSwept) {
			t.Errorf("forgotten, it hears %v", err)
		}
		renew("a2", true, "a2", "b")
	})
}

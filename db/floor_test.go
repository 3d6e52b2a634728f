package db_test

import (
	"testing"
	"time"

	"github.com/free2talk/free2talk/internal/testenv"
)

// Who begins at the head has missed nothing, whatever was deleted.
func TestTheHeadIsNotBelowTheFloor(t *testing.T) {
	t.Parallel()
	t.Run("where all was deleted", func(t *testing.T) {
		t.Parallel()
		onBoth(t, func(t *testing.T, dsn string) {
			p := newPast(t, dsn)
			p.sway()
			p.forgetAll()
			p.after(p.head())
		})
	})
	t.Run("where an older transaction goes on", func(t *testing.T) {
		t.Parallel()
		p := newPast(t, testenv.Postgres(t))
		p.forgetAll()
		head := p.head()
		older, err := p.DB().BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := older.ExecContext(t.Context(), "SELECT pg_current_xact_id()"); err != nil {
			t.Fatal(err)
		}
		p.sway()
		p.forgetAll()
		if kept := p.after(head); len(kept) != 4 {
			t.Errorf("%d events are left of those that are not settled", len(kept))
		}
		if err := older.Rollback(); err != nil {
			t.Fatal(err)
		}
		p.settled(head, 4)
		p.forgetAll()
		p.after(p.head())
	})
}

// forgetAll tells everything and deletes what may be deleted of it.
func (p *past) forgetAll() {
	p.t.Helper()
	if err := p.Published(p.t.Context(), p.untold()); err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.ForgetEvents(p.t.Context(), p.clock.Now().Add(time.Hour)); err != nil {
		p.t.Fatal(err)
	}
}

package db_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
	"github.com/free2talk/free2talk/server/talk/talktest"
)

// past is a store and two people in a room of it.
type past struct {
	*db.Store
	t        *testing.T
	clock    *talktest.Clock
	ada, bob talk.UserID
	room     talk.RoomID
}

func newPast(t *testing.T, dsn string) *past {
	clock := talktest.NewClock()
	p := &past{Store: open(t, db.Config{URL: dsn, Now: clock.Now}), t: t, clock: clock}
	p.ada, p.bob = p.register("ada"), p.register("bob")
	p.room = talk.RoomID(talk.NewID())
	p.change(talk.Scope{Users: []talk.UserID{p.ada}}, func(s *talk.State) error {
		owner, err := s.User(p.ada)
		if err == nil {
			_, err = s.OpenRoom(p.room, talk.Slug("A room"), talk.NewRoom{Name: "A room", Languages: []string{"es"}, Level: talk.LevelAny, Capacity: 5}, owner)
		}
		return err
	})
	return p
}

func (p *past) change(scope talk.Scope, decide func(*talk.State) error) {
	p.t.Helper()
	if _, err := p.Change(p.t.Context(), scope, decide); err != nil {
		p.t.Fatal(err)
	}
}

func (p *past) register(name string) talk.UserID {
	id := talk.UserID(talk.NewID())
	p.change(talk.Scope{}, func(s *talk.State) error {
		s.Register(talk.Account{
			User:  talk.User{ID: id, Username: name, Role: talk.RoleUser, CreatedAt: s.Now, UpdatedAt: s.Now},
			Email: name + "@example.org", PasswordHash: "none",
		})
		return nil
	})
	return id
}

// sway has bob sit down and stand up again: four events, two of the room's.
func (p *past) sway() {
	p.t.Helper()
	scope := talk.Scope{Rooms: []talk.RoomID{p.room}, Users: []talk.UserID{p.bob}}
	for _, step := range []func(*talk.RoomState, *talk.UserState, time.Time) error{
		func(r *talk.RoomState, u *talk.UserState, now time.Time) error { return r.Join(u, now) },
		func(r *talk.RoomState, u *talk.UserState, now time.Time) error {
			r.Leave(u, talk.LeftByThemselves, now)
			return nil
		},
	} {
		p.change(scope, func(s *talk.State) error {
			r, err := s.Room(p.room)
			if err != nil {
				return err
			}
			u, err := s.User(p.bob)
			if err != nil {
				return err
			}
			return step(r, u, s.Now)
		})
	}
}

func (p *past) after(mark talk.Mark) []talk.Logged {
	p.t.Helper()
	events, err := p.EventsAfter(p.t.Context(), mark, 1000)
	if err != nil {
		p.t.Fatal(err)
	}
	return events
}

// head is a mark that nothing comes after. Transactions of other databases of
// the same server hold it back, but not for long.
func (p *past) head() (head talk.Mark) {
	p.t.Helper()
	p.eventually("nothing comes after the head", func() bool {
		var err error
		if head, err = p.Head(p.t.Context()); err != nil {
			p.t.Fatal(err)
		}
		return len(p.after(head)) == 0
	})
	return head
}

// settled is what comes after a mark, once all n of it are settled.
func (p *past) settled(mark talk.Mark, n int) (events []talk.Logged) {
	p.t.Helper()
	p.eventually("all is settled", func() bool {
		events = p.after(mark)
		return len(events) == n && events[n-1].Settled
	})
	return events
}

func (p *past) eventually(what string, check func() bool) {
	p.t.Helper()
	late := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !check() {
		select {
		case <-tick.C:
		case <-late:
			p.t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		p := newPast(t, dsn)
		head := p.head()
		p.sway()
		events := p.settled(head, 4)
		for i, e := range events {
			if !e.Settled || !head.Before(e.Mark) || e.Fact == nil {
				t.Errorf("event %d: %+v", i, e)
			}
			if rest := p.after(e.Mark); len(rest) != len(events)-i-1 {
				t.Errorf("after event %d there are %d", i, len(rest))
			}
		}
		of, err := p.TopicEvents(t.Context(), talk.RoomTopic(p.room), 1, 10)
		if err != nil || len(of) != 2 || of[0].Seq != 2 || of[1].Seq != 3 {
			t.Errorf("of the room: %v, %v", of, err)
		}
		seqs, err := p.TopicSeqs(t.Context(), []talk.Topic{talk.RoomTopic(p.room), talk.UserTopic(p.bob), "room:none", talk.RoomTopic(talk.RoomID(talk.NewID()))})
		if err != nil || len(seqs) != 2 || seqs[talk.RoomTopic(p.room)] != 3 || seqs[talk.UserTopic(p.bob)] != 2 {
			t.Errorf("seqs %v, %v", seqs, err)
		}
		p.states(t)
		p.forgets(t, head, events)
	})
}

// states compares what is read with a seq to what is read without.
func (p *past) states(t *testing.T) {
	t.Helper()
	room, err := p.LiveRoom(t.Context(), p.room)
	if err != nil || room.Seq != 3 || room.Version != 3 || len(room.Participants) != 1 {
		t.Errorf("the room: %+v, %v", room, err)
	}
	ada, err := p.LiveUser(t.Context(), p.ada)
	if err != nil || ada.Seq != 1 || ada.Room == nil || ada.Room.Seq != 3 || len(ada.Room.Participants) != 1 || ada.Room.Owner.ID != p.ada {
		t.Errorf("ada: %+v, %v", ada, err)
	}
	bob, err := p.LiveUser(t.Context(), p.bob)
	if err != nil || bob.Seq != 2 || bob.Room != nil {
		t.Errorf("bob: %+v, %v", bob, err)
	}
	if _, err := p.LiveUser(t.Context(), talk.UserID(talk.NewID())); !errors.Is(err, talk.ErrUserNotFound) {
		t.Errorf("nobody: %v", err)
	}
	if _, err := p.LiveRoom(t.Context(), "none"); !errors.Is(err, talk.ErrRoomNotFound) {
		t.Errorf("no room: %v", err)
	}
	open, err := p.OpenRooms(t.Context())
	byID, again := p.RoomsByID(t.Context(), []talk.RoomID{p.room, "none"})
	if err != nil || again != nil || len(open) != 1 || len(byID) != 1 || open[0].Version != 3 || byID[0].ID != p.room {
		t.Errorf("%v, %v; %v, %v", open, err, byID, again)
	}
}

// forgets checks that who reads from before what was deleted is told so.
func (p *past) forgets(t *testing.T, head talk.Mark, events []talk.Logged) {
	t.Helper()
	ids := p.untold()
	if err := p.Published(t.Context(), ids[:len(ids)-1]); err != nil { // the last is not told yet
		t.Fatal(err)
	}
	n, err := p.ForgetEvents(t.Context(), p.clock.Now().Add(time.Hour))
	if err != nil || n != len(ids)-1 {
		t.Errorf("%d of %d forgotten, %v", n, len(ids), err)
	}
	if _, err := p.EventsAfter(t.Context(), head, 10); !errors.Is(err, talk.ErrHistoryGone) {
		t.Errorf("from before what was deleted: %v", err)
	}
	if rest := p.after(events[2].Mark); len(rest) != 1 {
		t.Errorf("from the last that was deleted: %v", rest)
	}
}

// Where transactions commit out of the order in which they began, the tail sees
// the later one at once and does not go on past the earlier.
func TestHistoryOutOfOrder(t *testing.T) {
	t.Parallel()
	p := newPast(t, testenv.Postgres(t))
	head := p.head()
	early, err := p.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	insert := "INSERT INTO events (topic, seq, kind, payload, at) VALUES ('room:early', 1, 'moved', '{}', now())"
	if _, err := early.ExecContext(t.Context(), insert); err != nil {
		t.Fatal(err)
	}
	p.sway()
	seen := p.after(head)
	if len(seen) != 4 {
		t.Fatalf("%d events are seen while another transaction is open", len(seen))
	}
	for _, e := range seen {
		if e.Settled {
			t.Errorf("%+v is settled, and something before it may commit", e)
		}
	}
	if now, err := p.Head(t.Context()); err != nil || seen[0].Mark.Before(now) {
		t.Errorf("the head is %v, %v", now, err)
	}
	if err := early.Commit(); err != nil {
		t.Fatal(err)
	}
	if seen = p.settled(head, 5); seen[0].Topic != "room:early" {
		t.Errorf("then %+v", seen)
	}
}

// A dump carries the numbers of the cluster that it was taken from, and a new
// cluster begins to count: the history is whole there nevertheless.
func TestHistoryOfAnotherCluster(t *testing.T) {
	t.Parallel()
	p := newPast(t, testenv.Postgres(t))
	p.sway()
	for _, statement := range []string{
		"UPDATE events SET published = TRUE WHERE id <= (SELECT min(id) FROM events)",
		"UPDATE events SET xid = CAST(CAST(CAST(CAST(xid AS text) AS bigint) + 1000000 AS text) AS xid8)",
		"UPDATE history SET floor_tx = (SELECT min(xid) FROM events)",
	} {
		if _, err := p.DB().DB.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	p.sway() // a node of a version before began here
	all, untold := count(t, p.Store, "SELECT count(*) FROM events"), p.untold()
	p.migrate()
	p.head()
	events := p.settled(talk.Mark{}, all)
	for i := range events[1:] {
		if events[i].Mark.ID >= events[i+1].Mark.ID {
			t.Errorf("%v comes before %v", events[i].Mark, events[i+1].Mark)
		}
	}
	if left := p.untold(); len(left) != all-1 || !slices.Equal(left, untold) {
		t.Errorf("unpublished were %v, and are %v", untold, left)
	}
	p.migrate()
	p.numbered(events)
}

// Nodes start beside others, which write meanwhile.
func TestMigrateLeavesItsOwnClustersNumbers(t *testing.T) {
	t.Parallel()
	p := newPast(t, testenv.Postgres(t))
	early, err := p.DB().BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := early.ExecContext(t.Context(), "SELECT pg_current_xact_id()"); err != nil {
		t.Fatal(err)
	}
	p.sway()
	events := p.after(talk.Mark{})
	p.migrate()
	p.numbered(events)
	if err := early.Rollback(); err != nil {
		t.Fatal(err)
	}
}

func (p *past) migrate() {
	p.t.Helper()
	if _, err := p.Migrate(p.t.Context(), db.Up); err != nil {
		p.t.Fatal(err)
	}
}

// numbered checks that the history is these events, by the same numbers.
func (p *past) numbered(events []talk.Logged) {
	p.t.Helper()
	same := func(a, b talk.Logged) bool { return a.Mark == b.Mark }
	if now := p.after(talk.Mark{}); !slices.EqualFunc(now, events, same) {
		p.t.Errorf("events were %v, and are %v", events, now)
	}
}

// untold is what is not published yet.
func (p *past) untold() (ids []int64) {
	p.t.Helper()
	rows, err := p.Unpublished(p.t.Context(), 0, p.clock.Now().Add(time.Hour), 1000)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, row := range rows {
		ids = append(ids, row.ID)
	}
	return ids
}

// E1 at its root: with many writers at once, a reader that goes on from what is
// settled misses nothing and reads nothing twice.
func TestHistoryMissesNothing(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		store := open(t, db.Config{URL: dsn})
		mark, err := store.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var writers sync.WaitGroup
		for range 8 {
			writers.Go(func() {
				for range testenv.Effort(40, 500) {
					if _, err := store.Change(t.Context(), talk.Scope{}, func(s *talk.State) error {
						id := talk.NewID()
						s.Register(talk.Account{User: talk.User{ID: talk.UserID(id), Username: id[24:] + "x", Role: talk.RoleUser, CreatedAt: s.Now, UpdatedAt: s.Now}, Email: id + "@example.org", PasswordHash: "none"})
						return nil
					}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		go func() {
			writers.Wait()
			stop()
		}()
		read := map[int64]bool{}
		for last := false; ; {
			events, err := store.EventsAfter(t.Context(), mark, 50)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range events {
				if !e.Settled {
					break
				}
				if read[e.Mark.ID] {
					t.Errorf("%v is read twice", e.Mark)
				}
				read[e.Mark.ID], mark = true, e.Mark
			}
			if last && len(events) == 0 {
				break
			}
			last = ctx.Err() != nil // and nothing is left that is not settled
		}
		if want := 8 * testenv.Effort(40, 500); len(read) != want {
			t.Errorf("%d of %d events were read", len(read), want)
		}
	})
}

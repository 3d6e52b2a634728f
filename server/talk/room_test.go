package talk_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

func TestOpenRoom(t *testing.T) {
	t.Parallel()
	t.Run("seats its creator as owner and tells of it as one event", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "ada")
		w.must(w.open("ada", den, 4))
		check(t, "people", w.people(den), []string{"ada*"})
		check(t, "room's events", w.kinds(talk.RoomTopic(den)), []string{"room_created"})
		check(t, "ada's events", w.kinds(talk.UserTopic("ada")), []string{"moved"})
		created := w.facts(talk.RoomTopic(den))[0].(talk.RoomCreated).Room
		if created.Version != 1 || created.ParticipantCount != 1 || created.Owner.ID != "ada" {
			t.Errorf("created %+v", created)
		}
	})
	t.Run("answers owns a room before in another room", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		refuses(t, w.open("ada", "loft", 4), talk.ErrOwnsARoom, "room_id", string(den))
		refuses(t, w.open("bob", "loft", 4), talk.ErrInAnotherRoom, "room_id", string(den))
	})
	t.Run("is not for banned accounts", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "ada")
		w.users["ada"].account.Ban = &talk.Ban{}
		refuses(t, w.open("ada", den, 4), talk.ErrBanned)
		w.users["ada"].account.Ban = &talk.Ban{Until: w.now}
		w.must(w.open("ada", den, 4)) // it has run out
	})
}

// The answers of Join come in one order: each line makes true what it names
// and everything after it, so only the order decides.
func TestJoinAnswersInOrder(t *testing.T) {
	t.Parallel()
	// all of them at once, for somebody who is not inside:
	// closed, kicked, in another room, full.
	build := func(t *testing.T, closed, kicked, elsewhere, full bool) *world {
		w := crowd(t)
		w.must(w.join(den, "dan"))
		if kicked {
			w.must(w.kick(den, "ada", "dan", time.Hour))
		} else {
			w.must(w.leave(den, "dan"))
		}
		if elsewhere {
			w.must(w.open("dan", "loft", 2))
		}
		if full {
			w.must(w.join(den, "eve"))
		}
		if closed {
			w.must(w.close(den, "ada"))
		}
		return w
	}
	for _, c := range []struct {
		closed, kicked, elsewhere, full bool
		want                            *talk.Error
	}{
		{true, true, true, true, talk.ErrRoomClosed},
		{false, true, true, true, talk.ErrKicked},
		{false, false, true, true, talk.ErrInAnotherRoom},
		{false, false, false, false, nil},
	} {
		t.Run(fmt.Sprintf("%+v", c.want), func(t *testing.T) {
			t.Parallel()
			w := build(t, c.closed, c.kicked, c.elsewhere, c.full)
			refuses(t, w.join(den, "dan"), c.want)
		})
	}
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "ada", "bob", "cyd")
		w.must(w.open("ada", den, 2), w.join(den, "bob"))
		refuses(t, w.join(den, "cyd"), talk.ErrRoomFull)
	})
	t.Run("already in is success, even where it is full, and tells nobody", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "ada", "bob")
		w.must(w.open("ada", den, 2), w.join(den, "bob"), w.join(den, "bob"))
		if !w.wrote.Empty() {
			t.Errorf("wrote %+v", w.wrote)
		}
	})
	t.Run("already in is refused to those whom a ban reached since", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.users["bob"].account.Ban = &talk.Ban{}
		refuses(t, w.join(den, "bob"), talk.ErrBanned)
	})
}

func TestJoin(t *testing.T) {
	t.Parallel()
	t.Run("tells the room and the person", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.must(w.join(den, "dan"))
		check(t, "people", w.people(den), []string{"ada*", "bob", "cyd", "dan"})
		check(t, "room's events", w.kinds(talk.RoomTopic(den)), []string{"participant_joined"})
		check(t, "dan's facts", w.facts(talk.UserTopic("dan")), []talk.Fact{talk.Moved{RoomID: den}})
	})
	t.Run("keeps the order of seats where two sit down in one microsecond", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "ada", "bob", "cyd")
		w.must(w.open("ada", den, 4))
		w.must(w.change(func(s *talk.State) error {
			r, _ := s.Room(den)
			bob, _ := s.User("bob")
			cyd, _ := s.User("cyd")
			return errors.Join(r.Join(cyd, s.Now), r.Join(bob, s.Now))
		}))
		check(t, "people", w.people(den), []string{"ada*", "cyd", "bob"})
	})
	t.Run("of another room leaves the current one, both or neither", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.must(w.open("dan", "loft", 2))
		move := func(s *talk.State, who talk.UserID) error {
			from, _ := s.Room(den)
			to, _ := s.Room("loft")
			u, _ := s.User(who)
			from.Leave(u, talk.LeftByThemselves, s.Now)
			return to.Join(u, s.Now)
		}
		w.must(w.change(func(s *talk.State) error { return move(s, "bob") }))
		check(t, "loft", w.people("loft"), []string{"dan*", "bob"})
		check(t, "bob's facts", w.facts(talk.UserTopic("bob")), []talk.Fact{talk.Moved{}, talk.Moved{RoomID: "loft"}})
		refuses(t, w.change(func(s *talk.State) error { return move(s, "cyd") }), talk.ErrRoomFull)
		check(t, "den", w.people(den), []string{"ada*", "cyd"})
	})
}

func TestLeave(t *testing.T) {
	t.Parallel()
	t.Run("frees the seat", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.must(w.leave(den, "bob"))
		check(t, "people", w.people(den), []string{"ada*", "cyd"})
		check(t, "bob's facts", w.facts(talk.UserTopic("bob")), []talk.Fact{talk.Moved{}})
		left := w.facts(talk.RoomTopic(den))[0].(talk.ParticipantLeft)
		if left.Reason != talk.LeftByThemselves || left.UserID != "bob" {
			t.Errorf("left %+v", left)
		}
	})
	t.Run("said twice, or by who is elsewhere, changes nothing", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.must(w.leave(den, "dan"))
		if !w.wrote.Empty() {
			t.Errorf("wrote %+v", w.wrote)
		}
	})
	t.Run("hands the room to the longest seated who is connected, and then tells that the owner left", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.lose(den, "bob")
		w.must(w.leave(den, "ada"))
		check(t, "people", w.people(den), []string{"bob", "cyd*"})
		check(t, "events", w.kinds(talk.RoomTopic(den)), []string{"owner_changed", "participant_left"})
	})
	t.Run("hands it to the longest seated where nobody is connected", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.lose(den, "bob")
		w.lose(den, "cyd")
		w.must(w.leave(den, "ada"))
		check(t, "people", w.people(den), []string{"bob*", "cyd"})
	})
	t.Run("an owner who left may open another room", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.must(w.leave(den, "ada"), w.open("ada", "loft", 2))
		refuses(t, w.open("bob", "attic", 2), talk.ErrOwnsARoom)
	})
	t.Run("of the last one closes the room", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "ada")
		w.must(w.open("ada", den, 2), w.leave(den, "ada"))
		check(t, "events", w.kinds(talk.RoomTopic(den)), []string{"participant_left", "room_closed"})
		r := w.rooms[den].view
		if r.Open() || r.CloseReason != talk.ClosedEmpty || r.Owner.ID != "ada" {
			t.Errorf("room %+v", r)
		}
	})
}

func TestKick(t *testing.T) {
	t.Parallel()
	t.Run("answers in order", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		refuses(t, w.kick(den, "bob", "cyd", time.Hour), talk.ErrNotOwner)
		refuses(t, w.kick(den, "bob", "bob", time.Hour), talk.ErrNotOwner)
		refuses(t, w.kick(den, "ada", "ada", time.Hour), talk.ErrSelf)
		refuses(t, w.kick(den, "ada", "dan", time.Hour), talk.ErrNotInRoom)
		w.must(w.close(den, "ada"))
		refuses(t, w.kick(den, "ada", "bob", time.Hour), talk.ErrRoomClosed)
	})
	t.Run("tells the room why, and the person until when", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.must(w.kick(den, "ada", "bob", time.Hour))
		until := w.now.Add(time.Hour)
		check(t, "people", w.people(den), []string{"ada*", "cyd"})
		check(t, "bob's facts", w.facts(talk.UserTopic("bob")), []talk.Fact{
			talk.Kicked{RoomID: den, Reason: "too loud", Until: until}, talk.Moved{},
		})
		if left := w.facts(talk.RoomTopic(den))[0].(talk.ParticipantLeft); left.Reason != talk.LeftByKick {
			t.Errorf("left %+v", left)
		}
		check(t, "bans", w.rooms[den].bans, []talk.RoomBan{{User: w.users["bob"].account.Summary(), Until: until, Reason: "too loud"}})
	})
	t.Run("keeps out until the ban has run out, to the moment", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.must(w.kick(den, "ada", "bob", time.Hour))
		until := w.now.Add(time.Hour)
		w.now = until.Add(-2 * time.Second) // a change takes one
		err := w.join(den, "bob")
		refuses(t, err, talk.ErrKicked, "until", until.Format(time.RFC3339))
		if kicked := new(talk.Error); !errors.As(err, &kicked) || kicked.Retry != time.Second {
			t.Errorf("retry after %v", kicked.Retry)
		}
		w.must(w.join(den, "bob"))
	})
	t.Run("without a ban keeps nobody out", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.must(w.kick(den, "ada", "bob", 0), w.join(den, "bob"))
	})
	t.Run("again replaces the ban", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.must(w.kick(den, "ada", "bob", time.Hour))
		w.now = w.now.Add(time.Hour)
		w.must(w.join(den, "bob"), w.kick(den, "ada", "bob", time.Minute))
		check(t, "bans", len(w.rooms[den].bans), 1)
		check(t, "lifted", len(w.wrote.Lift), 1)
		check(t, "until", w.rooms[den].bans[0].Until, w.now.Add(time.Minute))
	})
}

func TestLiftBan(t *testing.T) {
	t.Parallel()
	w := crowd(t)
	lift := func(by talk.UserID) error {
		return w.in(den, by, func(r *talk.RoomState, _ *talk.UserState) error { return r.LiftBan(by, "bob") })
	}
	w.must(w.kick(den, "ada", "bob", time.Hour))
	refuses(t, lift("cyd"), talk.ErrNotOwner)
	w.must(lift("ada"))
	check(t, "events", len(w.heard), 0)
	w.must(lift("ada")) // twice is no error
	w.must(w.join(den, "bob"))
}

func TestTransfer(t *testing.T) {
	t.Parallel()
	w := crowd(t)
	refuses(t, w.transfer(den, "bob", "cyd"), talk.ErrNotOwner)
	refuses(t, w.transfer(den, "ada", "ada"), talk.ErrSelf)
	refuses(t, w.transfer(den, "ada", "dan"), talk.ErrNotInRoom)
	w.must(w.transfer(den, "ada", "bob"))
	check(t, "people", w.people(den), []string{"ada", "bob*", "cyd"})
	version := w.rooms[den].view.Version
	check(t, "facts", w.facts(talk.RoomTopic(den)), []talk.Fact{
		talk.OwnerChanged{RoomID: den, UserID: "bob", PreviousUserID: "ada", Version: version},
	})
	refuses(t, w.transfer(den, "ada", "cyd"), talk.ErrNotOwner)
	w.must(w.close(den, "bob"))
	refuses(t, w.transfer(den, "bob", "ada"), talk.ErrRoomClosed)
}

func TestEdit(t *testing.T) {
	t.Parallel()
	t.Run("changes what is named and nothing else", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		was := w.rooms[den].view
		w.must(w.edit(den, "ada", talk.RoomEdit{Topic: new("tapas"), Version: was.Version}))
		want := was.Room
		want.Topic, want.Version, want.UpdatedAt = "tapas", was.Version+1, w.now
		check(t, "room", w.rooms[den].view.Room, want)
		w.must(w.edit(den, "ada", talk.RoomEdit{
			Name: new("Loft"), Topic: new(""), Languages: new([]string{"de", "en"}), Level: new(talk.LevelAdvanced), Capacity: new(3),
		}))
		want.Name, want.Topic, want.Languages, want.Level, want.Capacity = "Loft", "", []string{"de", "en"}, talk.LevelAdvanced, 3
		want.Version, want.UpdatedAt = was.Version+2, w.now
		check(t, "room", w.rooms[den].view.Room, want)
	})
	t.Run("answers in order: not the owner, closed, version, capacity", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		bad := talk.RoomEdit{Capacity: new(2), Version: 1}
		refuses(t, w.edit(den, "bob", bad), talk.ErrNotOwner)
		refuses(t, w.edit(den, "ada", bad), talk.ErrVersionMismatch)
		bad.Version = w.rooms[den].view.Version
		refuses(t, w.edit(den, "ada", bad), talk.ErrCapacityTaken)
		w.must(w.close(den, "ada"))
		bad.Version = 1
		refuses(t, w.edit(den, "ada", bad), talk.ErrRoomClosed)
	})
}

func TestClose(t *testing.T) {
	t.Parallel()
	w := crowd(t)
	w.must(w.transfer(den, "ada", "bob"))
	refuses(t, w.close(den, "ada"), talk.ErrNotOwner)
	w.must(w.close(den, "bob"))
	check(t, "events", w.kinds(talk.RoomTopic(den)), []string{
		"participant_left", "participant_left", "participant_left", "room_closed",
	})
	var order []talk.UserID
	for _, fact := range w.facts(talk.RoomTopic(den))[:3] {
		left := fact.(talk.ParticipantLeft)
		order = append(order, left.UserID)
		check(t, "reason", left.Reason, talk.LeftRoomClosed)
	}
	check(t, "the owner stands up last", order, []talk.UserID{"ada", "cyd", "bob"})
	check(t, "cyd's facts", w.facts(talk.UserTopic("cyd")), []talk.Fact{talk.Moved{}})
	r := w.rooms[den].view
	if r.CloseReason != talk.ClosedByOwner || r.ClosedAt != w.now || r.Owner.ID != "bob" {
		t.Errorf("room %+v", r)
	}
	w.must(w.close(den, "bob"), w.open("bob", "loft", 2)) // twice is no error
	check(t, "an ended room stays as it was", w.rooms[den].view, r)
}

// Whatever people do, in whatever order, world proves after each step that the
// facts give the room, versions and sequences have no gap, and nobody sits or
// owns twice.
func TestAnyOrderOfDeeds(t *testing.T) {
	t.Parallel()
	names := []talk.UserID{"ada", "bob", "cyd", "dan", "eve", "fay"}
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			rnd := rand.New(rand.NewPCG(seed, 1))
			who := func() talk.UserID { return names[rnd.IntN(len(names))] }
			w := newWorld(t, "ada", "bob", "cyd", "dan", "eve", "fay")
			done := map[string]int{}
			for step := range 1000 {
				fresh := talk.RoomID(fmt.Sprintf("r%d", step))
				open := w.openRooms()
				if len(open) == 0 {
					w.must(w.open(who(), fresh, 4))
					continue
				}
				deed, err := w.deed(rnd.IntN(14), open[rnd.IntN(len(open))], who(), who(), fresh)
				if known := new(talk.Error); err != nil && !errors.As(err, &known) {
					t.Fatalf("%s: %v", deed, err)
				}
				if err == nil && !w.wrote.Empty() {
					done[deed]++
				}
			}
			if len(done) < 7 {
				t.Errorf("hardly anything was done: %v", done)
			}
		})
	}
}

func (w *world) openRooms() []talk.RoomID {
	var open []talk.RoomID
	for id, r := range w.rooms {
		if r.view.Open() {
			open = append(open, id)
		}
	}
	slices.Sort(open)
	return open
}

func (w *world) deed(which int, room talk.RoomID, name, other talk.UserID, fresh talk.RoomID) (string, error) {
	switch which {
	case 0:
		return "open", w.open(name, fresh, 4)
	case 1:
		return "leave", w.leave(room, name)
	case 2, 3:
		return "kick", w.kick(room, w.rooms[room].view.Owner.ID, other, 5*time.Second)
	case 4:
		return "transfer", w.transfer(room, w.rooms[room].view.Owner.ID, other)
	case 5:
		return "edit", w.edit(room, name, talk.RoomEdit{Capacity: new(2 + len(name+other)%3)})
	case 6:
		return "close", w.close(room, name)
	case 7:
		if r, ok := w.rooms[room]; ok && slices.ContainsFunc(r.view.Participants, is(name)) {
			w.lose(room, name)
		}
		return "rename", w.rename(name, string(name)+"!")
	}
	return "join", w.join(room, name)
}

func check[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !same(got, want) {
		t.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// refuses checks that err is want and carries the fact key, value, … of it.
func refuses(t *testing.T, err error, want *talk.Error, facts ...string) {
	t.Helper()
	if want == nil {
		if err != nil {
			t.Errorf("refused with %v", err)
		}
		return
	}
	if !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
		return
	}
	got := new(talk.Error)
	errors.As(err, &got)
	for i := 0; i+1 < len(facts); i += 2 {
		check(t, facts[i], got.Metadata[facts[i]], facts[i+1])
	}
}

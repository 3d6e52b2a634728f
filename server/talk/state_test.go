package talk_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

func TestState(t *testing.T) {
	t.Parallel()
	t.Run("what was not loaded is not there", func(t *testing.T) {
		t.Parallel()
		s := talk.NewState(time.Now())
		_, err := s.Room("r")
		refuses(t, err, talk.ErrRoomNotFound)
		_, err = s.User("u")
		refuses(t, err, talk.ErrUserNotFound)
	})
	t.Run("the erased are not there", func(t *testing.T) {
		t.Parallel()
		s := talk.NewState(time.Now())
		s.LoadUser(talk.Account{User: talk.User{ID: "u"}, DeletedAt: time.Now()}, "", "", nil)
		_, err := s.User("u")
		refuses(t, err, talk.ErrUserNotFound)
	})
	t.Run("looking writes nothing", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.must(w.in(den, "bob", func(*talk.RoomState, *talk.UserState) error { return nil }))
		if !w.wrote.Empty() {
			t.Errorf("wrote %+v", w.wrote)
		}
	})
	t.Run("registering adds a user and ends what caches hold of their absence", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.must(w.change(func(s *talk.State) error {
			s.Register(talk.Account{User: talk.User{ID: "ada", Username: "Ada"}})
			return nil
		}))
		check(t, "keys", w.wrote.Keys, []talk.Key{talk.UserKey("ada"), "username:ada"})
		check(t, "new", len(w.wrote.NewUsers), 1)
	})
}

func TestWrites(t *testing.T) {
	t.Parallel()
	t.Run("name each key once, of everything that became untrue", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.must(w.close(den, "ada"))
		check(t, "keys", w.wrote.Keys, []talk.Key{
			talk.RoomKey(den), talk.UserKey("ada"), talk.UserKey("bob"), talk.UserKey("cyd"),
		})
	})
	t.Run("name the slug of a new room", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "ada")
		w.must(w.open("ada", den, 2))
		check(t, "slug", slices.Contains(w.wrote.Keys, talk.SlugKey("den-slug")), true)
	})
	t.Run("free seats before they are taken", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "ada", "bob", "cyd")
		w.must(w.open("ada", den, 2), w.join(den, "bob"))
		w.must(w.change(func(s *talk.State) error {
			r, _ := s.Room(den)
			bob, _ := s.User("bob")
			cyd, _ := s.User("cyd")
			r.Leave(bob, talk.LeftDisconnected, s.Now)
			return r.Join(cyd, s.Now)
		}))
		check(t, "stand", w.wrote.Stand, []talk.SeatKey{{RoomID: den, UserID: "bob"}})
		check(t, "sit", len(w.wrote.Sit), 1)
	})
	t.Run("of users are told apart by what changed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "ada", "bob")
		w.must(w.change(func(s *talk.State) error {
			u, err := s.User("bob")
			u.SetRole(talk.RoleAdmin, s.Now)
			u.SetPassword("hash", s.Now)
			return err
		}))
		check(t, "users", len(w.wrote.Users), 1)
		check(t, "role", w.users["bob"].account.Role, talk.RoleAdmin)
		check(t, "hash", w.users["bob"].account.PasswordHash, "hash")
	})
}

// Every fact comes back from the outbox as it went in.
func TestDecodeFact(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	user := talk.UserSummary{ID: "u", Username: "ada", DisplayName: "Ada ✨", AvatarURL: "https://a"}
	seat := talk.Participant{User: user, Owner: true, State: talk.Reconnecting, StateSince: at, JoinedAt: at}
	room := talk.Room{
		ID: "r", Slug: "s", Name: "n", Topic: "t", Languages: []string{"es", "pt-br"}, Level: talk.LevelAdvanced, Capacity: 3,
		ParticipantCount: 2, Owner: user, Version: 7, CreatedAt: at, UpdatedAt: at, ClosedAt: at, CloseReason: talk.ClosedByAdmin,
	}
	for _, fact := range []talk.Fact{
		talk.ParticipantJoined{RoomID: "r", Participant: seat, Version: 1},
		talk.ParticipantLeft{RoomID: "r", UserID: "u", Reason: talk.LeftByBan, Version: 2},
		talk.ParticipantUpdated{RoomID: "r", Participant: seat, Version: 3},
		talk.OwnerChanged{RoomID: "r", UserID: "u", PreviousUserID: "v", Version: 4},
		talk.RoomCreated{Room: talk.Room{ID: "r", Languages: []string{"es"}}}, // open: no closed_at
		talk.RoomUpdated{Room: room},
		talk.RoomClosed{RoomID: "r", Reason: talk.ClosedEmpty, Version: 5},
		talk.Kicked{RoomID: "r", Reason: "x", Until: at},
		talk.Moved{RoomID: "r"},
		talk.Moved{},
		talk.SessionRevoked{SessionID: "s", Reason: talk.RevokedByReuse},
		talk.Touched{},
	} {
		payload, err := json.Marshal(fact)
		if err != nil {
			t.Fatal(err)
		}
		back, err := talk.DecodeFact(fact.Kind(), payload)
		if err != nil {
			t.Fatalf("%s: %v", fact.Kind(), err)
		}
		check(t, fact.Kind(), back, fact)
	}
	if _, err := talk.DecodeFact("nothing", []byte("{}")); err == nil {
		t.Error("an unknown kind was read")
	}
	if _, err := talk.DecodeFact("moved", []byte("{")); err == nil {
		t.Error("broken JSON was read")
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for key, want := range map[talk.Key][2]string{
		talk.RoomKey("r"):         {"room", "r"},
		talk.SlugKey("a-b"):       {"slug", "a-b"},
		talk.UserKey("u"):         {"user", "u"},
		talk.UsernameKey("AdA_-"): {"username", "ada_-"},
	} {
		kind, name := key.Split()
		check(t, string(key), [2]string{kind, name}, want)
	}
}

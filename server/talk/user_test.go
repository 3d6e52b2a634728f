package talk_test

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

func same(a, b any) bool { return reflect.DeepEqual(a, b) }

// rename changes a display name as UpdateProfile does.
func (w *world) rename(name talk.UserID, display string) error {
	w.t.Helper()
	return w.change(func(s *talk.State) error {
		u, err := s.User(name)
		if err == nil {
			s.UpdateUser(u, talk.ProfileEdit{DisplayName: &display})
		}
		return err
	})
}

func TestUpdateUser(t *testing.T) {
	t.Parallel()
	t.Run("introduces who is seated to the room", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.must(w.rename("bob", "Bobby"))
		fact := w.facts(talk.RoomTopic(den))[0].(talk.ParticipantUpdated)
		check(t, "name", fact.Participant.User.DisplayName, "Bobby")
		check(t, "keys", w.wrote.Keys, []talk.Key{talk.RoomKey(den), talk.UserKey("bob")})
	})
	t.Run("introduces an owner as owner", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.must(w.rename("ada", "Countess"))
		check(t, "owner", w.rooms[den].view.Owner.DisplayName, "Countess")
		updated := w.rooms[den].view.UpdatedAt
		if !updated.Before(w.now) {
			t.Error("a profile is no edit of the room: updated_at moved")
		}
	})
	t.Run("of who sits nowhere still makes caches forget", func(t *testing.T) {
		t.Parallel()
		w := crowd(t)
		w.must(w.rename("dan", "Daniel"))
		check(t, "keys", w.wrote.Keys, []talk.Key{talk.UserKey("dan")})
		check(t, "events", w.heard, []talk.Event{{At: w.now, Fact: talk.Touched{}}})
	})
	t.Run("changes only what is named", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "ada")
		all := talk.ProfileEdit{
			DisplayName: new("A"), AvatarURL: new("https://a"), Bio: new("b"), Country: new("MX"),
			NativeLanguages: new([]string{"es"}), LearningLanguages: new([]string{"en"}),
		}
		edit := func(e talk.ProfileEdit) {
			w.must(w.change(func(s *talk.State) error {
				u, err := s.User("ada")
				s.UpdateUser(u, e)
				return err
			}))
		}
		edit(all)
		edit(talk.ProfileEdit{Bio: new("")})
		check(t, "profile", w.users["ada"].account.Profile, talk.Profile{
			DisplayName: "A", AvatarURL: "https://a", Country: "MX",
			NativeLanguages: []string{"es"}, LearningLanguages: []string{"en"},
		})
	})
}

func (w *world) login(name talk.UserID, id string) []talk.SessionID {
	w.t.Helper()
	var ended []talk.SessionID
	w.must(w.change(func(s *talk.State) error {
		u, err := s.User(name)
		if err != nil {
			return err
		}
		ended = u.AddSession(&talk.Session{
			ID: talk.SessionID(id), UserID: name, Generation: 1, CreatedAt: s.Now,
			IdleExpiresAt: s.Now.Add(time.Hour), AbsoluteExpiresAt: s.Now.Add(2 * time.Hour),
		}, 3, s.Now)
		return nil
	}))
	return ended
}

func TestAddSession(t *testing.T) {
	t.Parallel()
	t.Run("ends the oldest beyond the limit and tells whose it was", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "ada")
		for i := range 3 {
			check(t, "ended", w.login("ada", fmt.Sprint(i)), nil)
		}
		check(t, "ended", w.login("ada", "3"), []talk.SessionID{"0"})
		check(t, "facts", w.facts(talk.UserTopic("ada")), []talk.Fact{
			talk.SessionRevoked{SessionID: "0", Reason: talk.RevokedByLimit},
		})
		check(t, "ended", w.login("ada", "4"), []talk.SessionID{"1"})
	})
	t.Run("does not count those that ran out", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, "ada")
		w.login("ada", "old")
		w.now = w.now.Add(time.Hour)
		for i := range 3 {
			check(t, "ended", w.login("ada", fmt.Sprint(i)), nil)
		}
	})
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "ada")
	w.login("ada", "one")
	w.login("ada", "two")
	revoke := func(match func(*talk.Session) bool) (ended []talk.SessionID) {
		w.must(w.change(func(s *talk.State) error {
			u, err := s.User("ada")
			ended = u.Revoke(talk.RevokedByPassword, s.Now, match)
			return err
		}))
		return ended
	}
	check(t, "ended", revoke(func(s *talk.Session) bool { return s.ID != "two" }), []talk.SessionID{"one"})
	check(t, "why", w.users["ada"].sessions[0].RevokeReason, talk.RevokedByPassword)
	check(t, "the other", w.users["ada"].sessions[1].Alive(w.now), true)
	check(t, "ended again", revoke(func(s *talk.Session) bool { return s.ID == "one" }), nil)
}

func TestSessionLifetime(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := talk.Session{IdleExpiresAt: now.Add(time.Hour), AbsoluteExpiresAt: now.Add(time.Minute)}
	check(t, "the earlier end", s.ExpiresAt(), now.Add(time.Minute))
	check(t, "before", s.Alive(now), true)
	check(t, "at its end", s.Alive(now.Add(time.Minute)), false)
	s.RevokedAt = now
	check(t, "revoked", s.Alive(now), false)
}

func TestErase(t *testing.T) {
	t.Parallel()
	w := crowd(t)
	w.users["bob"].account.Email = "bob@example.com"
	w.must(w.in(den, "bob", func(r *talk.RoomState, u *talk.UserState) error {
		r.Leave(u, talk.LeftByThemselves, w.now)
		u.Erase(w.now)
		return nil
	}))
	check(t, "keys", slices.Contains(w.wrote.Keys, talk.UserKey("bob")), true)
	got := w.users["bob"].account
	check(t, "left", talk.Account{User: talk.User{ID: "bob", Role: talk.RoleUser, UpdatedAt: w.now}, DeletedAt: w.now, Seq: got.Seq}, got)
	refuses(t, w.join(den, "bob"), talk.ErrUserNotFound)
}

// What everybody may see of somebody is made untrue wherever they are, also
// where they sit in no room.
func TestWhatIsPublicOfSomebodyChanges(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*talk.State, *talk.UserState){
		"their profile":   func(s *talk.State, u *talk.UserState) { s.UpdateUser(u, talk.ProfileEdit{Bio: new("x")}) },
		"their role":      func(s *talk.State, u *talk.UserState) { u.SetRole(talk.RoleAdmin, s.Now) },
		"when it changed": func(s *talk.State, u *talk.UserState) { u.SetPassword("hash", s.Now) },
		"that they exist": func(s *talk.State, u *talk.UserState) { u.Erase(s.Now) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "ada")
			w.must(w.change(func(s *talk.State) error {
				u, err := s.User("ada")
				if err == nil {
					change(s, u)
				}
				return err
			}))
			check(t, "keys", slices.Contains(w.wrote.Keys, talk.UserKey("ada")), true)
		})
	}
}

func TestBanned(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		ban  *talk.Ban
		want bool
	}{
		{nil, false},
		{&talk.Ban{}, true},
		{&talk.Ban{Until: now.Add(time.Second)}, true},
		{&talk.Ban{Until: now}, false},
	} {
		a := talk.Account{Ban: c.ban}
		check(t, fmt.Sprintf("%+v", c.ban), a.Banned(now), c.want)
	}
}

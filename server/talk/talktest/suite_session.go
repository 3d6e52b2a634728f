package talktest

import (
	"context"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// session signs a device in.
func (b *bench) session(who talk.UserID) talk.SessionID {
	b.Helper()
	id := talk.SessionID(talk.NewID())
	b.must(b.change(talk.Scope{Users: []talk.UserID{who}, Sessions: true}, func(s *talk.State) error {
		u, err := s.User(who)
		if err == nil {
			u.AddSession(newSession(id, who, s.Now), talk.SessionsPerUser, s.Now)
		}
		return err
	}))
	return id
}

func newSession(id talk.SessionID, who talk.UserID, now time.Time) *talk.Session {
	return &talk.Session{
		ID: id, UserID: who, Generation: 1, UserAgent: "curl/8 'x'", IP: "2001:db8::1", Cookie: true,
		CreatedAt: now, RotatedAt: now, LastUsedAt: now,
		IdleExpiresAt: now.Add(talk.SessionIdle), AbsoluteExpiresAt: now.Add(talk.SessionAbsolute),
	}
}

func (b *bench) logout(store talk.Store, who talk.UserID, ids ...talk.SessionID) error {
	return logout(b.ctx, store, who, ids...)
}

func logout(ctx context.Context, store talk.Store, who talk.UserID, ids ...talk.SessionID) error {
	_, err := store.Change(ctx, talk.Scope{Users: []talk.UserID{who}, Sessions: true}, func(s *talk.State) error {
		u, err := s.User(who)
		if err != nil {
			return err
		}
		for _, id := range ids {
			u.Revoke(talk.RevokedByLogout, s.Now, func(s *talk.Session) bool { return s.ID == id })
		}
		return nil
	})
	return err
}

func (b *bench) device(id talk.SessionID) talk.Session {
	b.Helper()
	session, err := b.Session(b.ctx, id)
	b.must(err)
	return session
}

var sessionTests = map[string]func(*bench){
	"a_session_is_read_back_as_it_was_written": func(b *bench) {
		ada := b.person("ada")
		id := b.session(ada)
		same(b, "session", b.device(id), *newSession(id, ada, b.clock.Now()))
	},
	"unknown_sessions_are_not_found": func(b *bench) {
		for _, id := range []talk.SessionID{talk.SessionID(talk.NewID()), "", "none", "\x00"} {
			_, err := b.Session(b.ctx, id)
			b.refused(err, talk.ErrSessionNotFound)
			_, _, err = b.Rotate(b.ctx, id, 1, b.clock.Now(), time.Hour)
			b.refused(err, talk.ErrSessionNotFound)
			b.must(b.UseSessions(b.ctx, []talk.SessionUse{{ID: id, At: b.clock.Now()}}))
		}
		b.must(b.UseSessions(b.ctx, nil))
	},
	"living_sessions_are_listed_the_last_used_first": func(b *bench) {
		ada, bob := b.person("ada"), b.person("bob")
		first, second, third := b.session(ada), b.session(ada), b.session(ada)
		b.session(bob)
		at := b.clock.Add(time.Minute)
		b.must(b.UseSessions(b.ctx, []talk.SessionUse{{ID: second, At: at}, {ID: first, At: at.Add(-time.Second)}}))
		b.must(b.logout(b.Store, ada, third))
		sessions, err := b.Sessions(b.ctx, ada, b.clock.Now())
		b.must(err)
		same(b, "sessions", sessions, []talk.Session{b.device(second), b.device(first)})
		sessions, err = b.Sessions(b.ctx, ada, b.clock.Now().Add(talk.SessionIdle))
		b.must(err)
		same(b, "sessions that have run out", len(sessions), 0)
	},
	"a_change_sees_the_living_sessions_oldest_first": func(b *bench) {
		ada := b.person("ada")
		var ids []talk.SessionID
		for range 4 {
			ids = append(ids, b.session(ada))
			b.clock.Add(time.Second)
		}
		b.must(b.logout(b.Store, ada, ids[1]))
		b.must(b.change(talk.Scope{Users: []talk.UserID{ada}, Sessions: true}, func(s *talk.State) error {
			u, err := s.User(ada)
			b.must(err)
			var got []talk.SessionID
			for _, session := range u.Sessions {
				got = append(got, session.ID)
			}
			same(b, "sessions", got, []talk.SessionID{ids[0], ids[2], ids[3]})
			return nil
		}))
		b.must(b.change(talk.Scope{Users: []talk.UserID{ada}}, func(s *talk.State) error {
			u, err := s.User(ada)
			b.must(err)
			same(b, "sessions that were not asked for", len(u.Sessions), 0)
			return nil
		}))
	},
	"rotation_moves_the_idle_limit_and_never_the_absolute": func(b *bench) {
		id := b.session(b.person("ada"))
		before := b.device(id)
		at := b.clock.Add(time.Hour)
		after, rotated, err := b.Rotate(b.ctx, id, 1, at, talk.SessionIdle)
		b.must(err)
		want := before
		want.Generation, want.RotatedAt, want.LastUsedAt, want.IdleExpiresAt = 2, at, at, at.Add(talk.SessionIdle)
		same(b, "rotated", rotated, true)
		same(b, "session", after, want)
		same(b, "session as it is kept", b.device(id), want)
	},
	"an_old_generation_rotates_nothing": func(b *bench) {
		id := b.session(b.person("ada"))
		for _, generation := range []int64{0, 2, -1} {
			session, rotated, err := b.Rotate(b.ctx, id, generation, b.clock.Now(), time.Hour)
			b.must(err)
			same(b, "rotated", rotated, false)
			same(b, "session", session, b.device(id))
		}
	},
	"an_ended_session_rotates_never_again": func(b *bench) {
		ada := b.person("ada")
		revoked, idle := b.session(ada), b.session(ada)
		b.must(b.logout(b.Store, ada, revoked))
		session, rotated, err := b.Rotate(b.ctx, revoked, 1, b.clock.Now(), time.Hour)
		b.must(err)
		same(b, "rotated", rotated, false)
		same(b, "revoked", session.RevokedAt, b.clock.Now())
		same(b, "reason", session.RevokeReason, talk.RevokedByLogout)
		for _, late := range []time.Duration{talk.SessionIdle, talk.SessionAbsolute} {
			_, rotated, err = b.Rotate(b.ctx, idle, 1, b.clock.Now().Add(late), time.Hour)
			b.must(err)
			same(b, "rotated", rotated, false)
		}
		_, rotated, err = b.Rotate(b.ctx, idle, 1, b.clock.Now().Add(talk.SessionIdle-time.Microsecond), time.Hour)
		b.must(err)
		same(b, "rotated in the last moment", rotated, true)
	},
	"uses_confirm_what_was_made_and_nothing_moves_back": func(b *bench) {
		ada := b.person("ada")
		id, other := b.session(ada), b.session(ada)
		_, _, err := b.Rotate(b.ctx, id, 1, b.clock.Now(), time.Hour)
		b.must(err)
		at := b.clock.Add(time.Minute)
		use := func(at time.Time, generation int64, ip string) {
			b.Helper()
			b.must(b.UseSessions(b.ctx, []talk.SessionUse{{ID: id, At: at, IP: ip, UserAgent: "it's ?", Generation: generation}, {ID: other, At: at, Generation: 1}}))
		}
		use(at, 2, "192.0.2.1")
		want := b.device(id)
		same(b, "confirmed", want.ConfirmedGeneration, int64(2))
		same(b, "used", want.LastUsedAt, at)
		same(b, "from", want.IP+want.UserAgent, "192.0.2.1it's ?")
		same(b, "confirmed of the other", b.device(other).ConfirmedGeneration, int64(1))
		use(at.Add(-time.Second), 1, "192.0.2.2")
		same(b, "after an older use", b.device(id), want)
		use(at, 3, "192.0.2.1")
		same(b, "after a generation that was never made", b.device(id), want)
	},
	"uses_of_one_session_in_one_batch_are_one": func(b *bench) {
		id := b.session(b.person("ada"))
		at := b.clock.Now()
		b.must(b.UseSessions(b.ctx, []talk.SessionUse{
			{ID: id, At: at.Add(2 * time.Second), IP: "b"}, {ID: id, At: at.Add(time.Second), IP: "a", Generation: 1},
		}))
		session := b.device(id)
		same(b, "used", session.LastUsedAt, at.Add(2*time.Second))
		same(b, "from", session.IP, "b")
		same(b, "confirmed", session.ConfirmedGeneration, int64(1))
	},
	"uses_leave_ended_sessions_alone": func(b *bench) {
		ada := b.person("ada")
		id := b.session(ada)
		b.must(b.logout(b.Store, ada, id))
		want := b.device(id)
		b.must(b.UseSessions(b.ctx, []talk.SessionUse{{ID: id, At: b.clock.Add(time.Second), Generation: 1}}))
		same(b, "session", b.device(id), want)
	},
	"revocation_is_known_since_a_time": func(b *bench) {
		ada := b.person("ada")
		first, second, third := b.session(ada), b.session(ada), b.session(ada)
		b.must(b.logout(b.Store, ada, first))
		since := b.clock.Add(time.Second)
		b.must(b.logout(b.Store, ada, third))
		b.clock.Add(time.Second)
		b.must(b.logout(b.Store, ada, second, first))
		ids, err := b.RevokedSince(b.ctx, since)
		b.must(err)
		same(b, "sessions", ids, []talk.SessionID{third, second})
	},
	"what_lingers_of_a_session_can_be_ended": func(b *bench) {
		ada := b.person("ada")
		since := b.clock.Now()
		lingers, gone := b.session(ada), b.session(ada)
		b.clock.Add(time.Hour) // its last access token and its streams outlive it
		_, _, err := b.Rotate(b.ctx, lingers, 1, b.clock.Now(), talk.SessionIdle)
		b.must(err)
		b.clock.Add(talk.SessionIdle + 30*time.Minute)
		b.must(b.logout(b.Store, ada, lingers, gone))
		ids, err := b.RevokedSince(b.ctx, since)
		b.must(err)
		same(b, "sessions", ids, []talk.SessionID{lingers})
	},
	"an_erased_persons_sessions_tell_nothing_of_their_devices": func(b *bench) {
		ada, bob := b.person("ada"), b.person("bob")
		ended, living, bobs := b.session(ada), b.session(ada), b.session(bob)
		b.must(b.logout(b.Store, ada, ended))
		b.must(b.change(talk.Scope{Users: []talk.UserID{ada}, Sessions: true}, func(s *talk.State) error {
			u, err := s.User(ada)
			if err == nil {
				u.Revoke(talk.RevokedByLogout, s.Now, func(*talk.Session) bool { return true })
				u.Erase(s.Now)
			}
			return err
		}))
		for _, id := range []talk.SessionID{ended, living} {
			same(b, "ada's", b.device(id).IP+b.device(id).UserAgent, "")
			same(b, "reason", b.device(id).RevokeReason, talk.RevokedByLogout)
		}
		same(b, "bob's", b.device(bobs).IP, "2001:db8::1")
	},
	"the_21st_session_ends_the_oldest": func(b *bench) {
		ada := b.person("ada")
		oldest := b.session(ada)
		for range talk.SessionsPerUser {
			b.clock.Add(time.Second)
			b.session(ada)
		}
		sessions, err := b.Sessions(b.ctx, ada, b.clock.Now())
		b.must(err)
		same(b, "sessions", len(sessions), talk.SessionsPerUser)
		same(b, "reason", b.device(oldest).RevokeReason, talk.RevokedByLimit)
	},
}

var keyTests = map[string]func(*bench){
	"keys_are_kept_oldest_first": func(b *bench) {
		now := b.clock.Now()
		older := talk.StoredKey{ID: "b", Purpose: "sign", Sealed: []byte{0, 1, 255}, CreatedAt: now, ActiveAt: now.Add(time.Minute)}
		newer := talk.StoredKey{ID: "a", Purpose: "sign", Sealed: []byte("'"), CreatedAt: now.Add(time.Second), ActiveAt: now}
		b.must(b.AddKeys(b.ctx, false, newer, older))
		keys, err := b.Keys(b.ctx)
		b.must(err)
		same(b, "keys", keys, []talk.StoredKey{older, newer})
		b.must(b.DropKeys(b.ctx, "a", "unknown"))
		b.must(b.DropKeys(b.ctx))
		keys, err = b.Keys(b.ctx)
		b.must(err)
		same(b, "keys", keys, []talk.StoredKey{older})
	},
	"the_first_key_of_a_purpose_is_made_once": func(b *bench) {
		now := b.clock.Now()
		key := func(id, purpose string) talk.StoredKey {
			return talk.StoredKey{ID: id, Purpose: purpose, Sealed: []byte(id), CreatedAt: now, ActiveAt: now}
		}
		errs := together(8, func(i int) error {
			return b.AddKeys(b.ctx, true, key("s"+string(rune('0'+i)), "sign"), key("r"+string(rune('0'+i)), "refresh"))
		})
		for _, err := range errs {
			b.must(err)
		}
		keys, err := b.Keys(b.ctx)
		b.must(err)
		same(b, "keys", len(keys), 2)
		same(b, "made by one", keys[0].ID[1], keys[1].ID[1])
		b.must(b.AddKeys(b.ctx, false, key("s9", "sign")))
	},
}

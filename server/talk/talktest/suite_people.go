package talktest

import (
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

var peopleTests = map[string]func(*bench){
	"an_account_is_read_back_as_it_was_written": func(b *bench) {
		ada := b.person("Ada")
		at := b.clock.Now()
		want := talk.Account{
			User: talk.User{
				ID: ada, Username: "Ada", Role: talk.RoleUser, CreatedAt: at, UpdatedAt: at,
				Profile: talk.Profile{DisplayName: "ADA", NativeLanguages: []string{"es"}, Country: "MX"},
			},
			Email: "Ada@example.org", PasswordHash: "hash of Ada",
		}
		same(b, "account", b.account(ada), talk.AccountView{Account: want})
		views, err := b.Users(b.ctx, []talk.UserID{ada})
		b.must(err)
		same(b, "user", views, []talk.UserView{{User: want.User}})
	},
	"names_are_found_whatever_their_case": func(b *bench) {
		ada := b.person("Ada")
		id, err := b.UserID(b.ctx, "aDA")
		b.must(err)
		same(b, "by username", id, ada)
		for _, login := range []talk.Login{{Email: "ADA@example.org"}, {Username: "ada"}} {
			account, err := b.Credentials(b.ctx, login)
			b.must(err)
			same(b, "hash", account.PasswordHash, "hash of Ada")
		}
	},
	"names_are_taken_whatever_their_case": func(b *bench) {
		b.person("Ada")
		_, err := b.register("bob", "aDA@EXAMPLE.org")
		b.refused(err, talk.ErrEmailTaken)
		_, err = b.register("ADA", "bob@example.org")
		b.refused(err, talk.ErrUsernameTaken)
		_, err = b.UserID(b.ctx, "bob")
		b.refused(err, talk.ErrUserNotFound)
	},
	"unknown_people_are_not_found": func(b *bench) {
		for _, id := range []talk.UserID{talk.UserID(talk.NewID()), "", "nobody", "\x00", "\xff\xfe", "'; DROP TABLE users; --"} {
			_, err := b.Account(b.ctx, id)
			b.refused(err, talk.ErrUserNotFound)
			views, err := b.Users(b.ctx, []talk.UserID{id})
			b.must(err)
			same(b, "users", len(views), 0)
		}
		for _, name := range []string{"", "nobody", "\x00", "\xff\xfe", "' OR TRUE --", "?", `\`} {
			_, err := b.UserID(b.ctx, name)
			b.refused(err, talk.ErrUserNotFound)
			_, err = b.Credentials(b.ctx, talk.Login{Email: name})
			b.refused(err, talk.ErrUserNotFound)
			_, err = b.Credentials(b.ctx, talk.Login{Username: name})
			b.refused(err, talk.ErrUserNotFound)
		}
	},
	"users_come_in_the_order_asked_each_once": func(b *bench) {
		ids := b.people(4)
		views, err := b.Users(b.ctx, []talk.UserID{ids[2], talk.UserID(talk.NewID()), ids[0], ids[2], ids[3]})
		b.must(err)
		var got []talk.UserID
		for _, v := range views {
			got = append(got, v.ID)
		}
		same(b, "order", got, []talk.UserID{ids[2], ids[0], ids[3]})
	},
	"users_show_where_they_sit": func(b *bench) {
		ada, bob, eve := b.person("ada"), b.person("bob"), b.person("eve")
		room := b.room(ada)
		b.join(room, bob)
		views, err := b.Users(b.ctx, []talk.UserID{ada, bob, eve})
		b.must(err)
		same(b, "rooms", []talk.RoomID{views[0].RoomID, views[1].RoomID, views[2].RoomID}, []talk.RoomID{room, room, ""})
		same(b, "ada owns", b.account(ada).OwnedRoomID, room)
		same(b, "bob owns", b.account(bob).OwnedRoomID, "")
		same(b, "bob sits", b.account(bob).CurrentRoomID, room)
	},
	"a_profile_changes_whole_and_shows_in_the_room": func(b *bench) {
		ada := b.person("ada")
		room := b.room(ada)
		b.must(b.edit(ada, talk.ProfileEdit{
			DisplayName: new("A?da 'quoted' \\ \"Ñandú\" 🦜"), Bio: new("line\nline"), AvatarURL: new("https://example.org/?a=1&b=?"),
			Country: new(""), NativeLanguages: new([]string(nil)), LearningLanguages: new([]string{"en", "de-at"}),
		}))
		after := b.account(ada)
		same(b, "profile", after.Profile, talk.Profile{
			DisplayName: "A?da 'quoted' \\ \"Ñandú\" 🦜", Bio: "line\nline", AvatarURL: "https://example.org/?a=1&b=?",
			LearningLanguages: []string{"en", "de-at"},
		})
		view := b.view(room)
		same(b, "owner", view.Owner, after.Summary())
		same(b, "participant", view.Participants[0].User, after.Summary())
		same(b, "version", view.Version, int64(2))
	},
	"a_ban_of_an_account_is_kept": func(b *bench) {
		ada := b.person("ada")
		for _, ban := range []*talk.Ban{{Reason: "spam"}, {Reason: "spam", Until: b.clock.Now().Add(time.Hour)}, nil} {
			b.must(b.change(talk.Scope{Users: []talk.UserID{ada}}, func(s *talk.State) error {
				u, err := s.User(ada)
				b.must(err)
				u.Ban = ban
				u.SetRole(talk.RoleAdmin, s.Now)
				return nil
			}))
			same(b, "ban", b.account(ada).Ban, ban)
			same(b, "role", b.account(ada).Role, talk.RoleAdmin)
		}
	},
	"an_erased_person_is_gone_and_their_names_are_free": func(b *bench) {
		ada := b.person("Ada")
		room := b.room(ada)
		b.must(closeRoom(b.ctx, b.Store, room, ada))
		b.must(b.change(talk.Scope{Users: []talk.UserID{ada}}, func(s *talk.State) error {
			u, err := s.User(ada)
			b.must(err)
			u.Erase(s.Now)
			return nil
		}))
		_, err := b.Account(b.ctx, ada)
		b.refused(err, talk.ErrUserNotFound)
		_, err = b.UserID(b.ctx, "ada")
		b.refused(err, talk.ErrUserNotFound)
		_, err = b.Credentials(b.ctx, talk.Login{Email: "ada@example.org"})
		b.refused(err, talk.ErrUserNotFound)
		views, err := b.Users(b.ctx, []talk.UserID{ada})
		b.must(err)
		same(b, "users", len(views), 0)
		same(b, "owner of the old room", b.view(room).Owner, talk.UserSummary{ID: ada})
		b.must(b.change(talk.Scope{Users: []talk.UserID{ada}}, func(s *talk.State) error {
			_, err := s.User(ada)
			b.refused(err, talk.ErrUserNotFound)
			return nil
		}))
		b.person("Ada")
	},
}

func (b *bench) edit(who talk.UserID, edit talk.ProfileEdit) error {
	return b.change(talk.Scope{Users: []talk.UserID{who}, Seats: true}, func(s *talk.State) error {
		u, err := s.User(who)
		if err == nil {
			s.UpdateUser(u, edit)
		}
		return err
	})
}

var roomTests = map[string]func(*bench){
	"a_room_is_read_back_as_it_was_written": func(b *bench) {
		ada := b.person("ada")
		at := b.clock.Now()
		id := b.roomWith(ada, talk.NewRoom{Name: "¿Qué tal?", Topic: "100 % _real_", Languages: []string{"es-mx", "en"}, Level: talk.LevelAdvanced, Capacity: 5})
		owner := b.account(ada).Summary()
		same(b, "room", b.view(id), talk.RoomView{
			Room: talk.Room{
				ID: id, Slug: "slug-" + string(id), Name: "¿Qué tal?", Topic: "100 % _real_", Languages: []string{"es-mx", "en"},
				Level: talk.LevelAdvanced, Capacity: 5, ParticipantCount: 1, Owner: owner, Version: 1, CreatedAt: at, UpdatedAt: at,
			},
			Participants: []talk.Participant{{User: owner, Owner: true, State: talk.Connected, StateSince: at, JoinedAt: at}},
		})
		found, err := b.RoomID(b.ctx, "slug-"+string(id))
		b.must(err)
		same(b, "by slug", found, id)
	},
	"unknown_rooms_are_not_found": func(b *bench) {
		for _, id := range []talk.RoomID{talk.RoomID(talk.NewID()), "", "nowhere", "\x00", "\xff", "' OR TRUE --"} {
			_, err := b.Room(b.ctx, id)
			b.refused(err, talk.ErrRoomNotFound)
			_, err = b.RoomID(b.ctx, string(id))
			b.refused(err, talk.ErrRoomNotFound)
			bans, err := b.RoomBans(b.ctx, id, b.clock.Now())
			b.must(err)
			same(b, "bans", len(bans), 0)
		}
	},
	"the_longest_seated_come_first": func(b *bench) {
		ids := b.people(5)
		room := b.room(ids[0])
		for _, i := range []int{3, 1, 4, 2} { // without the clock moving
			b.must(join(b.ctx, b.Store, room, ids[i]))
		}
		same(b, "order", b.seated(room), []talk.UserID{ids[0], ids[3], ids[1], ids[4], ids[2]})
	},
	"the_heir_of_an_owner_who_leaves_is_the_longest_seated": func(b *bench) {
		ids := b.people(3)
		room := b.room(ids[0])
		b.join(room, ids[1], ids[2])
		b.must(leave(b.ctx, b.Store, room, ids[0]))
		view := b.view(room)
		same(b, "owner", view.Owner.ID, ids[1])
		same(b, "owner's seat", view.Participants[0].Owner, true)
		same(b, "owned", b.account(ids[1]).OwnedRoomID, room)
		same(b, "owned before", b.account(ids[0]).OwnedRoomID, "")
		same(b, "version", view.Version, int64(5))
		b.room(ids[0])
	},
	"the_last_to_leave_closes_the_room": func(b *bench) {
		ada := b.person("ada")
		room := b.room(ada)
		at := b.clock.Add(time.Minute)
		b.must(leave(b.ctx, b.Store, room, ada))
		view := b.view(room)
		same(b, "closed", view.ClosedAt, at)
		same(b, "reason", view.CloseReason, talk.ClosedEmpty)
	},
	"a_closed_room_seats_nobody_and_keeps_its_owner": func(b *bench) {
		ids := b.people(3)
		room := b.room(ids[0])
		b.join(room, ids[1], ids[2])
		b.must(closeRoom(b.ctx, b.Store, room, ids[0]))
		b.must(closeRoom(b.ctx, b.Store, room, ids[0]))
		view := b.view(room)
		same(b, "participants", len(view.Participants), 0)
		same(b, "count", view.ParticipantCount, 0)
		same(b, "owner", view.Owner, b.account(ids[0]).Summary())
		same(b, "seat", b.account(ids[1]).CurrentRoomID, "")
		same(b, "version", view.Version, int64(7))
		b.refused(join(b.ctx, b.Store, room, ids[1]), talk.ErrRoomClosed)
	},
	"a_room_changes_whole": func(b *bench) {
		ada := b.person("ada")
		room := b.room(ada)
		at := b.clock.Add(time.Minute)
		edit := talk.RoomEdit{Name: new("New"), Topic: new("Other"), Languages: new([]string{"de"}), Level: new(talk.LevelBeginner), Capacity: new(3), Version: 1}
		change := func() error {
			return in(b.ctx, b.Store, one(room), func(s *talk.State, r *talk.RoomState, _ *talk.UserState) error {
				return r.Edit(ada, edit, s.Now)
			})
		}
		b.must(change())
		got := b.view(room).Room
		want := got
		want.Name, want.Topic, want.Languages, want.Level, want.Capacity = "New", "Other", []string{"de"}, talk.LevelBeginner, 3
		want.Version, want.UpdatedAt = 2, at
		same(b, "room", got, want)
		b.refused(change(), talk.ErrVersionMismatch)
	},
	"a_participants_state_is_kept": func(b *bench) {
		ada := b.person("ada")
		room := b.room(ada)
		at := b.clock.Add(time.Minute)
		b.must(around(b, one(room), func(s *talk.State, r *talk.RoomState) {
			r.Participants = append([]talk.Participant(nil), r.Participants...)
			r.Participants[0].State, r.Participants[0].StateSince = talk.Reconnecting, s.Now
		}))
		seat := b.view(room).Participants[0]
		same(b, "state", seat.State, talk.Reconnecting)
		same(b, "since", seat.StateSince, at)
	},
	"a_kick_is_a_ban_for_a_while": func(b *bench) {
		ada, bob := b.person("ada"), b.person("bob")
		room := b.room(ada)
		b.join(room, bob)
		b.must(kick(b.ctx, b.Store, room, ada, bob))
		until := b.clock.Now().Add(talk.DefaultBan)
		want := []talk.RoomBan{{User: b.account(bob).Summary(), Until: until, Reason: "loud"}}
		bans, err := b.RoomBans(b.ctx, room, b.clock.Now())
		b.must(err)
		same(b, "bans", bans, want)
		b.refused(join(b.ctx, b.Store, room, bob), talk.ErrKicked)
		b.clock.Set(until)
		bans, err = b.RoomBans(b.ctx, room, b.clock.Now())
		b.must(err)
		same(b, "bans that have run out", len(bans), 0)
		b.join(room, bob)
		b.must(kick(b.ctx, b.Store, room, ada, bob)) // over the one that has run out
		b.refused(join(b.ctx, b.Store, room, bob), talk.ErrKicked)
	},
	"a_lifted_ban_is_gone": func(b *bench) {
		ada, bob := b.person("ada"), b.person("bob")
		room := b.room(ada)
		b.join(room, bob)
		b.must(kick(b.ctx, b.Store, room, ada, bob))
		b.must(in(b.ctx, b.Store, one(room), func(_ *talk.State, r *talk.RoomState, _ *talk.UserState) error {
			return r.LiftBan(ada, bob)
		}))
		b.join(room, bob)
	},
}

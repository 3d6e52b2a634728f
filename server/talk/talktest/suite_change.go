package talktest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

var errDecided = errors.New("decided otherwise")

var changeTests = map[string]func(*bench){
	"an_error_of_the_decision_comes_back_as_it_is_and_keeps_nothing": func(b *bench) {
		ada, bob := b.person("ada"), b.person("bob")
		room := b.room(ada)
		before, rows := b.view(room), len(b.outbox())
		err := in(b.ctx, b.Store, one(room, bob), func(s *talk.State, r *talk.RoomState, u *talk.UserState) error {
			b.must(r.Join(u, s.Now))
			return errDecided
		})
		if err != errDecided { //nolint:errorlint // as it is, unwrapped
			b.Fatalf("got %v", err)
		}
		same(b, "room", b.view(room), before)
		same(b, "rows of the outbox", len(b.outbox()), rows)
	},
	"what_decides_may_see_the_time_of_the_store": func(b *bench) {
		b.must(b.change(talk.Scope{}, func(s *talk.State) error {
			same(b, "now", s.Now, b.clock.Now())
			return nil
		}))
		now, err := b.Now(b.ctx)
		b.must(err)
		same(b, "Now", now, b.clock.Now())
	},
	"a_change_of_nothing_tells_nothing": func(b *bench) {
		room := b.room(b.person("ada"))
		rows := len(b.outbox())
		told, err := b.Change(b.ctx, one(room), func(*talk.State) error { return nil })
		b.must(err)
		same(b, "told", told, talk.Told{})
		same(b, "rows of the outbox", len(b.outbox()), rows)
	},
	"what_is_not_there_is_not_found": func(b *bench) {
		nobody, nowhere := talk.UserID(talk.NewID()), talk.RoomID(talk.NewID())
		b.must(b.change(talk.Scope{Rooms: []talk.RoomID{nowhere}, Users: []talk.UserID{nobody}, Seats: true, Members: true, Sessions: true}, func(s *talk.State) error {
			_, err := s.Room(nowhere)
			b.refused(err, talk.ErrRoomNotFound)
			_, err = s.User(nobody)
			b.refused(err, talk.ErrUserNotFound)
			return nil
		}))
	},
	"ids_that_are_none_are_not_found_either": func(b *bench) {
		b.must(b.change(talk.Scope{Rooms: []talk.RoomID{"", "x'\x00"}, Users: []talk.UserID{"", "\xff"}, Seats: true}, func(s *talk.State) error {
			_, err := s.Room("x'\x00")
			b.refused(err, talk.ErrRoomNotFound)
			return nil
		}))
	},
	"what_is_outside_of_the_scope_is_not_there": func(b *bench) {
		ada, bob := b.person("ada"), b.person("bob")
		room := b.room(ada)
		b.must(b.change(talk.Scope{Users: []talk.UserID{bob}}, func(s *talk.State) error {
			_, err := s.Room(room)
			b.refused(err, talk.ErrRoomNotFound)
			_, err = s.User(ada)
			b.refused(err, talk.ErrUserNotFound)
			return nil
		}))
	},
	"users_know_where_they_sit_and_what_they_own": func(b *bench) {
		ada, bob, eve := b.person("ada"), b.person("bob"), b.person("eve")
		room := b.room(ada)
		b.join(room, bob)
		b.must(b.change(talk.Scope{Users: []talk.UserID{ada, bob, eve}}, func(s *talk.State) error {
			for id, want := range map[talk.UserID][2]talk.RoomID{ada: {room, room}, bob: {room, ""}, eve: {}} {
				u, err := s.User(id)
				b.must(err)
				same(b, u.Username, [2]talk.RoomID{u.Seat, u.Owns}, want)
			}
			return nil
		}))
	},
	"seats_takes_the_rooms_that_users_sit_in": func(b *bench) {
		ada, bob := b.person("ada"), b.person("bob")
		first, second := b.room(ada), b.room(bob)
		b.must(b.change(talk.Scope{Rooms: []talk.RoomID{second}, Users: []talk.UserID{ada}, Seats: true}, func(s *talk.State) error {
			_, err := s.Room(first)
			b.must(err)
			_, err = s.Room(second)
			return err
		}))
	},
	"members_takes_everybody_in_the_rooms": func(b *bench) {
		ada, bob := b.person("ada"), b.person("bob")
		room := b.room(ada)
		b.join(room, bob)
		b.must(b.change(talk.Scope{Rooms: []talk.RoomID{room}, Members: true}, func(s *talk.State) error {
			for id, owns := range map[talk.UserID]talk.RoomID{ada: room, bob: ""} {
				u, err := s.User(id)
				b.must(err)
				same(b, "seat", u.Seat, room)
				same(b, "owns", u.Owns, owns)
			}
			return nil
		}))
	},
	"leaving_one_room_for_another_is_both_or_neither": func(b *bench) {
		ada, bob, eve := b.person("ada"), b.person("bob"), b.person("eve")
		first, full := b.room(ada), b.roomWith(bob, talk.NewRoom{Capacity: 2})
		b.join(first, eve)
		move := func() error {
			scope := one(full, eve)
			scope.Seats = true
			return in(b.ctx, b.Store, scope, func(s *talk.State, r *talk.RoomState, u *talk.UserState) error {
				from, err := s.Room(u.Seat)
				b.must(err)
				from.Leave(u, talk.LeftByThemselves, s.Now)
				return r.Join(u, s.Now)
			})
		}
		cy := b.person("cy")
		b.join(full, cy)
		b.refused(move(), talk.ErrRoomFull)
		same(b, "first room", b.seated(first), []talk.UserID{ada, eve})
		b.must(leave(b.ctx, b.Store, full, cy))
		b.must(move())
		same(b, "first room", b.seated(first), []talk.UserID{ada})
		same(b, "second room", b.seated(full), []talk.UserID{bob, eve})
	},
	"a_deadline_is_heard_while_another_change_has_the_room": func(b *bench) {
		ada, bob := b.person("ada"), b.person("bob")
		room := b.room(ada)
		b.must(in(b.ctx, b.Store, one(room), func(*talk.State, *talk.RoomState, *talk.UserState) error {
			ctx, cancel := context.WithTimeout(b.ctx, 50*time.Millisecond)
			defer cancel()
			began := time.Now()
			b.refused(join(ctx, b.Store, room, bob), context.DeadlineExceeded)
			if took := time.Since(began); took > time.Second {
				b.Fatalf("heard after %v", took)
			}
			return nil
		}))
		b.join(room, bob)
	},
	"a_cancelled_call_changes_nothing": func(b *bench) {
		ada := b.person("ada")
		ctx, cancel := context.WithCancel(b.ctx)
		cancel()
		_, err := b.open(ctx, ada, talk.NewRoom{})
		b.refused(err, context.Canceled)
		same(b, "owned", b.account(ada).OwnedRoomID, "")
	},
	"changes_of_one_room_come_one_after_the_other": func(b *bench) {
		room := b.room(b.person("ada"))
		var inside atomic.Int32
		together(20, func(int) error {
			return in(b.ctx, b.Store, one(room), func(*talk.State, *talk.RoomState, *talk.UserState) error {
				if inside.Add(1) > 1 {
					b.Error("two at once")
				}
				defer inside.Add(-1)
				return nil
			})
		})
	},
}

var ruleTests = map[string]func(*bench){
	"nobody_sits_beyond_the_capacity": func(b *bench) {
		ids := b.people(3)
		room := b.roomWith(ids[0], talk.NewRoom{Capacity: 2})
		b.join(room, ids[1])
		b.refused(around(b, one(room), func(s *talk.State, r *talk.RoomState) { sit(s, r, ids[2]) }), talk.ErrRoomFull)
		same(b, "seated", b.seated(room), ids[:2])
	},
	"capacity_is_not_cut_below_who_sits": func(b *bench) {
		ids := b.people(3)
		room := b.room(ids[0])
		b.join(room, ids[1:]...)
		b.refused(around(b, one(room), func(s *talk.State, r *talk.RoomState) {
			b.must(r.Edit(ids[0], talk.RoomEdit{}, s.Now))
			r.Capacity = 2
		}), talk.ErrRoomFull)
		same(b, "capacity", b.view(room).Capacity, talk.DefaultCapacity)
	},
	"capacity_is_at_least_two": func(b *bench) {
		ada := b.person("ada")
		_, err := b.open(b.ctx, ada, talk.NewRoom{Capacity: 1})
		b.broken(err)
		same(b, "owned", b.account(ada).OwnedRoomID, "")
	},
	"defect_3_nobody_sits_in_two_rooms": func(b *bench) {
		ada, bob, eve := b.person("ada"), b.person("bob"), b.person("eve")
		first, second := b.room(ada), b.room(bob)
		b.join(first, eve)
		b.refused(around(b, one(second), func(s *talk.State, r *talk.RoomState) { sit(s, r, eve) }), talk.ErrInAnotherRoom)
		same(b, "second room", b.seated(second), []talk.UserID{bob})
	},
	"defect_3_nobody_owns_two_open_rooms": func(b *bench) {
		ada := b.person("ada")
		room := b.room(ada)
		err := b.change(talk.Scope{Users: []talk.UserID{ada}}, func(s *talk.State) error {
			u, err := s.User(ada)
			b.must(err)
			u.Owns, u.Seat = "", "" // the rule is made to look away
			_, err = s.OpenRoom(talk.RoomID(talk.NewID()), "other", talk.NewRoom{Name: "Other", Languages: []string{"en"}, Level: talk.LevelAny, Capacity: 2}, u)
			return err
		})
		b.refused(err, talk.ErrOwnsARoom)
		same(b, "owned", b.account(ada).OwnedRoomID, room)
	},
	"defect_4_an_open_room_is_never_without_its_owner": func(b *bench) {
		ada, bob := b.person("ada"), b.person("bob")
		room := b.room(ada)
		b.join(room, bob)
		b.broken(around(b, one(room), func(s *talk.State, r *talk.RoomState) {
			b.must(r.Edit(ada, talk.RoomEdit{}, s.Now))
			r.Participants = r.Participants[1:]
		}))
		same(b, "seated", b.seated(room), []talk.UserID{ada, bob})
	},
	"a_stranger_does_not_own_a_room": func(b *bench) {
		ada, bob := b.person("ada"), b.person("bob")
		room := b.room(ada)
		b.broken(around(b, one(room), func(s *talk.State, r *talk.RoomState) {
			b.must(r.Edit(ada, talk.RoomEdit{}, s.Now))
			r.Owner.ID = bob
		}))
		same(b, "owner", b.view(room).Owner.ID, ada)
	},
	"a_closed_room_seats_nobody": func(b *bench) {
		ada, bob := b.person("ada"), b.person("bob")
		room := b.room(ada)
		b.must(closeRoom(b.ctx, b.Store, room, ada))
		b.refused(around(b, one(room), func(s *talk.State, r *talk.RoomState) { sit(s, r, bob) }), talk.ErrRoomClosed)
		same(b, "seated", b.seated(room), nil)
	},
	"a_room_with_people_does_not_close": func(b *bench) {
		ada := b.person("ada")
		room := b.room(ada)
		b.refused(around(b, one(room), func(s *talk.State, r *talk.RoomState) {
			b.must(r.Edit(ada, talk.RoomEdit{}, s.Now))
			r.ClosedAt, r.CloseReason = s.Now, talk.ClosedByOwner
		}), talk.ErrRoomClosed)
	},
	"nobody_unknown_sits": func(b *bench) {
		room := b.room(b.person("ada"))
		b.broken(around(b, one(room), func(s *talk.State, r *talk.RoomState) { sit(s, r, talk.UserID(talk.NewID())) }))
	},
	"a_slug_is_one_rooms_for_ever": func(b *bench) {
		ada := b.person("ada")
		open := func() error {
			return b.change(talk.Scope{Users: []talk.UserID{ada}}, func(s *talk.State) error {
				u, err := s.User(ada)
				b.must(err)
				_, err = s.OpenRoom(talk.RoomID(talk.NewID()), "same", talk.NewRoom{Name: "Same", Languages: []string{"en"}, Level: talk.LevelAny, Capacity: 2}, u)
				return err
			})
		}
		b.must(open())
		b.must(closeRoom(b.ctx, b.Store, b.account(ada).OwnedRoomID, ada))
		b.refused(open(), talk.ErrBusy)
	},
}

// around changes a room by hand, past the rules of talk.
func around(b *bench, scope talk.Scope, change func(*talk.State, *talk.RoomState)) error {
	return in(b.ctx, b.Store, scope, func(s *talk.State, r *talk.RoomState, _ *talk.UserState) error {
		change(s, r)
		return nil
	})
}

func sit(s *talk.State, r *talk.RoomState, who talk.UserID) {
	r.Participants = append(r.Participants, talk.Participant{
		User: talk.UserSummary{ID: who}, State: talk.Connected, StateSince: s.Now, JoinedAt: s.Now,
	})
}

// broken fails the test unless err says that a rule was broken that is nobody's fault but ours.
func (b *bench) broken(err error) {
	b.Helper()
	if err == nil || talk.ReasonOf(err) != "" {
		b.Fatalf("got %v; want a refusal of the store itself", err)
	}
}

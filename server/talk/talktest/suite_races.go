package talktest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/free2talk/free2talk/server/talk"
)

// RunRaces proves what holds whoever is faster, on nodes that share a database.
func RunRaces(t *testing.T, rounds int, open func(t *testing.T, clock talk.Clock) []talk.Store) {
	for name, test := range raceTests {
		t.Run(name, func(t *testing.T) {
			clock := NewClock()
			nodes := open(t, clock.Now)
			test(&race{bench: &bench{T: t, Store: nodes[0], ctx: t.Context(), clock: clock}, nodes: nodes, rounds: rounds})
		})
	}
}

// race is a bench with several nodes.
type race struct {
	*bench
	nodes  []talk.Store
	rounds int
}

// node is the store that the i-th of a crowd comes to.
func (r *race) node(i int) talk.Store { return r.nodes[i%len(r.nodes)] }

// together runs n calls at once and returns their errors.
func together(n int, call func(i int) error) []error {
	errs := make([]error, n)
	var start, done sync.WaitGroup
	start.Add(1)
	for i := range n {
		done.Go(func() {
			start.Wait()
			errs[i] = call(i)
		})
	}
	start.Done()
	done.Wait()
	return errs
}

// won counts the calls that succeeded, and fails the test where another failed
// with anything but one of these.
func (r *race) won(errs []error, lost ...error) int {
	r.Helper()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
			continue
		}
		expected := false
		for _, want := range lost {
			expected = expected || errors.Is(err, want)
		}
		if !expected {
			r.Errorf("lost by %v", err)
		}
	}
	return won
}

// whole proves the invariants of one room: R1 to R3.
func (r *race) whole(room talk.RoomID) talk.RoomView {
	r.Helper()
	view := r.view(room)
	owners := 0
	for _, p := range view.Participants {
		if p.Owner {
			owners++
			same(r.bench, "owner", p.User.ID, view.Owner.ID)
		}
	}
	same(r.bench, "count", view.ParticipantCount, len(view.Participants))
	if view.ParticipantCount > view.Capacity {
		r.Errorf("%d in a room of %d", view.ParticipantCount, view.Capacity)
	}
	switch {
	case view.Open() && owners != 1:
		r.Errorf("an open room with %d owners", owners)
	case !view.Open() && len(view.Participants) != 0:
		r.Errorf("a closed room seats %d", len(view.Participants))
	}
	return view
}

// told proves that the events of a room have no gap and no double (E1), and
// that its versions only rise.
func (r *race) told(room talk.RoomID) {
	r.Helper()
	seq := int64(0)
	for _, row := range r.outbox() {
		if row.Event.Topic != talk.RoomTopic(room) {
			continue
		}
		if seq++; row.Event.Seq != seq {
			r.Fatalf("event %d after %d", row.Event.Seq, seq-1)
		}
	}
}

var raceTests = map[string]func(*race){
	"defect_2_64_join_a_room_of_12": func(r *race) {
		people := r.people(65)
		for range max(1, r.rounds*2/5) {
			room := r.room(people[64])
			errs := together(64, func(i int) error { return join(r.ctx, r.node(i), room, people[i]) })
			same(r.bench, "seated beside the owner", r.won(errs, talk.ErrRoomFull), 11)
			same(r.bench, "count", r.whole(room).ParticipantCount, 12)
			r.told(room)
			r.must(closeRoom(r.ctx, r.Store, room, people[64]))
		}
	},
	"defect_3_one_joins_ten_rooms_at_once": func(r *race) {
		people := r.people(11)
		rooms := make([]talk.RoomID, 10)
		for i := range rooms {
			rooms[i] = r.room(people[i])
		}
		for range r.rounds {
			errs := together(10, func(i int) error { return join(r.ctx, r.node(i), rooms[i], people[10]) })
			same(r.bench, "rooms joined", r.won(errs, talk.ErrInAnotherRoom), 1)
			seat := r.account(people[10]).CurrentRoomID
			for _, room := range rooms {
				r.whole(room)
			}
			r.must(leave(r.ctx, r.Store, seat, people[10]))
		}
	},
	"defect_3_one_opens_ten_rooms_at_once": func(r *race) {
		ada := r.person("ada")
		for range r.rounds {
			errs := together(10, func(i int) error {
				_, err := openRoom(r.ctx, r.node(i), ada, talk.NewRoom{})
				return err
			})
			same(r.bench, "rooms opened", r.won(errs, talk.ErrOwnsARoom), 1)
			r.must(closeRoom(r.ctx, r.Store, r.account(ada).OwnedRoomID, ada))
		}
	},
	"defect_4_an_owner_leaves_while_all_else_happens": func(r *race) {
		people := r.people(4)
		for range r.rounds {
			room := r.room(people[0])
			r.join(room, people[1:]...)
			deeds := []func(context.Context, talk.Store) error{
				func(ctx context.Context, s talk.Store) error { return leave(ctx, s, room, people[0]) },
				func(ctx context.Context, s talk.Store) error { return kick(ctx, s, room, people[0], people[1]) },
				func(ctx context.Context, s talk.Store) error { return transfer(ctx, s, room, people[0], people[2]) },
				func(ctx context.Context, s talk.Store) error { return kick(ctx, s, room, people[2], people[0]) },
				func(ctx context.Context, s talk.Store) error { return closeRoom(ctx, s, room, people[0]) },
				func(ctx context.Context, s talk.Store) error { return leave(ctx, s, room, people[2]) },
			}
			errs := together(len(deeds), func(i int) error { return deeds[i](r.ctx, r.node(i)) })
			r.won(errs, talk.ErrNotOwner, talk.ErrRoomClosed, talk.ErrSelf, talk.ErrNotInRoom)
			view := r.whole(room)
			r.told(room)
			if view.Open() {
				r.must(closeRoom(r.ctx, r.Store, room, view.Owner.ID))
			}
		}
	},
	"a_seat_that_moves_between_looking_and_locking_is_found": func(r *race) {
		people := r.people(3)
		rooms := []talk.RoomID{r.room(people[0]), r.room(people[1])}
		r.join(rooms[0], people[2])
		hop := func(i int) error {
			scope := one(rooms[i%2], people[2])
			scope.Seats = true
			return in(r.ctx, r.node(i), scope, func(s *talk.State, to *talk.RoomState, u *talk.UserState) error {
				from, err := s.Room(u.Seat)
				if err != nil {
					return fmt.Errorf("their room is not locked: %w", err)
				}
				from.Leave(u, talk.LeftByThemselves, s.Now)
				return to.Join(u, s.Now)
			})
		}
		for range r.rounds {
			r.won(together(8, hop))
			same(r.bench, "people", r.whole(rooms[0]).ParticipantCount+r.whole(rooms[1]).ParticipantCount, 3)
		}
	},
	"100_register_one_address": func(r *race) {
		errs := together(100, func(i int) error {
			node := bench{T: r.T, Store: r.node(i), ctx: r.ctx, clock: r.clock}
			_, err := node.register(fmt.Sprintf("ada%d", i), "Ada@Example.org")
			return err
		})
		same(r.bench, "accounts", r.won(errs, talk.ErrEmailTaken), 1)
	},
	"200_refreshes_rotate_once": func(r *race) {
		ada := r.person("ada")
		for range max(1, r.rounds*2/5) {
			id := r.session(ada)
			errs := together(200, func(i int) error {
				session, rotated, err := r.node(i).Rotate(r.ctx, id, 1, r.clock.Now(), talk.SessionIdle)
				if err == nil && session.Generation != 2 {
					err = fmt.Errorf("generation %d", session.Generation)
				}
				if err == nil && !rotated {
					err = talk.ErrRefreshReused
				}
				return err
			})
			same(r.bench, "rotations", r.won(errs, talk.ErrRefreshReused), 1)
		}
	},
	"no_refresh_succeeds_after_a_logout": func(r *race) {
		ada := r.person("ada")
		for range r.rounds {
			id := r.session(ada)
			errs := together(9, func(i int) error {
				if i == 4 {
					return r.logout(r.node(i), ada, id)
				}
				_, _, err := r.node(i).Rotate(r.ctx, id, 1, r.clock.Now(), talk.SessionIdle)
				return err
			})
			r.won(errs)
			session, rotated, err := r.Rotate(r.ctx, id, 2, r.clock.Now(), talk.SessionIdle)
			r.must(err)
			if rotated || session.Alive(r.clock.Now()) {
				r.Fatal("a session lives after its logout")
			}
		}
	},
}

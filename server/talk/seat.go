package talk

import (
	"context"
	"errors"
	"time"
)

// DeadNode is a node that was silent for too long.
type DeadNode struct {
	Name   string
	SeenAt time.Time
}

// SeenNode is a node that has said within the last hour that it lives.
type SeenNode struct {
	Name   string
	SeenAt time.Time // when it last did
	Dead   bool      // others took it for dead since
}

// LostSeat is a seat that is held for somebody whose connection broke.
type LostSeat struct {
	UserID UserID
	Since  time.Time
}

// Nodes is the part of the database that presence needs: which nodes live, who
// sits where, and when people were last seen.
type Nodes interface {
	// Renew says that a node lives, and lists all that do; ErrNodeSwept where others
	// believe that it does not. begins is true the first time.
	Renew(ctx context.Context, node string, begins bool) ([]string, error)
	// SweepNodes marks nodes that were silent for ten seconds as dead, and lists
	// all that are marked and not buried.
	SweepNodes(ctx context.Context) ([]DeadNode, error)
	// Bury notes that what a dead node held was taken away.
	Bury(ctx context.Context, node string) error
	// Retire forgets a node that leaves.
	Retire(ctx context.Context, node string) error

	// LostSeats lists seats that have been held since before a time.
	LostSeats(ctx context.Context, before time.Time, limit int) ([]LostSeat, error)
	// SeatedPeople lists people in seats that count as connected, by id, after
	// one; of those who never had a connection there, who sat down before a time.
	SeatedPeople(ctx context.Context, after UserID, unattendedBefore time.Time, limit int) ([]UserID, error)
	// SeatedOf returns those of users who sit somewhere.
	SeatedOf(ctx context.Context, users []UserID) ([]UserID, error)
	// Attend notes that somebody sat in their seat with a connection.
	Attend(ctx context.Context, user UserID) error
	// Whereabouts returns what is known of those of users who exist.
	Whereabouts(ctx context.Context, users []UserID) ([]Whereabouts, error)
	// Saw notes, to the minute, when people were last there.
	Saw(ctx context.Context, users []UserID, when time.Time) error
}

// Lose holds the seat of somebody whose connection broke: they are
// reconnecting since then. Whoever does not sit there, or is reconnecting
// already, is left as they are.
func (r *RoomState) Lose(who UserID, since, now time.Time) {
	if i := r.index(who); i >= 0 && r.Participants[i].State == Connected {
		r.turn(i, Reconnecting, since, now)
	}
}

// Return gives the seat back to somebody who is reconnecting.
func (r *RoomState) Return(who UserID, now time.Time) {
	if i := r.index(who); i >= 0 && r.Participants[i].State == Reconnecting {
		r.turn(i, Connected, now, now)
	}
}

// Expire frees a seat that has been held since a time, and since then only.
func (r *RoomState) Expire(who *UserState, since, now time.Time) {
	i := r.index(who.ID)
	if i < 0 || r.Participants[i].State != Reconnecting || !r.Participants[i].StateSince.Equal(since) {
		return
	}
	r.Leave(who, LeftDisconnected, now)
}

func (r *RoomState) turn(i int, to ParticipantState, since, now time.Time) {
	people := make([]Participant, len(r.Participants))
	copy(people, r.Participants)
	r.Participants = people
	r.Participants[i].State, r.Participants[i].StateSince = to, since
	r.tell(now, ParticipantUpdated{RoomID: r.ID, Participant: r.Participants[i], Version: r.raise()})
}

// Seats is what becomes of the seats of people whose connections break.
type Seats struct {
	Outbox *Outbox
}

// Lose holds somebody's seat since a time, where they have one.
func (s *Seats) Lose(ctx context.Context, user UserID, since time.Time) error {
	return s.change(ctx, user, func(r *RoomState, u *UserState, now time.Time) { r.Lose(u.ID, since, now) })
}

// Return gives somebody's seat back, where it is held.
func (s *Seats) Return(ctx context.Context, user UserID) error {
	return s.change(ctx, user, func(r *RoomState, u *UserState, now time.Time) { r.Return(u.ID, now) })
}

// Expire frees somebody's seat where it has been held since then, and gone
// says, under the room's lock, that they are not back.
func (s *Seats) Expire(ctx context.Context, user UserID, since time.Time, gone func(context.Context) bool) error {
	return s.change(ctx, user, func(r *RoomState, u *UserState, now time.Time) {
		if gone(ctx) {
			r.Expire(u, since, now)
		}
	})
}

// Vacate frees somebody's seat at once, where gone says so under the room's
// lock: they went offline.
func (s *Seats) Vacate(ctx context.Context, user UserID, gone func(context.Context) bool) error {
	return s.change(ctx, user, func(r *RoomState, u *UserState, now time.Time) {
		if gone(ctx) {
			r.Leave(u, LeftDisconnected, now)
		}
	})
}

func (s *Seats) change(ctx context.Context, user UserID, decide func(*RoomState, *UserState, time.Time)) error {
	err := s.Outbox.Change(ctx, Scope{Users: []UserID{user}, Seats: true}, func(state *State) error {
		u, err := state.User(user)
		if err != nil {
			return err
		}
		r, err := state.Room(u.Seat)
		if err != nil {
			return nil //nolint:nilerr // they sit nowhere
		}
		decide(r, u, state.Now)
		return nil
	})
	if errors.Is(err, ErrUserNotFound) {
		return nil // erased, and so seated nowhere
	}
	return err
}

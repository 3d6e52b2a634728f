package talk

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"
)

// Rooms is what people do with rooms.
type Rooms struct {
	Reader      Reader
	Store       Store
	Outbox      *Outbox
	Lobby       Lobby // nil: lists come from the store
	Ahead       Ahead // nil: nothing is fetched ahead
	MaxCapacity int   // zero means DefaultCapacity
}

func (s *Rooms) maxCapacity() int {
	if s.MaxCapacity > 0 {
		return s.MaxCapacity
	}
	return DefaultCapacity
}

// Room returns an open or closed room with its people, or ErrRoomNotFound.
func (s *Rooms) Room(ctx context.Context, id RoomID) (RoomView, error) { return s.Reader.Room(ctx, id) }

// RoomBySlug is [Rooms.Room] by the room's other name.
func (s *Rooms) RoomBySlug(ctx context.Context, slug string) (RoomView, error) {
	return s.Reader.RoomBySlug(ctx, slug)
}

// List returns a page of open rooms. A language goes by any of its tags: "iw"
// also finds rooms for "he", which is how they are stored.
func (s *Rooms) List(ctx context.Context, q RoomQuery) (RoomPage, error) {
	q.Language = CanonicalLanguage(q.Language)
	if s.Lobby == nil {
		return s.Store.Rooms(ctx, q)
	}
	page := s.Lobby.List(q)
	if s.Ahead != nil {
		s.Ahead.Ahead(page.Rooms)
	}
	return page, nil
}

// Lobby is an index of the open rooms.
type Lobby interface {
	// List is [Store.Rooms], from what the index knows.
	List(q RoomQuery) RoomPage
}

// Create opens a room with its creator in it, as owner; ErrOwnsARoom or
// ErrInAnotherRoom where that cannot be.
func (s *Rooms) Create(ctx context.Context, who UserID, spec NewRoom) (Room, error) {
	spec, err := s.check(spec)
	if err != nil {
		return Room{}, err
	}
	id, slug := RoomID(NewID()), Slug(spec.Name)
	var room Room
	err = s.Outbox.Change(ctx, Scope{Users: []UserID{who}}, func(state *State) error {
		owner, err := state.User(who)
		if err != nil {
			return err
		}
		r, err := state.OpenRoom(id, slug, spec, owner)
		if err == nil {
			room = r.Room
		}
		return err
	})
	return room, err
}

func (s *Rooms) check(spec NewRoom) (NewRoom, error) {
	if spec.Level == 0 {
		spec.Level = LevelAny
	}
	if spec.Capacity == 0 {
		spec.Capacity = s.maxCapacity()
	}
	if err := s.checkCapacity("capacity", spec.Capacity); err != nil {
		return spec, err
	}
	languages, err := CheckLanguages("languages", spec.Languages)
	spec.Languages = languages
	return spec, err
}

func (s *Rooms) checkCapacity(field string, n int) error {
	if n < LeastCapacity || n > s.maxCapacity() {
		return &InvalidInput{field, fmt.Sprintf("must be between %d and %d", LeastCapacity, s.maxCapacity())}
	}
	return nil
}

// Join seats who, or answers, in this order: not found, closed, kicked,
// already in (as success), in another room, full. With leaveCurrent they leave
// the room they are in, and both happen or neither.
func (s *Rooms) Join(ctx context.Context, who UserID, room RoomID, leaveCurrent bool) (RoomView, error) {
	var view RoomView
	scope := Scope{Rooms: []RoomID{room}, Users: []UserID{who}, Seats: leaveCurrent}
	err := s.Outbox.Change(ctx, scope, func(state *State) error {
		r, err := state.Room(room)
		if err != nil {
			return err
		}
		person, err := state.User(who)
		if err != nil {
			return err
		}
		if current, err := state.Room(person.Seat); leaveCurrent && err == nil && current.ID != room {
			current.Leave(person, LeftByThemselves, state.Now)
		}
		err = r.Join(person, state.Now)
		view = r.View()
		return err
	})
	if err != nil {
		return RoomView{}, err
	}
	return view, nil
}

// Leave frees who's seat; not being in the room is no error.
func (s *Rooms) Leave(ctx context.Context, who UserID, room RoomID) error {
	return s.Outbox.Change(ctx, Scope{Rooms: []RoomID{room}, Users: []UserID{who}}, func(state *State) error {
		r, err := state.Room(room)
		if err != nil {
			return err
		}
		person, err := state.User(who)
		if err == nil {
			r.Leave(person, LeftByThemselves, state.Now)
		}
		return err
	})
}

// Kick removes target from the room and keeps them out for banFor.
func (s *Rooms) Kick(ctx context.Context, by UserID, room RoomID, target UserID, reason string, banFor time.Duration) error {
	return s.change(ctx, Scope{Rooms: []RoomID{room}, Users: []UserID{target}}, room, func(r *RoomState, now time.Time) error {
		return r.Kick(by, target, reason, banFor, now)
	})
}

// LiftBan lets target in again; lifting no ban is no error.
func (s *Rooms) LiftBan(ctx context.Context, by UserID, room RoomID, target UserID) error {
	return s.change(ctx, Scope{Rooms: []RoomID{room}}, room, func(r *RoomState, _ time.Time) error {
		return r.LiftBan(by, target)
	})
}

// Bans lists who is kept out of the room; only its owner may ask.
func (s *Rooms) Bans(ctx context.Context, by UserID, room RoomID) ([]RoomBan, error) {
	r, err := s.Store.Room(ctx, room)
	if err != nil {
		return nil, err
	}
	if r.Owner.ID != by {
		return nil, ErrNotOwner
	}
	now, err := s.Store.Now(ctx)
	if err != nil {
		return nil, err
	}
	return s.Store.RoomBans(ctx, room, now)
}

// Transfer hands the room to a member of it.
func (s *Rooms) Transfer(ctx context.Context, by UserID, room RoomID, target UserID) (Room, error) {
	var after Room
	err := s.change(ctx, Scope{Rooms: []RoomID{room}}, room, func(r *RoomState, now time.Time) error {
		err := r.Transfer(by, target, now)
		after = r.Room
		return err
	})
	return after, err
}

// Edit changes what the room says of itself.
func (s *Rooms) Edit(ctx context.Context, by UserID, room RoomID, edit RoomEdit) (Room, error) {
	edit, err := s.checkEdit(edit)
	if err != nil {
		return Room{}, err
	}
	var after Room
	err = s.change(ctx, Scope{Rooms: []RoomID{room}}, room, func(r *RoomState, now time.Time) error {
		err := r.Edit(by, edit, now)
		after = r.Room
		return err
	})
	return after, err
}

// checkEdit judges what the schema could not: a field may be left at zero in
// a request, but not where the mask names it.
func (s *Rooms) checkEdit(edit RoomEdit) (RoomEdit, error) {
	if edit.Name != nil && utf8.RuneCountInString(*edit.Name) < 3 {
		return edit, &InvalidInput{"room.name", "must be at least 3 characters"}
	}
	if edit.Level != nil && *edit.Level == 0 {
		edit.Level = new(LevelAny)
	}
	if edit.Capacity != nil {
		if *edit.Capacity == 0 {
			edit.Capacity = new(s.maxCapacity())
		}
		if err := s.checkCapacity("room.capacity", *edit.Capacity); err != nil {
			return edit, err
		}
	}
	if edit.Languages != nil {
		languages, err := CheckLanguages("room.languages", *edit.Languages)
		if err != nil {
			return edit, err
		}
		if len(languages) == 0 {
			return edit, &InvalidInput{"room.languages", "must name at least one"}
		}
		edit.Languages = &languages
	}
	return edit, nil
}

// Close ends the room at its owner's word; closing twice is no error.
func (s *Rooms) Close(ctx context.Context, by UserID, room RoomID) error {
	return s.change(ctx, Scope{Rooms: []RoomID{room}, Members: true}, room, func(r *RoomState, now time.Time) error {
		return r.Close(by, now)
	})
}

func (s *Rooms) change(ctx context.Context, scope Scope, id RoomID, decide func(*RoomState, time.Time) error) error {
	return s.Outbox.Change(ctx, scope, func(state *State) error {
		r, err := state.Room(id)
		if err != nil {
			return err
		}
		return decide(r, state.Now)
	})
}

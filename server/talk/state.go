package talk

import (
	"slices"
	"time"
)

// Scope names what a change looks at and may alter. The store locks it in one
// order: rooms by id, users by id, sessions.
type Scope struct {
	Rooms []RoomID
	Users []UserID
	// Seats also takes the rooms that Users sit in or own.
	Seats bool
	// Members also takes everybody who sits in the rooms.
	Members bool
	// Sessions also loads the sessions of Users that linger.
	Sessions bool
}

// State is the part of the world that one change has locked. What is not
// there does not exist (or is not in the [Scope]). A decision alters it by the
// methods of the rooms and users in it; the store then writes [State.Writes].
type State struct {
	Now time.Time

	rooms map[RoomID]*RoomState
	users map[UserID]*UserState
	log   log
	audit []AuditEntry
}

// NewState is for stores: an empty part of the world at the time now.
func NewState(now time.Time) *State {
	return &State{Now: now, rooms: map[RoomID]*RoomState{}, users: map[UserID]*UserState{}}
}

// LoadRoom is for stores: it puts a locked room into the state.
func (s *State) LoadRoom(room RoomView, bans []RoomBan, seq int64) {
	before := room
	s.rooms[room.ID] = &RoomState{
		Room: room.Room, Participants: room.Participants, Bans: bans, Seq: seq,
		before: &before, seq: seq, bans: bans, log: &s.log, people: s.User,
	}
}

// LoadUser is for stores: it puts a locked user into the state.
func (s *State) LoadUser(user Account, seat, owns RoomID, sessions []*Session) {
	before := user
	s.users[user.ID] = &UserState{
		Account: user, Seat: seat, Owns: owns, Sessions: sessions,
		before: &before, log: &s.log,
	}
}

// Room is the room with that id, or ErrRoomNotFound.
func (s *State) Room(id RoomID) (*RoomState, error) {
	if r, ok := s.rooms[id]; ok {
		return r, nil
	}
	return nil, ErrRoomNotFound
}

// User is the living account with that id, or ErrUserNotFound.
func (s *State) User(id UserID) (*UserState, error) {
	if u, ok := s.users[id]; ok && u.DeletedAt.IsZero() {
		return u, nil
	}
	return nil, ErrUserNotFound
}

// Register adds an account.
func (s *State) Register(a Account) *UserState {
	u := &UserState{Account: a, log: &s.log, changed: true}
	s.users[a.ID] = u
	s.log.touch(UserKey(a.ID), UsernameKey(a.Username))
	return u
}

// OpenRoom opens a room with its owner in it. It answers, in this order: owns
// a room, in another room.
func (s *State) OpenRoom(id RoomID, slug string, spec NewRoom, owner *UserState) (*RoomState, error) {
	switch {
	case owner.Banned(s.Now):
		return nil, owner.Ban.refusal()
	case owner.Owns != "":
		return nil, ErrOwnsARoom.With("room_id", string(owner.Owns))
	case owner.Seat != "":
		return nil, ErrInAnotherRoom.With("room_id", string(owner.Seat))
	}
	r := &RoomState{log: &s.log, people: s.User, Room: Room{
		ID: id, Slug: slug, Name: spec.Name, Topic: spec.Topic, Languages: spec.Languages,
		Level: spec.Level, Capacity: spec.Capacity, Owner: owner.Summary(), Version: 1,
		CreatedAt: s.Now, UpdatedAt: s.Now,
	}}
	s.rooms[id] = r
	s.log.touch(SlugKey(slug))
	r.seat(owner, true, s.Now)
	owner.Owns = id
	r.tell(s.Now, RoomCreated{Room: r.Room})
	return r, nil
}

// UpdateUser marks the public part of u as changed wherever it is shown: in
// their own entry and in the room they sit in or own.
func (s *State) UpdateUser(u *UserState, edit ProfileEdit) {
	u.Edit(edit, s.Now)
	s.log.touch(UserKey(u.ID))
	if r, err := s.Room(u.Seat); err == nil {
		r.Introduce(u, s.Now)
	}
}

// Seat is a participant and the room they sit in.
type Seat struct {
	RoomID RoomID
	Participant
}

// SeatKey names one seat.
type SeatKey struct {
	RoomID RoomID
	UserID UserID
}

// PlacedBan is a ban and the room it is for.
type PlacedBan struct {
	RoomID RoomID
	RoomBan
}

// Writes is what a change has to write, in the order in which a store may
// write it. Rooms carry their new Version and Seq, users their new Seq.
type Writes struct {
	NewUsers, Users []*UserState
	NewRooms, Rooms []*RoomState
	Stand           []SeatKey // seats that are free now: before Sit
	Sit             []Seat    // seats that are taken now: after NewRooms
	Update          []Seat    // seats whose state changed
	Lift            []SeatKey // bans that are no more: before Place
	Place           []PlacedBan
	NewSessions     []*Session
	Revoked         []*Session
	Events          []Event
	Audit           []AuditEntry // not sealed yet: the store does it
	Keys            []Key        // every cache key that is untrue now, once each
}

// Empty reports whether nothing is to be written.
func (w *Writes) Empty() bool {
	return len(w.NewUsers)+len(w.Users)+len(w.NewRooms)+len(w.Rooms)+len(w.Stand)+len(w.Sit)+
		len(w.Update)+len(w.Lift)+len(w.Place)+len(w.NewSessions)+len(w.Revoked)+len(w.Events)+len(w.Audit)+len(w.Keys) == 0
}

// After is every room that a change touches, as it is then.
func (w *Writes) After() []Room {
	var rooms []Room
	for _, r := range slices.Concat(w.NewRooms, w.Rooms) {
		rooms = append(rooms, r.Room)
	}
	return rooms
}

// Writes compares the state with what was loaded. Where keys were touched
// without an event, a [Touched] event carries them.
func (s *State) Writes() *Writes {
	w := &Writes{Events: s.log.events, Audit: s.audit}
	for _, id := range sortedKeys(s.users) {
		w.user(s.users[id])
	}
	for _, id := range sortedKeys(s.rooms) {
		w.room(s.rooms[id])
	}
	w.Keys = slices.Compact(slices.Sorted(slices.Values(s.log.keys)))
	if len(w.Events) == 0 && len(w.Keys) > 0 {
		w.Events = []Event{{At: s.Now, Fact: Touched{}}}
	}
	return w
}

func (w *Writes) user(u *UserState) {
	switch {
	case u.before == nil:
		w.NewUsers = append(w.NewUsers, u)
	case u.changed || u.Seq != u.before.Seq:
		w.Users = append(w.Users, u)
	}
	for _, session := range u.Sessions {
		switch {
		case session.fresh:
			w.NewSessions = append(w.NewSessions, session)
		case session.revoked:
			w.Revoked = append(w.Revoked, session)
		}
	}
}

func (w *Writes) room(r *RoomState) {
	var before []Participant
	if r.before == nil {
		w.NewRooms = append(w.NewRooms, r)
	} else {
		before = r.before.Participants
		if r.Seq != r.seq {
			w.Rooms = append(w.Rooms, r)
		}
	}
	w.seats(r, before)
	w.placed(r)
}

func (w *Writes) seats(r *RoomState, before []Participant) {
	was := map[UserID]Participant{}
	for _, p := range before {
		was[p.User.ID] = p
	}
	for _, p := range r.Participants {
		old, seated := was[p.User.ID]
		delete(was, p.User.ID)
		switch {
		case !seated:
			w.Sit = append(w.Sit, Seat{r.ID, p})
		case old.State != p.State || !old.StateSince.Equal(p.StateSince):
			w.Update = append(w.Update, Seat{r.ID, p})
		}
	}
	for _, id := range sortedKeys(was) {
		w.Stand = append(w.Stand, SeatKey{r.ID, id})
	}
}

func (w *Writes) placed(r *RoomState) {
	for _, b := range r.bans {
		if !slices.Contains(r.Bans, b) {
			w.Lift = append(w.Lift, SeatKey{r.ID, b.User.ID})
		}
	}
	for _, b := range r.Bans {
		if !slices.Contains(r.bans, b) {
			w.Place = append(w.Place, PlacedBan{r.ID, b})
		}
	}
}

func sortedKeys[K ~string, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

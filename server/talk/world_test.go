package talk_test

import (
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// world is the smallest store there can be: it holds what was written, runs one
// rule at a time on it, and proves after each what must hold after all of
// them. Times and ids are the tests' own, so every story reads the same twice.
type world struct {
	t     *testing.T
	now   time.Time
	rooms map[talk.RoomID]*place
	users map[talk.UserID]*person
	heard []talk.Event // of the last change
	wrote *talk.Writes // by the last change
}

type place struct {
	view talk.RoomView
	bans []talk.RoomBan
	seq  int64
}

type person struct {
	account    talk.Account
	seat, owns talk.RoomID
	sessions   []*talk.Session
}

// den is the room of most stories.
const den = talk.RoomID("den")

func newWorld(t *testing.T, names ...string) *world {
	w := &world{
		t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		rooms: map[talk.RoomID]*place{}, users: map[talk.UserID]*person{},
	}
	for _, name := range names {
		w.users[talk.UserID(name)] = &person{account: talk.Account{User: talk.User{
			ID: talk.UserID(name), Username: name, Profile: talk.Profile{DisplayName: name}, Role: talk.RoleUser,
		}}}
	}
	return w
}

// state is all that there is, locked.
func (w *world) state() *talk.State {
	s := talk.NewState(w.now)
	for _, r := range w.rooms {
		view := r.view
		view.Participants = slices.Clone(view.Participants)
		s.LoadRoom(view, slices.Clone(r.bans), r.seq)
	}
	for _, u := range w.users {
		var sessions []*talk.Session
		for _, session := range u.sessions {
			if session.Alive(w.now) {
				sessions = append(sessions, stored(*session))
			}
		}
		s.LoadUser(u.account, u.seat, u.owns, sessions)
	}
	return s
}

// stored is a session as it comes out of a database: without the marks of the
// change that wrote it.
func stored(s talk.Session) *talk.Session {
	return &talk.Session{
		ID: s.ID, UserID: s.UserID, Generation: s.Generation, CreatedAt: s.CreatedAt,
		IdleExpiresAt: s.IdleExpiresAt, AbsoluteExpiresAt: s.AbsoluteExpiresAt,
		RevokedAt: s.RevokedAt, RevokeReason: s.RevokeReason,
	}
}

// change lets a second pass, runs decide and, where it agreed, keeps what came
// of it. A refusal leaves the world as it was.
func (w *world) change(decide func(*talk.State) error) error {
	w.t.Helper()
	w.now = w.now.Add(time.Second)
	s := w.state()
	w.heard, w.wrote = nil, nil
	if err := decide(s); err != nil {
		return err
	}
	w.wrote = s.Writes()
	w.heard = w.wrote.Events
	before := maps.Clone(w.rooms)
	w.keep(s, w.wrote)
	w.proveFacts(before)
	w.proveRules()
	return nil
}

// keep stores what was written, from Writes alone as a database would, and
// compares it with what the state says.
func (w *world) keep(s *talk.State, wrote *talk.Writes) {
	w.t.Helper()
	for _, u := range slices.Concat(wrote.NewUsers, wrote.Users) {
		if w.users[u.ID] == nil {
			w.users[u.ID] = &person{}
		}
		w.users[u.ID].account = u.Account
	}
	for _, session := range wrote.NewSessions {
		w.users[session.UserID].sessions = append(w.users[session.UserID].sessions, session)
	}
	for _, revoked := range wrote.Revoked {
		for _, session := range w.users[revoked.UserID].sessions {
			if session.ID == revoked.ID {
				session.RevokedAt, session.RevokeReason = revoked.RevokedAt, revoked.RevokeReason
			}
		}
	}
	seats := w.seats(wrote)
	for _, r := range slices.Concat(wrote.NewRooms, wrote.Rooms) {
		was := w.rooms[r.ID]
		if was == nil {
			was = &place{}
		}
		next := &place{view: talk.RoomView{Room: r.Room}, bans: w.bans(r.ID, was.bans, wrote), seq: r.Seq}
		next.view.Participants = w.seated(r.Room, seats)
		if got := r.View(); !equal(next.view, got) {
			w.t.Fatalf("the seats written are not those of the room\nwritten %+v\nroom    %+v", next.view, got)
		}
		w.rooms[r.ID] = next
	}
	for _, lifted := range wrote.Lift {
		w.rooms[lifted.RoomID].bans = w.bans(lifted.RoomID, w.rooms[lifted.RoomID].bans, wrote)
	}
	w.settle(s)
}

// seats is who sits where after Stand, Sit and Update, in that order.
func (w *world) seats(wrote *talk.Writes) map[talk.SeatKey]talk.Seat {
	seats := map[talk.SeatKey]talk.Seat{}
	for id, r := range w.rooms {
		for _, p := range r.view.Participants {
			seats[talk.SeatKey{RoomID: id, UserID: p.User.ID}] = talk.Seat{RoomID: id, Participant: p}
		}
	}
	for _, key := range wrote.Stand {
		delete(seats, key)
	}
	for _, seat := range slices.Concat(wrote.Sit, wrote.Update) {
		seats[talk.SeatKey{RoomID: seat.RoomID, UserID: seat.User.ID}] = seat
	}
	return seats
}

// seated reads a room's seats as a database does: people from their accounts,
// the owner from the room.
func (w *world) seated(room talk.Room, seats map[talk.SeatKey]talk.Seat) []talk.Participant {
	var all []talk.Participant
	for key, seat := range seats {
		if key.RoomID == room.ID {
			p := seat.Participant
			p.User, p.Owner = w.users[key.UserID].account.Summary(), key.UserID == room.Owner.ID
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b talk.Participant) int { return a.JoinedAt.Compare(b.JoinedAt) })
	return all
}

func (w *world) bans(room talk.RoomID, was []talk.RoomBan, wrote *talk.Writes) []talk.RoomBan {
	bans := slices.DeleteFunc(slices.Clone(was), func(b talk.RoomBan) bool {
		return slices.Contains(wrote.Lift, talk.SeatKey{RoomID: room, UserID: b.User.ID})
	})
	for _, placed := range wrote.Place {
		if placed.RoomID == room && !slices.Contains(bans, placed.RoomBan) {
			bans = append(bans, placed.RoomBan)
		}
	}
	return bans
}

// settle works out again where everybody sits and what they own, and compares
// it with what the rules noted.
func (w *world) settle(s *talk.State) {
	w.t.Helper()
	for id, u := range w.users {
		u.seat, u.owns = "", ""
		for room, r := range w.rooms {
			if slices.ContainsFunc(r.view.Participants, is(id)) {
				u.seat = room
			}
			if r.view.Open() && r.view.Owner.ID == id {
				u.owns = room
			}
		}
		if state, err := s.User(id); err == nil && (state.Seat != u.seat || state.Owns != u.owns) {
			w.t.Fatalf("%s: the rules say seat %q, owns %q; the rooms say %q, %q", id, state.Seat, state.Owns, u.seat, u.owns)
		}
	}
}

// proveFacts: seq rises by one with each event and version with each change of
// state, and the facts turn the view before into the view after.
func (w *world) proveFacts(before map[talk.RoomID]*place) {
	w.t.Helper()
	for id, r := range w.rooms {
		was := before[id]
		if was == nil {
			was = &place{}
		}
		view, seq := was.view, was.seq
		for _, e := range w.heard {
			if e.Topic != talk.RoomTopic(id) {
				continue
			}
			if seq++; e.Seq != seq {
				w.t.Fatalf("%s: event %T has seq %d, want %d", id, e.Fact, e.Seq, seq)
			}
			version := view.Version
			if view = applied(view, e); view.Version != version+1 {
				w.t.Fatalf("%s: %T takes the version from %d to %d", id, e.Fact, version, view.Version)
			}
		}
		if seq != r.seq || !equal(view, r.view) {
			w.t.Fatalf("%s: the facts do not give the room\nfacts %+v\nroom  %+v", id, view, r.view)
		}
	}
}

// applied is what a client does with an event of a room.
func applied(v talk.RoomView, e talk.Event) talk.RoomView {
	v.Participants = slices.Clone(v.Participants)
	switch f := e.Fact.(type) {
	case talk.RoomCreated:
		v.Room = f.Room
		v.Participants = []talk.Participant{{
			User: f.Room.Owner, Owner: true, State: talk.Connected, StateSince: e.At, JoinedAt: e.At,
		}}
	case talk.RoomUpdated:
		v.Room = f.Room
	case talk.RoomClosed:
		v.Version, v.ClosedAt, v.UpdatedAt, v.CloseReason = f.Version, e.At, e.At, f.Reason
	case talk.ParticipantJoined:
		v.Version, v.Participants = f.Version, append(v.Participants, f.Participant)
	case talk.ParticipantLeft:
		v.Version, v.Participants = f.Version, slices.DeleteFunc(v.Participants, is(f.UserID))
	case talk.ParticipantUpdated:
		v.Version = f.Version
		v.Participants[slices.IndexFunc(v.Participants, is(f.Participant.User.ID))] = f.Participant
		if f.Participant.Owner {
			v.Owner = f.Participant.User
		}
	case talk.OwnerChanged:
		v.Version, v.UpdatedAt = f.Version, e.At
		for i := range v.Participants {
			p := &v.Participants[i]
			if p.Owner = p.User.ID == f.UserID; p.Owner {
				v.Owner = p.User
			}
		}
	}
	v.ParticipantCount = len(v.Participants)
	return v
}

// proveRules: what must never be, is not.
func (w *world) proveRules() {
	w.t.Helper()
	seats, owners := map[talk.UserID]talk.RoomID{}, map[talk.UserID]talk.RoomID{}
	for id, r := range w.rooms {
		for _, p := range r.view.Participants {
			if other, twice := seats[p.User.ID]; twice {
				w.t.Fatalf("%s sits in %s and in %s", p.User.ID, other, id)
			}
			seats[p.User.ID] = id
		}
		people := len(r.view.Participants)
		if people > r.view.Capacity || people != r.view.ParticipantCount {
			w.t.Fatalf("%s: %d people, count %d, capacity %d", id, people, r.view.ParticipantCount, r.view.Capacity)
		}
		w.proveOwner(r.view, owners)
	}
}

func (w *world) proveOwner(v talk.RoomView, owners map[talk.UserID]talk.RoomID) {
	w.t.Helper()
	if !v.Open() {
		if len(v.Participants) > 0 {
			w.t.Fatalf("%s is closed and people sit in it", v.ID)
		}
		return
	}
	if other, twice := owners[v.Owner.ID]; twice {
		w.t.Fatalf("%s owns %s and %s", v.Owner.ID, other, v.ID)
	}
	owners[v.Owner.ID] = v.ID
	for _, p := range v.Participants {
		if p.Owner != (p.User.ID == v.Owner.ID) {
			w.t.Fatalf("%s: the seat of %s says owner %v, the room's owner is %s", v.ID, p.User.ID, p.Owner, v.Owner.ID)
		}
	}
	if !slices.ContainsFunc(v.Participants, is(v.Owner.ID)) {
		w.t.Fatalf("%s: its owner does not sit in it", v.ID)
	}
}

func is(id talk.UserID) func(talk.Participant) bool {
	return func(p talk.Participant) bool { return p.User.ID == id }
}

// equal does not tell a nil list of people from an empty one.
func equal(a, b talk.RoomView) bool {
	return reflect.DeepEqual(a.Room, b.Room) && slices.Equal(a.Participants, b.Participants)
}

// What people do in the stories. Each is one change.

func (w *world) open(owner talk.UserID, room talk.RoomID, capacity int) error {
	w.t.Helper()
	return w.change(func(s *talk.State) error {
		who, err := s.User(owner)
		if err != nil {
			return err
		}
		_, err = s.OpenRoom(room, string(room)+"-slug", talk.NewRoom{
			Name: "About " + string(room), Languages: []string{"es"}, Level: talk.LevelAny, Capacity: capacity,
		}, who)
		return err
	})
}

// in runs a rule of one room as one person.
func (w *world) in(room talk.RoomID, name talk.UserID, rule func(*talk.RoomState, *talk.UserState) error) error {
	w.t.Helper()
	return w.change(func(s *talk.State) error {
		r, err := s.Room(room)
		if err != nil {
			return err
		}
		who, err := s.User(name)
		if err != nil {
			return err
		}
		return rule(r, who)
	})
}

func (w *world) join(room talk.RoomID, name talk.UserID) error {
	w.t.Helper()
	return w.in(room, name, func(r *talk.RoomState, u *talk.UserState) error { return r.Join(u, w.now) })
}

func (w *world) leave(room talk.RoomID, name talk.UserID) error {
	w.t.Helper()
	return w.in(room, name, func(r *talk.RoomState, u *talk.UserState) error {
		r.Leave(u, talk.LeftByThemselves, w.now)
		return nil
	})
}

func (w *world) kick(room talk.RoomID, by, target talk.UserID, banFor time.Duration) error {
	w.t.Helper()
	return w.in(room, by, func(r *talk.RoomState, _ *talk.UserState) error {
		return r.Kick(by, target, "too loud", banFor, w.now)
	})
}

func (w *world) edit(room talk.RoomID, by talk.UserID, edit talk.RoomEdit) error {
	w.t.Helper()
	return w.in(room, by, func(r *talk.RoomState, _ *talk.UserState) error { return r.Edit(by, edit, w.now) })
}

func (w *world) transfer(room talk.RoomID, by, target talk.UserID) error {
	w.t.Helper()
	return w.in(room, by, func(r *talk.RoomState, _ *talk.UserState) error { return r.Transfer(by, target, w.now) })
}

func (w *world) close(room talk.RoomID, by talk.UserID) error {
	w.t.Helper()
	return w.in(room, by, func(r *talk.RoomState, _ *talk.UserState) error { return r.Close(by, w.now) })
}

// lose marks a seat as reconnecting, as presence will.
func (w *world) lose(room talk.RoomID, name talk.UserID) {
	i := slices.IndexFunc(w.rooms[room].view.Participants, is(name))
	w.rooms[room].view.Participants[i].State = talk.Reconnecting
}

// must takes the errors of setting a story up.
func (w *world) must(errs ...error) {
	w.t.Helper()
	for _, err := range errs {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// facts is what was told on a topic by the last change.
func (w *world) facts(topic talk.Topic) []talk.Fact {
	var all []talk.Fact
	for _, e := range w.heard {
		if e.Topic == topic {
			all = append(all, e.Fact)
		}
	}
	return all
}

// kinds is the names of what was told on a topic by the last change.
func (w *world) kinds(topic talk.Topic) []string {
	var all []string
	for _, fact := range w.facts(topic) {
		all = append(all, fact.Kind())
	}
	return all
}

// people is who sits in a room, in order, the owner with a star.
func (w *world) people(room talk.RoomID) []string {
	var all []string
	for _, p := range w.rooms[room].view.Participants {
		name := string(p.User.ID)
		if p.Owner {
			name += "*"
		}
		all = append(all, name)
	}
	return all
}

// crowd is a room called den: ada owns it, bob and cyd sit in it, dan and eve
// stand outside. It has four seats.
func crowd(t *testing.T) *world {
	w := newWorld(t, "ada", "bob", "cyd", "dan", "eve")
	w.must(w.open("ada", den, 4), w.join(den, "bob"), w.join(den, "cyd"))
	return w
}

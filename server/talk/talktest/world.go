package talktest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// world is everything that a store keeps, as a database would keep it.
type world struct {
	users    map[talk.UserID]talk.Account
	rooms    map[talk.RoomID]room
	seats    map[talk.UserID]talk.Seat // one room a user, as it is a map
	bans     map[talk.SeatKey]talk.RoomBan
	sessions map[talk.SessionID]talk.Session
	events   []outgoing
	lastID   int64
	keys     []talk.StoredKey
	audit    []talk.AuditEntry
}

type room struct {
	talk.Room
	seq int64
}

type outgoing struct {
	talk.Outgoing
	published bool
}

func newWorld() world {
	return world{
		users: map[talk.UserID]talk.Account{}, rooms: map[talk.RoomID]room{}, seats: map[talk.UserID]talk.Seat{},
		bans: map[talk.SeatKey]talk.RoomBan{}, sessions: map[talk.SessionID]talk.Session{},
	}
}

func (w *world) clone() world {
	c := *w
	c.users, c.rooms, c.seats = maps.Clone(w.users), maps.Clone(w.rooms), maps.Clone(w.seats)
	c.bans, c.sessions = maps.Clone(w.bans), maps.Clone(w.sessions)
	return c
}

// copied is an account that shares nothing with the one kept.
func copied(a talk.Account) talk.Account {
	a.NativeLanguages, a.LearningLanguages = slices.Clone(a.NativeLanguages), slices.Clone(a.LearningLanguages)
	if a.Ban != nil {
		a.Ban = new(*a.Ban)
	}
	return a
}

func (w *world) view(id talk.RoomID) talk.RoomView {
	view := talk.RoomView{Room: w.rooms[id].Room}
	view.Languages = slices.Clone(view.Languages)
	view.Owner = w.users[view.Owner.ID].Summary()
	for who, seat := range w.seats {
		if seat.RoomID == id {
			p := seat.Participant
			p.User, p.Owner = w.users[who].Summary(), who == view.Owner.ID
			view.Participants = append(view.Participants, p)
		}
	}
	slices.SortFunc(view.Participants, func(a, b talk.Participant) int {
		return cmp.Or(a.JoinedAt.Compare(b.JoinedAt), strings.Compare(string(a.User.ID), string(b.User.ID)))
	})
	view.ParticipantCount = len(view.Participants)
	return view
}

func (w *world) owns(id talk.UserID) talk.RoomID {
	for _, r := range w.rooms {
		if r.Open() && r.Owner.ID == id {
			return r.ID
		}
	}
	return ""
}

func (w *world) living(id talk.RoomID, now time.Time) []talk.RoomBan {
	var bans []talk.RoomBan
	for key, ban := range w.bans {
		if key.RoomID == id && now.Before(ban.Until) {
			ban.User = w.users[key.UserID].Summary()
			bans = append(bans, ban)
		}
	}
	slices.SortFunc(bans, func(a, b talk.RoomBan) int {
		return cmp.Or(a.Until.Compare(b.Until), strings.Compare(string(a.User.ID), string(b.User.ID)))
	})
	return bans
}

// state is what scope names, and nothing else.
func (w *world) state(scope talk.Scope, now time.Time) *talk.State {
	state := talk.NewState(now)
	rooms, users := map[talk.RoomID]bool{}, map[talk.UserID]bool{}
	for _, id := range scope.Rooms {
		rooms[id] = true
	}
	for _, id := range scope.Users {
		users[id] = true
		if scope.Seats {
			rooms[w.seats[id].RoomID] = true
		}
	}
	named := maps.Clone(users)
	for id := range rooms {
		r, ok := w.rooms[id]
		if !ok {
			continue
		}
		view := w.view(id)
		state.LoadRoom(view, w.living(id, now), r.seq)
		for _, p := range view.Participants {
			users[p.User.ID] = users[p.User.ID] || scope.Members
		}
	}
	for id, in := range users {
		if a, ok := w.users[id]; ok && in {
			state.LoadUser(copied(a), w.seats[id].RoomID, w.owns(id), w.devices(id, now, scope.Sessions && named[id]))
		}
	}
	return state
}

func (w *world) devices(id talk.UserID, now time.Time, asked bool) []*talk.Session {
	var sessions []*talk.Session
	for _, s := range w.sessions {
		if asked && s.UserID == id && s.Lingers(now) {
			sessions = append(sessions, new(s))
		}
	}
	slices.SortFunc(sessions, func(a, b *talk.Session) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(string(a.ID), string(b.ID)))
	})
	return sessions
}

// alive is how many living sessions somebody has.
func (w *world) alive(id talk.UserID, now time.Time) (n int) {
	for _, s := range w.devices(id, now, true) {
		if s.Alive(now) {
			n++
		}
	}
	return n
}

// apply writes, and refuses what a database refuses at once. What it would
// refuse at the commit is check's.
func (w *world) apply(writes *talk.Writes) error {
	for _, u := range writes.NewUsers {
		if _, taken := w.users[u.ID]; taken {
			return broken("users_pkey")
		}
		w.users[u.ID] = copied(u.Account)
	}
	for _, u := range writes.Users {
		a := w.users[u.ID]
		if u.Changed() {
			a = copied(u.Account)
		}
		a.Seq = u.Seq
		w.users[u.ID] = a
		if !a.DeletedAt.IsZero() {
			w.forgetDevices(u.ID)
		}
	}
	if err := w.checkNames(); err != nil {
		return err
	}
	for _, key := range writes.Stand {
		delete(w.seats, key.UserID)
	}
	if err := w.applyRooms(writes); err != nil {
		return err
	}
	return w.applyRest(writes)
}

func (w *world) forgetDevices(id talk.UserID) {
	for key, s := range w.sessions {
		if s.UserID == id {
			s.IP, s.UserAgent = "", ""
			w.sessions[key] = s
		}
	}
}

func (w *world) applyRooms(writes *talk.Writes) error {
	for _, r := range writes.Rooms {
		after := room{Room: r.Room, seq: r.Seq}
		after.Slug, after.CreatedAt = w.rooms[r.ID].Slug, w.rooms[r.ID].CreatedAt
		if w.rooms[r.ID] = after; !r.Open() && len(w.view(r.ID).Participants) > 0 {
			return talk.ErrRoomClosed.Because(broken("rooms_closed_is_empty"))
		}
	}
	for _, r := range writes.NewRooms {
		w.rooms[r.ID] = room{Room: r.Room, seq: r.Seq}
	}
	if err := w.checkRooms(); err != nil {
		return err
	}
	for _, seat := range writes.Sit {
		if err := w.sit(seat); err != nil {
			return err
		}
	}
	for _, seat := range writes.Update {
		s := w.seats[seat.User.ID]
		s.State, s.StateSince = seat.State, seat.StateSince
		w.seats[seat.User.ID] = s
	}
	return nil
}

func (w *world) sit(seat talk.Seat) error {
	r, exists := w.rooms[seat.RoomID]
	if _, known := w.users[seat.User.ID]; !known || !exists {
		return broken("participants_user_exists")
	}
	if _, seated := w.seats[seat.User.ID]; seated {
		return talk.ErrInAnotherRoom.Because(broken("participants_one_room_a_user"))
	}
	w.seats[seat.User.ID] = seat
	switch {
	case !r.Open():
		return talk.ErrRoomClosed.Because(broken("rooms_closed_is_empty"))
	case len(w.view(r.ID).Participants) > r.Capacity:
		return talk.ErrRoomFull.Because(broken("rooms_capacity_kept"))
	}
	return nil
}

func (w *world) applyRest(writes *talk.Writes) error {
	for _, e := range writes.Audit {
		var prev []byte
		if n := len(w.audit); n > 0 {
			prev = w.audit[n-1].Hash
		}
		e.Seal(int64(len(w.audit)), prev)
		w.audit = append(slices.Clone(w.audit), e)
	}
	for _, key := range writes.Lift {
		delete(w.bans, key)
	}
	for _, ban := range writes.Place {
		w.bans[talk.SeatKey{RoomID: ban.RoomID, UserID: ban.User.ID}] = ban.RoomBan
	}
	for _, s := range writes.NewSessions {
		if _, known := w.users[s.UserID]; !known {
			return broken("sessions_user_exists")
		}
		w.sessions[s.ID] = plain(s)
	}
	for _, s := range writes.Revoked {
		kept := w.sessions[s.ID]
		kept.RevokedAt, kept.RevokeReason = s.RevokedAt, s.RevokeReason
		w.sessions[s.ID] = kept
	}
	return nil
}

// plain is a session without what only a change knows of it.
func plain(s *talk.Session) talk.Session {
	return talk.Session{
		ID: s.ID, UserID: s.UserID, Generation: s.Generation, ConfirmedGeneration: s.ConfirmedGeneration,
		RotatedAt: s.RotatedAt, IdleExpiresAt: s.IdleExpiresAt, AbsoluteExpiresAt: s.AbsoluteExpiresAt,
		CreatedAt: s.CreatedAt, LastUsedAt: s.LastUsedAt, UserAgent: s.UserAgent, IP: s.IP, Cookie: s.Cookie,
		RevokedAt: s.RevokedAt, RevokeReason: s.RevokeReason,
	}
}

func broken(rule string) error { return fmt.Errorf("memory: %s", rule) }

func (w *world) checkNames() error {
	emails, names := map[string]bool{}, map[string]bool{}
	for _, a := range w.users {
		if !a.DeletedAt.IsZero() && a.Email+a.Username == "" {
			continue
		}
		email, name := talk.Fold(a.Email), talk.Fold(a.Username)
		switch {
		case email == "" || name == "" || !a.DeletedAt.IsZero():
			return broken("users_erased_is_nameless")
		case emails[email]:
			return talk.ErrEmailTaken.Because(broken("users_email_key"))
		case names[name]:
			return talk.ErrUsernameTaken.Because(broken("users_username_key"))
		}
		emails[email], names[name] = true, true
	}
	return nil
}

func (w *world) checkRooms() error {
	owners, slugs := map[talk.UserID]bool{}, map[string]bool{}
	for _, r := range w.rooms {
		switch {
		case slugs[r.Slug]:
			return talk.ErrBusy.Because(broken("rooms_slug_key"))
		case r.Capacity < talk.LeastCapacity:
			return broken("rooms_capacity_least")
		case r.Open() && owners[r.Owner.ID]:
			return talk.ErrOwnsARoom.Because(broken("rooms_one_open_an_owner"))
		case len(w.view(r.ID).Participants) > r.Capacity:
			return talk.ErrRoomFull.Because(broken("rooms_capacity_kept"))
		}
		slugs[r.Slug] = true
		owners[r.Owner.ID] = owners[r.Owner.ID] || r.Open()
	}
	return nil
}

// check is what a database looks at with the commit.
func (w *world) check() error {
	for _, r := range w.rooms {
		if r.Open() && w.seats[r.Owner.ID].RoomID != r.ID {
			return broken("rooms_owner_is_seated")
		}
	}
	return nil
}

// once refuses an event that happened before.
func (w *world) once(writes *talk.Writes) error {
	for _, e := range writes.Events {
		if e.Once != "" && slices.ContainsFunc(w.events, func(row outgoing) bool { return row.Event.Once == e.Once }) {
			return talk.ErrRepeated
		}
	}
	return nil
}

// record puts the events into the outbox, the keys on the first of them. What
// is kept has been JSON, as in a database.
func (w *world) record(writes *talk.Writes) talk.Told {
	told := talk.Told{Events: writes.Events, Keys: writes.Keys, Rooms: writes.After()}
	for i, e := range writes.Events {
		payload, err := json.Marshal(e.Fact)
		if err != nil {
			panic(err) // facts are data
		}
		if e.Fact, err = talk.DecodeFact(e.Fact.Kind(), payload); err != nil {
			panic(err)
		}
		w.lastID++
		row := outgoing{Outgoing: talk.Outgoing{ID: w.lastID, Event: e}}
		if i == 0 {
			row.Keys = slices.Clone(writes.Keys)
		}
		w.events = append(w.events, row)
		told.IDs = append(told.IDs, w.lastID)
	}
	return told
}

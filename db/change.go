package db

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/free2talk/free2talk/server/talk"
)

// Change runs decide on the locked state that scope names, writes what it
// changed, and commits, all or nothing.
func (s *Store) Change(ctx context.Context, scope talk.Scope, decide func(*talk.State) error) (talk.Told, error) {
	scope.Rooms = slices.DeleteFunc(slices.Clone(scope.Rooms), func(id talk.RoomID) bool { return !valid(id) })
	scope.Users = known(scope.Users)
	var told talk.Told
	var refused error // what decide said: it comes back as it is, and is never tried again
	err := retry(ctx, func() error {
		c := change{Store: s, scope: scope}
		defer c.end()
		state, err := c.load(ctx)
		if err != nil {
			return err
		}
		if refused = decide(state); refused != nil {
			return nil
		}
		told, err = c.write(ctx, state.Writes())
		return err
	})
	if err != nil {
		return talk.Told{}, fault(ctx, err)
	}
	return told, refused
}

// change is one attempt at a change.
type change struct {
	*Store
	scope talk.Scope
	rooms []talk.RoomID // what is locked: those of the scope, and where its users sit
	leave func()
	give  func() // the connection
	tx    transaction
}

// end gives back what the attempt holds, the gates last.
func (c *change) end() {
	if c.tx != nil {
		c.tx.end()
	}
	if c.give != nil {
		c.give()
	}
	if c.leave != nil {
		c.leave()
	}
}

// load looks, locks, and looks again.
func (c *change) load(ctx context.Context) (*talk.State, error) {
	if err := c.look(ctx); err != nil {
		return nil, err
	}
	var err error
	if c.leave, err = c.gates.enter(ctx, c.doors()); err != nil {
		return nil, err
	}
	if c.give, err = c.turns.take(ctx); err != nil {
		return nil, err
	}
	if c.tx, err = c.begin(ctx); err != nil {
		return nil, err
	}
	found := locked{rooms: make([]roomRow, 0, len(c.rooms))}
	if err := c.tx.run(ctx, c.locks(&found)...); err != nil {
		return nil, err
	}
	for _, p := range found.places {
		if c.scope.Seats && !slices.Contains(c.rooms, p.RoomID) {
			return nil, errMoved
		}
	}
	if err := c.former(ctx, &found); err != nil {
		return nil, err
	}
	return found.state(c.clock), nil
}

// former finds who owned the rooms that are closed: the owner of an open one
// sits in it. It takes a trip more, and only then.
func (c *change) former(ctx context.Context, found *locked) error {
	var owners []talk.UserID
	for i := range found.rooms {
		if !found.rooms[i].ClosedAt.IsZero() {
			owners = append(owners, found.rooms[i].OwnerID)
		}
	}
	if len(owners) == 0 {
		return nil
	}
	return c.tx.run(ctx, query{c.sql(selectSummaries, bun.List(owners)), &found.owners})
}

// look finds the rooms that follow from the users, without a lock: what it
// says is verified once everything is locked.
func (c *change) look(ctx context.Context) error {
	c.rooms = slices.Clone(c.scope.Rooms)
	if c.scope.Seats && len(c.scope.Users) > 0 {
		places, err := list[placeRow](ctx, c.Store, selectPlaces, bun.List(c.scope.Users))
		if err != nil {
			return err
		}
		for _, p := range places {
			c.rooms = append(c.rooms, p.RoomID) // an owner sits in what they own
		}
	}
	slices.Sort(c.rooms)
	c.rooms = slices.Compact(c.rooms)
	return nil
}

// doors are the gates to pass: rooms first, in the order of all locks.
func (c *change) doors() []string {
	doors := make([]string, 0, len(c.rooms)+len(c.scope.Users))
	for _, id := range c.rooms {
		doors = append(doors, "room:"+string(id))
	}
	for _, id := range slices.Sorted(slices.Values(c.scope.Users)) {
		doors = append(doors, "user:"+string(id))
	}
	return doors
}

// placeRow is where somebody sits.
type placeRow struct {
	UserID talk.UserID
	RoomID talk.RoomID
	Owns   bool
}

const (
	selectPlaces = `
	SELECT p.user_id, p.room_id, r.owner_id = p.user_id AS owns
	FROM participants AS p
	JOIN rooms AS r ON r.id = p.room_id
	WHERE p.user_id IN (?)`

	// No other table stands in a query that locks: a row that changed while it
	// waited is read again, but what is joined to it is not.
	lockRooms = `
	SELECT *
	FROM rooms
	WHERE id IN (?)
	ORDER BY id
	?`

	lockUsers = `
	SELECT *
	FROM users
	WHERE id IN (?)
	ORDER BY id
	?`

	lockMembers = `
	SELECT *
	FROM users
	WHERE id IN (
		SELECT user_id FROM participants WHERE room_id IN (?)
		UNION ALL
		SELECT id FROM users WHERE id IN (?)
	)
	ORDER BY id
	?`

	lockSessions = `
	SELECT *
	FROM sessions
	WHERE user_id IN (?)
	  AND revoked_at IS NULL
	ORDER BY id
	?`

	selectSeats = `
	SELECT p.room_id, p.user_id, u.username, u.display_name, u.avatar_url, p.state, p.state_since, p.joined_at
	FROM participants AS p
	JOIN users AS u ON u.id = p.user_id
	WHERE p.room_id IN (?)
	ORDER BY p.joined_at, p.user_id`

	selectSummaries = `
	SELECT id AS user_id, username, display_name, avatar_url
	FROM users
	WHERE id IN (?)`
)

// locked is what a change has locked, as it was read.
type locked struct {
	rooms    []roomRow
	users    []userRow
	sessions []sessionRow
	seats    []seatRow
	owners   []seatRow // of closed rooms
	bans     []banRow
	places   []placeRow
	now      []clockRow
}

// locks is the one batch that locks and reads. The order is that of all locks,
// and each query sees what the locks before it have made final.
func (c *change) locks(found *locked) []query {
	var batch []query
	add := func(into any, statement string, args ...any) {
		batch = append(batch, query{c.sql(statement, args...), into})
	}
	rooms, users, locking := bun.List(c.rooms), bun.List(c.scope.Users), bun.Safe(c.locking())
	members := c.scope.Members && len(c.rooms) > 0
	if len(c.rooms) > 0 {
		add(&found.rooms, lockRooms, rooms, locking)
	}
	switch {
	case members:
		add(&found.users, lockMembers, rooms, users, locking)
	case len(c.scope.Users) > 0:
		add(&found.users, lockUsers, users, locking)
	}
	if c.scope.Sessions && len(c.scope.Users) > 0 {
		add(&found.sessions, lockSessions, users, locking)
	}
	if len(c.rooms) > 0 {
		add(&found.seats, selectSeats, rooms)
		add(&found.bans, selectBans, rooms)
	}
	if len(c.scope.Users) > 0 {
		add(&found.places, selectPlaces, users)
	}
	if c.clock == nil {
		add(&found.now, c.clockQuery())
	}
	return batch
}

// state is what decides, made from rows.
func (l *locked) state(clock talk.Clock) *talk.State {
	var now time.Time
	if clock != nil {
		now = clock().UTC().Truncate(time.Microsecond)
	} else {
		now = l.now[0].Now.Time
	}
	state := talk.NewState(now)
	for i := range l.rooms {
		state.LoadRoom(l.view(&l.rooms[i]), living(l.bans, l.rooms[i].ID, now), l.rooms[i].Seq)
	}
	for i := range l.users {
		id := l.users[i].ID
		seat, owns := l.place(id)
		state.LoadUser(l.users[i].account(), seat, owns, l.devices(id, now))
	}
	return state
}

func (l *locked) view(row *roomRow) talk.RoomView {
	var view talk.RoomView
	var owner talk.UserSummary
	for i := range l.seats {
		if seat := &l.seats[i]; seat.RoomID == row.ID {
			view.Participants = append(view.Participants, seat.participant(row.OwnerID))
			if seat.UserID == row.OwnerID {
				owner = seat.summary()
			}
		}
	}
	for i := range l.owners {
		if l.owners[i].UserID == row.OwnerID {
			owner = l.owners[i].summary()
		}
	}
	view.Room = row.room(owner)
	return view
}

// place is where a locked user sits and what they own: they are one room.
func (l *locked) place(id talk.UserID) (seat, owns talk.RoomID) {
	for _, p := range l.places {
		if p.UserID == id {
			seat = p.RoomID
			if p.Owns {
				owns = p.RoomID
			}
			return seat, owns
		}
	}
	for i := range l.seats { // of members nobody asked for by name
		if l.seats[i].UserID == id {
			seat = l.seats[i].RoomID
		}
	}
	for i := range l.rooms {
		if l.rooms[i].ID == seat && l.rooms[i].OwnerID == id {
			owns = seat
		}
	}
	return seat, owns
}

// devices are the sessions of a user that linger, oldest first.
func (l *locked) devices(id talk.UserID, now time.Time) []*talk.Session {
	var sessions []*talk.Session
	for i := range l.sessions {
		session := l.sessions[i].session()
		if session.UserID == id && session.Lingers(now) {
			sessions = append(sessions, &session)
		}
	}
	slices.SortFunc(sessions, func(a, b *talk.Session) int {
		if order := a.CreatedAt.Compare(b.CreatedAt); order != 0 {
			return order
		}
		return strings.Compare(string(a.ID), string(b.ID))
	})
	return sessions
}

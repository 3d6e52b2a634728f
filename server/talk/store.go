package talk

import (
	"context"
	"time"
)

// Clock tells the time. Every node follows the database's clock (see
// [Store.Now]), so that an expiry means the same moment on all of them. Times
// are UTC, in whole microseconds.
type Clock func() time.Time

// Reader answers from committed state, possibly through caches. What guards
// something (a seat, an owner, a ban, a session) is never decided from it.
type Reader interface {
	// Room returns an open or closed room, or ErrRoomNotFound.
	Room(ctx context.Context, id RoomID) (RoomView, error)
	// RoomBySlug returns an open or closed room, or ErrRoomNotFound.
	RoomBySlug(ctx context.Context, slug string) (RoomView, error)
	// User returns a living user, or ErrUserNotFound.
	User(ctx context.Context, id UserID) (UserView, error)
	// UserByUsername returns a living user, or ErrUserNotFound. Case does not matter.
	UserByUsername(ctx context.Context, username string) (UserView, error)
	// Users returns those of ids that exist, in the order of ids, each once.
	Users(ctx context.Context, ids []UserID) ([]UserView, error)
}

// Source is what caches fill themselves from: the reads of the database, each
// of one thing under one key.
type Source interface {
	Room(ctx context.Context, id RoomID) (RoomView, error)
	RoomID(ctx context.Context, slug string) (RoomID, error)
	Users(ctx context.Context, ids []UserID) ([]UserView, error)
	UserID(ctx context.Context, username string) (UserID, error)
}

// Store is the truth. Errors that a caller can act on are the values of this
// package; a database that cannot be reached is ErrDatabaseUnavailable.
type Store interface {
	Source

	// Change runs decide on the locked state that scope names, writes what it
	// changed, and commits, all or nothing. An error of decide rolls back and
	// comes back as it is. decide may run several times (serialization
	// failures, deadlocks, seats that moved between looking and locking) and so
	// has no effect but on the state. What comes back was committed, and must
	// still be told.
	Change(ctx context.Context, scope Scope, decide func(*State) error) (Told, error)

	// Now is the database's clock, read through the connection.
	Now(ctx context.Context) (time.Time, error)

	// Rooms lists open rooms.
	Rooms(ctx context.Context, q RoomQuery) (RoomPage, error)
	// RoomBans lists the bans of a room that have not run out at the time now.
	RoomBans(ctx context.Context, id RoomID, now time.Time) ([]RoomBan, error)
	// Account returns a living account, or ErrUserNotFound.
	Account(ctx context.Context, id UserID) (AccountView, error)
	// Credentials returns the account that login names, or ErrUserNotFound.
	Credentials(ctx context.Context, login Login) (Account, error)

	// Session returns a session, living or not, or ErrSessionNotFound.
	Session(ctx context.Context, id SessionID) (Session, error)
	// Sessions lists the living sessions of a user, the last used first.
	Sessions(ctx context.Context, user UserID, now time.Time) ([]Session, error)
	// Rotate raises the generation of a living session from `from` by one, in
	// one conditional UPDATE. It reports false, and the session as it is, where
	// the generation is another or the session has ended; ErrSessionNotFound
	// where there is none.
	Rotate(ctx context.Context, id SessionID, from int64, now time.Time, idle time.Duration) (Session, bool, error)
	// UseSessions notes last uses and confirms generations, in one batch.
	// Sessions that have ended are left alone.
	UseSessions(ctx context.Context, uses []SessionUse) error
	// Pending is when the oldest change began that may still commit; zero where
	// there is none.
	Pending(ctx context.Context) (time.Time, error)
	// RevokedSince lists the sessions that ended, by revocation, at or after a time.
	RevokedSince(ctx context.Context, since time.Time) ([]SessionID, error)

	// ManagedUsers lists living accounts, the newest first.
	ManagedUsers(ctx context.Context, q UserQuery, now time.Time) (UserPage, error)
	// AuditBelow lists entries of the audit log with an id below one, the newest
	// first; 0 is above all.
	AuditBelow(ctx context.Context, id int64, limit int) ([]AuditEntry, error)
	// AuditAfter lists entries of the audit log with an id above one, oldest first.
	AuditAfter(ctx context.Context, id int64, limit int) ([]AuditEntry, error)

	// Unpublished lists what was committed before a time and not yet marked as
	// told, of the rows with an id above one, oldest first.
	Unpublished(ctx context.Context, after int64, before time.Time, limit int) ([]Outgoing, error)
	// Published marks rows of the outbox as told.
	Published(ctx context.Context, ids []int64) error
	// ForgetEvents deletes what was told before a time, and returns how many rows.
	ForgetEvents(ctx context.Context, before time.Time) (int, error)

	// Keys lists all keys, oldest first.
	Keys(ctx context.Context) ([]StoredKey, error)
	// AddKeys adds keys; where first is true, only when there are none of their
	// purpose yet. It runs under the migration lock.
	AddKeys(ctx context.Context, first bool, keys ...StoredKey) error
	// DropKeys deletes keys by id.
	DropKeys(ctx context.Context, ids ...string) error
}

// Told is what a committed change has to tell: which rows of the outbox it
// wrote, and what is in them.
type Told struct {
	IDs    []int64
	Events []Event
	Keys   []Key
	Rooms  []Room // those that it changed, as they are now
}

// Outgoing is one row of the outbox.
type Outgoing struct {
	ID    int64
	Event Event
	Keys  []Key
}

// Order is how a list of rooms is sorted.
type Order int

// The orders. Ties are broken by id, newest first.
const (
	Popular Order = iota + 1 // the most people first
	Newest                   // the last opened first
)

// RoomQuery asks for a page of open rooms. Zero fields do not filter.
type RoomQuery struct {
	Language string // "es" also finds "es-mx"
	Level    Level  // any but LevelAny also finds rooms of LevelAny
	Text     string // somewhere in name or topic, whatever its case
	Order    Order
	Size     int       // 1 to 100
	After    *RoomMark // nil for the first page
}

// RoomMark is the last room of a page: where the next one begins.
type RoomMark struct {
	Count int // participants, where the order is Popular
	ID    RoomID
}

// RoomPage is a page of rooms.
type RoomPage struct {
	Rooms []Room
	Memos []*Memo   // of each of the rooms, as an item of a page, on first pages, which are asked for most; else nil
	Next  *RoomMark // nil after the last page
	Total int       // open rooms that match, on all pages
}

// StoredKey is a secret of the server as it lies in the database.
type StoredKey struct {
	ID        string // the `kid` of a signing key
	Purpose   string // PurposeSign or PurposeRefresh
	Sealed    []byte // see Keyring
	CreatedAt time.Time
	ActiveAt  time.Time // it signs from here on
}

// Cache is what a change has to tell the caches.
type Cache interface {
	// Forget makes every cache load these keys again. It returns once no cache
	// that this node shares serves what it held before, or an error.
	Forget(ctx context.Context, keys ...Key) error
}

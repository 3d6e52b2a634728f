package db

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/free2talk/free2talk/server/talk"
)

// rules says which of talk's errors a constraint stands for. SQLite names
// columns, not constraints, where one of those is not unique.
var rules = map[string]*talk.Error{
	"participants_one_room_a_user": talk.ErrInAnotherRoom,
	"participants.user_id":         talk.ErrInAnotherRoom,
	"rooms_capacity_kept":          talk.ErrRoomFull,
	"rooms_closed_is_empty":        talk.ErrRoomClosed,
	"rooms_one_open_an_owner":      talk.ErrOwnsARoom,
	"rooms.owner_id":               talk.ErrOwnsARoom,
	"events.once":                  talk.ErrRepeated,
	"events_once_key":              talk.ErrRepeated,
	"users_email_key":              talk.ErrEmailTaken,
	"users_username_key":           talk.ErrUsernameTaken,
	// A slug ends in chance: the same call again makes another.
	"rooms_slug_key": talk.ErrBusy,
	"rooms.slug":     talk.ErrBusy,
}

// states says what a SQLSTATE means, by all of it or by its class.
var states = map[string]*talk.Error{
	"08":    talk.ErrDatabaseUnavailable, // connection exceptions
	"53":    talk.ErrDatabaseUnavailable, // no connections, memory or disk left
	"57P01": talk.ErrDatabaseUnavailable, // terminated by an administrator
	"57P02": talk.ErrDatabaseUnavailable, // another backend crashed
	"57P03": talk.ErrDatabaseUnavailable, // starting up or shutting down
	"57P05": talk.ErrDatabaseUnavailable, // idle session
	"25P03": talk.ErrDatabaseUnavailable, // idle in a transaction: this process was frozen
	"25006": talk.ErrDatabaseUnavailable, // read only: a standby, in the middle of a failover
	"58":    talk.ErrDatabaseUnavailable, // the system below it failed
	"55P03": talk.ErrBusy,                // lock_timeout
	"57014": talk.ErrBusy,                // statement_timeout
	"40001": talk.ErrBusy,                // serialization failure, tried often enough
	"40P01": talk.ErrBusy,                // deadlock, tried often enough
}

// fault makes an error of the database one of talk's. Errors of the context
// pass through as they are, and so does what is of talk already.
func fault(ctx context.Context, err error) error {
	var known *talk.Error
	switch {
	case err == nil, errors.As(err, &known):
		return err
	case rules[constraintOf(err)] != nil:
		return rules[constraintOf(err)].Because(err)
	case ctx.Err() != nil:
		return ctx.Err()
	case away(err):
		return talk.ErrDatabaseUnavailable.Because(err)
	case errors.Is(err, errMoved): // tried often enough
		return talk.ErrBusy.Because(err)
	}
	if known = stateOf(err); known != nil {
		return known.Because(err)
	}
	return fmt.Errorf("database: %w", err)
}

// constraintOf is the constraint that refused, or "".
func constraintOf(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.ConstraintName
	}
	lite, ok := errors.AsType[*sqlite.Error](err)
	if !ok || lite.Code()&0xff != sqlite3.SQLITE_CONSTRAINT {
		return ""
	}
	// "constraint failed: UNIQUE constraint failed: index 'users_email_key' (2067)"
	name := lite.Error()[strings.LastIndex(lite.Error(), ": ")+2:]
	name, _, _ = strings.Cut(name, " (")
	name, _, _ = strings.Cut(name, ", ")
	return strings.Trim(strings.TrimPrefix(name, "index "), "'")
}

func stateOf(err error) *talk.Error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) && len(pg.Code) == 5 {
		if known := states[pg.Code]; known != nil {
			return known
		}
		return states[pg.Code[:2]]
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		switch lite.Code() & 0xff {
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return talk.ErrBusy
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
			return talk.ErrDatabaseUnavailable
		}
	}
	return nil
}

// away reports whether nobody answered, or stopped in mid-sentence.
func away(err error) bool {
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		strings.Contains(err.Error(), "conn closed") || strings.Contains(err.Error(), "database is closed")
}

// errMoved is a change that found somebody in another room than it had locked.
var errMoved = errors.New("a seat moved between looking and locking")

// passing reports whether the same again may succeed, and is known to have
// left nothing behind.
func passing(err error) bool {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code == "40001" || pg.Code == "40P01"
	}
	if lite, ok := errors.AsType[*sqlite.Error](err); ok {
		return lite.Code()&0xff == sqlite3.SQLITE_BUSY || lite.Code()&0xff == sqlite3.SQLITE_LOCKED
	}
	return errors.Is(err, errMoved)
}

// tries bounds how often one call is begun.
const tries = 10

// retry does what may fail in passing, again after a wait that grows and is
// never twice the same, so that those who collided do not collide again.
func retry(ctx context.Context, do func() error) error {
	wait := time.Millisecond
	for try := 1; ; try++ {
		err := do()
		if err == nil || try == tries || !passing(err) {
			return err
		}
		timer := time.NewTimer(rand.N(wait) + wait/2)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
		wait = min(2*wait, 100*time.Millisecond)
	}
}

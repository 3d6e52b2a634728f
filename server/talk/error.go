package talk

import (
	"errors"
	"fmt"
	"maps"
	"time"
)

// Kind sorts failures by what a caller can do about them. The transport maps
// each to one wire code.
type Kind int

// The kinds of failure.
const (
	Invalid         Kind = iota + 1 // the input is wrong whatever the state is
	Unauthenticated                 // it is not known who asks
	Denied                          // it is known, and they may not
	NotFound                        // there is no such thing
	Exists                          // there is such a thing already
	Unsettled                       // the state does not allow it now
	Aborted                         // somebody else was faster; read again
	Exhausted                       // too much; wait
	Unavailable                     // a part of the server is away or full; try again
)

// Error is a failure written for the caller. Compare with errors.Is against
// the values of this file: two errors are the same when their reasons are.
type Error struct {
	Kind     Kind
	Reason   string            // stable, for programs
	Sentence string            // for people; never echoes input
	Metadata map[string]string // facts a program can use, such as room_id
	Retry    time.Duration     // how long to wait before trying again; zero means waiting does not cure it, or it is not known
	cause    error
}

// Error is the sentence, with the cause behind it for the log.
func (e *Error) Error() string {
	if e.cause != nil {
		return fmt.Sprintf("%s: %v", e.Sentence, e.cause)
	}
	return e.Sentence
}

// Is reports whether target has the same reason.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Reason == e.Reason
}

// Unwrap returns the cause, which is for the log and never for the caller.
func (e *Error) Unwrap() error { return e.cause }

// With returns a copy of e that also carries the fact key = value.
func (e *Error) With(key, value string) *Error {
	c := *e
	c.Metadata = maps.Clone(e.Metadata)
	if c.Metadata == nil {
		c.Metadata = map[string]string{}
	}
	c.Metadata[key] = value
	return &c
}

// After returns a copy of e that tells the caller to wait for d.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.Retry = d
	return &c
}

// Because returns a copy of e with a cause for the log.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// ReasonOf returns the reason of the *Error that err wraps, or "" where it wraps none.
func ReasonOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Reason
	}
	return ""
}

// ErrHistoryGone is for readers of the history: what they ask for was deleted.
// No caller sees it; they get a snapshot.
var ErrHistoryGone = errors.New("the history does not reach back that far")

// ErrNodeSwept is what a node hears that others believe to be dead. No caller
// sees it.
var ErrNodeSwept = errors.New("this node was swept: it was silent for too long")

// ErrRepeated is what a store says of an event that happened before: see
// [Event.Once]. No caller sees it.
var ErrRepeated = &Error{Kind: Exists, Reason: "REPEATED", Sentence: "this was done before"}

// Every failure that a caller can act on, once.
var (
	// Input.
	ErrPasswordWeak     = &Error{Kind: Invalid, Reason: "PASSWORD_WEAK", Sentence: "this password is too common or too close to your own names"}
	ErrUsernameReserved = &Error{Kind: Invalid, Reason: "USERNAME_RESERVED", Sentence: "this username is reserved"}
	ErrSelf             = &Error{Kind: Invalid, Reason: "SELF", Sentence: "this cannot be done to oneself or to the owner"}
	ErrBadPageToken     = &Error{Kind: Invalid, Reason: "BAD_PAGE_TOKEN", Sentence: "this page token does not belong to this list"}
	ErrBadCursor        = &Error{Kind: Invalid, Reason: "BAD_CURSOR", Sentence: "this cursor does not belong to this stream"}

	// Who asks.
	ErrTokenMissing   = &Error{Kind: Unauthenticated, Reason: "TOKEN_MISSING", Sentence: "an access token is needed"}
	ErrTokenExpired   = &Error{Kind: Unauthenticated, Reason: "TOKEN_EXPIRED", Sentence: "the access token has expired"}
	ErrTokenInvalid   = &Error{Kind: Unauthenticated, Reason: "TOKEN_INVALID", Sentence: "the access token is not valid"}
	ErrSessionRevoked = &Error{Kind: Unauthenticated, Reason: "SESSION_REVOKED", Sentence: "this session has ended"}
	ErrRefreshInvalid = &Error{Kind: Unauthenticated, Reason: "REFRESH_INVALID", Sentence: "the refresh token is not valid"}
	ErrRefreshReused  = &Error{Kind: Unauthenticated, Reason: "REFRESH_REUSED", Sentence: "the refresh token was used before; the session has ended"}
	ErrBadCredentials = &Error{Kind: Unauthenticated, Reason: "BAD_CREDENTIALS", Sentence: "the name or the password is wrong"}

	// What they may.
	ErrBanned    = &Error{Kind: Denied, Reason: "BANNED", Sentence: "this account is banned"}
	ErrCrossSite = &Error{Kind: Denied, Reason: "CROSS_SITE", Sentence: "the cookie is not taken from another site"}
	ErrNotOwner  = &Error{Kind: Denied, Reason: "NOT_OWNER", Sentence: "only the owner of the room may do this"}
	ErrNotAdmin  = &Error{Kind: Denied, Reason: "NOT_ADMIN", Sentence: "only an administrator may do this"}
	ErrKicked    = &Error{Kind: Denied, Reason: "KICKED", Sentence: "you were removed from this room for a while"}

	// What there is.
	ErrUserNotFound    = &Error{Kind: NotFound, Reason: "USER_NOT_FOUND", Sentence: "there is no such user"}
	ErrRoomNotFound    = &Error{Kind: NotFound, Reason: "ROOM_NOT_FOUND", Sentence: "there is no such room"}
	ErrSessionNotFound = &Error{Kind: NotFound, Reason: "SESSION_NOT_FOUND", Sentence: "there is no such session"}
	ErrEmailTaken      = &Error{Kind: Exists, Reason: "EMAIL_TAKEN", Sentence: "this e-mail address has an account already"}
	ErrUsernameTaken   = &Error{Kind: Exists, Reason: "USERNAME_TAKEN", Sentence: "this username is taken"}

	// What the state allows.
	ErrRoomFull        = &Error{Kind: Unsettled, Reason: "ROOM_FULL", Sentence: "the room is full"}
	ErrRoomClosed      = &Error{Kind: Unsettled, Reason: "ROOM_CLOSED", Sentence: "the room is closed"}
	ErrNotInRoom       = &Error{Kind: Unsettled, Reason: "NOT_IN_ROOM", Sentence: "they are not in this room"}
	ErrInAnotherRoom   = &Error{Kind: Unsettled, Reason: "IN_ANOTHER_ROOM", Sentence: "you are in another room"}
	ErrOwnsARoom       = &Error{Kind: Unsettled, Reason: "OWNS_A_ROOM", Sentence: "you own an open room already"}
	ErrCapacityTaken   = &Error{Kind: Unsettled, Reason: "CAPACITY_TAKEN", Sentence: "more people are in the room than that"}
	ErrVersionMismatch = &Error{Kind: Aborted, Reason: "VERSION_MISMATCH", Sentence: "the room has changed since you read it"}

	// Too much, or away.
	ErrBodyTooLarge        = &Error{Kind: Exhausted, Reason: "BODY_TOO_LARGE", Sentence: "the request is too large"}
	ErrRateLimited         = &Error{Kind: Exhausted, Reason: "RATE_LIMITED", Sentence: "too many requests; wait a little"}
	ErrSlowConsumer        = &Error{Kind: Exhausted, Reason: "SLOW_CONSUMER", Sentence: "this stream did not keep up; resume it by its cursor"}
	ErrTooManyStreams      = &Error{Kind: Exhausted, Reason: "TOO_MANY_STREAMS", Sentence: "too many streams are open"}
	ErrBusy                = &Error{Kind: Unavailable, Reason: "BUSY", Sentence: "the server is busy; try again", Retry: time.Second}
	ErrDatabaseUnavailable = &Error{Kind: Unavailable, Reason: "DATABASE_UNAVAILABLE", Sentence: "the database is away; try again", Retry: time.Second}
)

// InvalidInput is a value that validation by the schema could not judge alone.
// Field is the path of the request's field in the wire's spelling.
type InvalidInput struct {
	Field    string
	Sentence string
}

// Error names the field and what is wrong with it.
func (e *InvalidInput) Error() string { return e.Field + ": " + e.Sentence }

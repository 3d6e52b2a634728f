package talk

import (
	"fmt"

	"github.com/google/uuid"
)

// UserID names an account. It is a UUIDv7 in its canonical lower-case form.
type UserID string

// RoomID names a room. It is a UUIDv7 in its canonical lower-case form.
type RoomID string

// SessionID names a signed-in device. It is a UUIDv7 in its canonical lower-case form.
type SessionID string

// NewID makes a UUIDv7 (RFC 9562): ids made later sort later, which keeps the
// indexes of a database dense.
func NewID() string { return uuid.Must(uuid.NewV7()).String() }

// parseID accepts a UUID in its canonical form only, so that one thing has one
// name in the caches and in the limits.
func parseID(kind, s string) (string, error) {
	id, err := uuid.Parse(s)
	if err != nil || len(s) != 36 {
		return "", fmt.Errorf("%s: not a UUID", kind)
	}
	return id.String(), nil
}

// ParseUserID accepts a canonical UUID of any case.
func ParseUserID(s string) (UserID, error) {
	id, err := parseID("user id", s)
	return UserID(id), err
}

// ParseRoomID accepts a canonical UUID of any case.
func ParseRoomID(s string) (RoomID, error) {
	id, err := parseID("room id", s)
	return RoomID(id), err
}

// ParseSessionID accepts a canonical UUID of any case.
func ParseSessionID(s string) (SessionID, error) {
	id, err := parseID("session id", s)
	return SessionID(id), err
}

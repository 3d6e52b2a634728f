package talk

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Topic names a stream of events that are ordered among themselves.
type Topic string

// RoomTopic carries what happens in a room.
func RoomTopic(id RoomID) Topic { return Topic("room:" + string(id)) }

// UserTopic carries what concerns one person alone.
func UserTopic(id UserID) Topic { return Topic("user:" + string(id)) }

// Event is one thing that happened, as it stands in the outbox.
type Event struct {
	Topic Topic
	Seq   int64 // raised by one with each event of the topic
	At    time.Time
	Fact  Fact
	Once  string // where it is set, no two events of the history have the same: the later is ErrRepeated
}

// Fact is what happened. The set of facts is closed: see facts in this file.
type Fact interface{ Kind() string }

// LeaveReason says why somebody no longer sits in a room.
type LeaveReason string

// The reasons, as they are stored.
const (
	LeftByThemselves LeaveReason = "left"
	LeftByKick       LeaveReason = "kicked"
	LeftDisconnected LeaveReason = "disconnected"
	LeftRoomClosed   LeaveReason = "room_closed"
	LeftByBan        LeaveReason = "banned"
)

// CloseReason says why a room is no more.
type CloseReason string

// The reasons, as they are stored.
const (
	ClosedByOwner CloseReason = "owner"
	ClosedEmpty   CloseReason = "empty"
	ClosedByAdmin CloseReason = "admin"
)

// The facts. Those with a Version are changes of a room's state: each raises
// the room's version by one, so that the facts up to a version give the room
// at that version.
type (
	// ParticipantJoined: somebody sat down.
	ParticipantJoined struct {
		RoomID      RoomID      `json:"room_id"`
		Participant Participant `json:"participant"`
		Version     int64       `json:"version"`
	}
	// ParticipantLeft: somebody stood up, or was made to.
	ParticipantLeft struct {
		RoomID  RoomID      `json:"room_id"`
		UserID  UserID      `json:"user_id"`
		Reason  LeaveReason `json:"reason"`
		Version int64       `json:"version"`
	}
	// ParticipantUpdated: the state or the profile of somebody seated changed.
	ParticipantUpdated struct {
		RoomID      RoomID      `json:"room_id"`
		Participant Participant `json:"participant"`
		Version     int64       `json:"version"`
	}
	// OwnerChanged: the room was handed over.
	OwnerChanged struct {
		RoomID         RoomID `json:"room_id"`
		UserID         UserID `json:"user_id"`
		PreviousUserID UserID `json:"previous_user_id"`
		Version        int64  `json:"version"`
	}
	// RoomCreated: a room opened, with its owner in it.
	RoomCreated struct {
		Room Room `json:"room"`
	}
	// RoomUpdated: the owner changed what the room says of itself.
	RoomUpdated struct {
		Room Room `json:"room"`
	}
	// RoomClosed: the room is no more. Always the last fact of a room.
	RoomClosed struct {
		RoomID  RoomID      `json:"room_id"`
		Reason  CloseReason `json:"reason"`
		Version int64       `json:"version"`
	}
	// Kicked tells one person that they were removed from a room.
	Kicked struct {
		RoomID RoomID    `json:"room_id"`
		Reason string    `json:"reason,omitempty"`
		Until  time.Time `json:"until"`
	}
	// Moved tells one person that their seat is elsewhere now, or nowhere.
	Moved struct {
		RoomID RoomID `json:"room_id,omitempty"`
		// Gone is that the seat was given up because they went offline.
		Gone bool `json:"gone,omitempty"`
	}
	// SessionRevoked tells one person that a device of theirs was signed out.
	SessionRevoked struct {
		SessionID SessionID    `json:"session_id"`
		Reason    RevokeReason `json:"reason"`
	}
	// Touched is no event for anybody: it carries the cache keys of a change that has no other fact.
	Touched struct{}
)

// Kind is the name under which the fact is stored.
func (ParticipantJoined) Kind() string { return "participant_joined" }

// Kind is the name under which the fact is stored.
func (ParticipantLeft) Kind() string { return "participant_left" }

// Kind is the name under which the fact is stored.
func (ParticipantUpdated) Kind() string { return "participant_updated" }

// Kind is the name under which the fact is stored.
func (OwnerChanged) Kind() string { return "owner_changed" }

// Kind is the name under which the fact is stored.
func (RoomCreated) Kind() string { return "room_created" }

// Kind is the name under which the fact is stored.
func (RoomUpdated) Kind() string { return "room_updated" }

// Kind is the name under which the fact is stored.
func (RoomClosed) Kind() string { return "room_closed" }

// Kind is the name under which the fact is stored.
func (Kicked) Kind() string { return "kicked" }

// Kind is the name under which the fact is stored.
func (Moved) Kind() string { return "moved" }

// Kind is the name under which the fact is stored.
func (SessionRevoked) Kind() string { return "session_revoked" }

// Kind is the name under which the fact is stored.
func (Touched) Kind() string { return "touched" }

var facts = map[string]func([]byte) (Fact, error){
	"participant_joined":  decode[ParticipantJoined],
	"participant_left":    decode[ParticipantLeft],
	"participant_updated": decode[ParticipantUpdated],
	"owner_changed":       decode[OwnerChanged],
	"room_created":        decode[RoomCreated],
	"room_updated":        decode[RoomUpdated],
	"room_closed":         decode[RoomClosed],
	"kicked":              decode[Kicked],
	"moved":               decode[Moved],
	"session_revoked":     decode[SessionRevoked],
	"message_posted":      decode[MessagePosted],
	"touched":             decode[Touched],
}

func decode[F Fact](payload []byte) (Fact, error) {
	var fact F
	err := json.Unmarshal(payload, &fact)
	return fact, err
}

// DecodeFact reads back a fact that was stored as JSON under its kind.
func DecodeFact(kind string, payload []byte) (Fact, error) {
	read, ok := facts[kind]
	if !ok {
		return nil, fmt.Errorf("event: unknown kind %q", kind)
	}
	return read(payload)
}

// Key names something that caches hold and a change may make untrue.
type Key string

// RoomKey is a room with its participants.
func RoomKey(id RoomID) Key { return Key("room:" + string(id)) }

// SlugKey is the way from a slug to a room.
func SlugKey(slug string) Key { return Key("slug:" + slug) }

// UserKey is a public profile with the current room.
func UserKey(id UserID) Key { return Key("user:" + string(id)) }

// UsernameKey is the way from a username, whatever its case, to a user.
func UsernameKey(name string) Key { return Key("username:" + Fold(name)) }

// Split returns what kind of thing the key names, and which.
func (k Key) Split() (kind, name string) {
	kind, name, _ = strings.Cut(string(k), ":")
	return kind, name
}

// log gathers what one change has to tell.
type log struct {
	events []Event
	keys   []Key
}

func (l *log) add(e Event)       { l.events = append(l.events, e) }
func (l *log) touch(keys ...Key) { l.keys = append(l.keys, keys...) }

package server

import (
	"time"
	"unicode/utf8"
	"unsafe"

	"google.golang.org/protobuf/encoding/protowire"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// fields reads a protobuf message as it lies there. What a cache holds is read
// so: the message that it is would be thirty objects that nobody looks at, for
// three times the CPU. The texts are parts of what is read. Fields that are
// not known are passed over, as everywhere in protobuf. The numbers are those of
// the schema; the tests of the codecs hold them against it.
type fields struct {
	left   string
	broken bool

	// The field that next found: a number or a text, by its kind.
	at     protowire.Number
	number uint64
	text   string
}

// bytesOf is a text as bytes, which are only read.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) } //nolint:gosec // nobody writes to it

// next finds the next field, or returns false at the end or where there is none.
func (f *fields) next() bool {
	if f.left == "" || f.broken {
		return false
	}
	whole := bytesOf(f.left)
	at, kind, n := protowire.ConsumeTag(whole)
	if n < 0 {
		f.broken = true
		return false
	}
	f.at, f.number, f.text = at, 0, ""
	var size int
	switch kind {
	case protowire.VarintType:
		f.number, size = protowire.ConsumeVarint(whole[n:])
	case protowire.BytesType:
		var text []byte
		if text, size = protowire.ConsumeBytes(whole[n:]); size > 0 {
			f.text = f.left[n+size-len(text) : n+size]
		}
	default:
		size = protowire.ConsumeFieldValue(at, kind, whole[n:])
	}
	if size < 0 {
		f.broken = true
		return false
	}
	f.left = f.left[n+size:]
	return true
}

// heard notes that a message inside of this one was broken.
func (f *fields) heard(inner fields) { f.broken = f.broken || inner.broken }

// words is a text that is one.
func (f *fields) words() string {
	if !utf8.ValidString(f.text) {
		f.broken = true
	}
	return f.text
}

// moment reads a google.protobuf.Timestamp.
func (f *fields) moment(message string) time.Time {
	var seconds, nanos int64
	inner := fields{left: message}
	for inner.next() {
		switch inner.at {
		case 1:
			seconds = int64(inner.number)
		case 2:
			nanos = int64(int32(inner.number))
		}
	}
	f.heard(inner)
	return time.Unix(seconds, nanos).UTC()
}

// summary reads a UserSummary.
func (f *fields) summary(message string) (u talk.UserSummary) {
	inner := fields{left: message}
	for inner.next() {
		switch inner.at {
		case 1:
			u.ID = talk.UserID(inner.words())
		case 2:
			u.Username = inner.words()
		case 3:
			u.DisplayName = inner.words()
		case 4:
			u.AvatarURL = inner.words()
		}
	}
	f.heard(inner)
	return u
}

// room reads a Room. It lacks the reason of a closed one, which the wire's room does not have.
func (f *fields) room(message string) (r talk.Room) {
	inner := fields{left: message}
	for inner.next() {
		switch inner.at {
		case 1:
			r.ID = talk.RoomID(inner.words())
		case 2:
			r.Slug = inner.words()
		case 3:
			r.Name = inner.words()
		case 4:
			r.Topic = inner.words()
		case 5:
			r.Languages = append(r.Languages, inner.words())
		case 6:
			r.Level = talk.Level(int32(inner.number))
		case 7:
			r.Capacity = int(int32(inner.number))
		case 8:
			r.ParticipantCount = int(int32(inner.number))
		case 9:
			r.Owner = inner.summary(inner.text)
		case 11:
			r.Version = int64(inner.number)
		case 12:
			r.CreatedAt = inner.moment(inner.text)
		case 13:
			r.UpdatedAt = inner.moment(inner.text)
		case 14:
			r.ClosedAt = inner.moment(inner.text)
		}
	}
	f.heard(inner)
	return r
}

// participant reads a Participant. It lacks since when the state is what it is, which
// the wire does not have.
func (f *fields) participant(message string) (p talk.Participant) {
	inner := fields{left: message}
	for inner.next() {
		switch inner.at {
		case 1:
			p.User = inner.summary(inner.text)
		case 2:
			p.Owner = freev1.ParticipantRole(inner.number) == freev1.ParticipantRole_PARTICIPANT_ROLE_OWNER
		case 3:
			p.State = stateOf[freev1.ParticipantState(inner.number)]
		case 4:
			p.JoinedAt = inner.moment(inner.text)
		}
	}
	f.heard(inner)
	return p
}

// user reads a User.
func (f *fields) user(message string) (u talk.User) {
	inner := fields{left: message}
	for inner.next() {
		switch inner.at {
		case 1:
			u.ID = talk.UserID(inner.words())
		case 2:
			u.Username = inner.words()
		case 3:
			u.DisplayName = inner.words()
		case 4:
			u.AvatarURL = inner.words()
		case 5:
			u.Bio = inner.words()
		case 6:
			u.NativeLanguages = append(u.NativeLanguages, inner.words())
		case 7:
			u.LearningLanguages = append(u.LearningLanguages, inner.words())
		case 8:
			u.Country = inner.words()
		case 9:
			u.Role = talk.Role(int32(inner.number))
		case 10:
			u.CreatedAt = inner.moment(inner.text)
		case 11:
			u.UpdatedAt = inner.moment(inner.text)
		}
	}
	f.heard(inner)
	return u
}

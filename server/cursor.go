package server

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"math"

	"github.com/google/uuid"

	"github.com/free2talk/free2talk/server/talk"
)

// A cursor is where a stream goes on from. It is opaque to clients, and it
// grants nothing: whoever makes one up asks for what they could have asked for
// anyway. Its bytes, in base64url without padding:
//
//	version 1 | kind 1 | history 8 | place … | checksum 4
//
// history is a hash of the history's id, place is the kind's own business, and
// the checksum (CRC-32, IEEE) is over all before it.
const (
	cursorVersion  = 1
	cursorHeadLen  = 2 + cursorHistory
	cursorHistory  = 8
	cursorCheckLen = 4
	cursorMost     = 512 // characters of a cursor that are looked at
)

// cursorKind is which stream a cursor belongs to.
type cursorKind byte

// The kinds.
const (
	cursorOfRoom   cursorKind = 'r' // room 16 | seq
	cursorOfPerson cursorKind = 'p' // user 16 | seq | room 16, zeros for none | seq
	cursorOfLobby  cursorKind = 'l' // filter 8 | transaction | id
)

var cursorEncoding = base64.RawURLEncoding

// cursors makes and reads the cursors of one history.
type cursors struct{ history [cursorHistory]byte }

func newCursors(historyID string) cursors {
	sum := sha256.Sum256([]byte(historyID))
	return cursors{history: [cursorHistory]byte(sum[:])}
}

// seal makes the cursor of a place.
func (c cursors) seal(kind cursorKind, place []byte) string {
	raw := make([]byte, 0, cursorHeadLen+len(place)+cursorCheckLen)
	raw = append(raw, cursorVersion, byte(kind))
	raw = append(raw, c.history[:]...)
	raw = append(raw, place...)
	return cursorEncoding.EncodeToString(binary.BigEndian.AppendUint32(raw, crc32.ChecksumIEEE(raw)))
}

// open returns the place of a cursor of that kind, and whether it is of this
// history; ErrBadCursor where it is none.
func (c cursors) open(kind cursorKind, cursor string) (place []byte, ours bool, err error) {
	if len(cursor) > cursorMost {
		return nil, false, talk.ErrBadCursor
	}
	raw, err := cursorEncoding.Strict().DecodeString(cursor)
	if err != nil || len(raw) < cursorHeadLen+cursorCheckLen || raw[0] != cursorVersion || raw[1] != byte(kind) {
		return nil, false, talk.ErrBadCursor
	}
	body := raw[:len(raw)-cursorCheckLen]
	if binary.BigEndian.Uint32(raw[len(body):]) != crc32.ChecksumIEEE(body) {
		return nil, false, talk.ErrBadCursor
	}
	return body[cursorHeadLen:], [cursorHistory]byte(body[2:cursorHeadLen]) == c.history, nil
}

// --- places ---

func appendID(place []byte, id string) []byte {
	parsed, err := uuid.Parse(id)
	if err != nil {
		return append(place, make([]byte, 16)...) // "" is no id
	}
	return append(place, parsed[:]...)
}

// placeReader reads what was appended, in that order.
type placeReader struct {
	left []byte
	bad  bool
}

func (p *placeReader) id() string {
	if len(p.left) < 16 {
		p.bad = true
		return ""
	}
	parsed := uuid.UUID(p.left[:16])
	p.left = p.left[16:]
	if parsed == uuid.Nil {
		return ""
	}
	return parsed.String()
}

func (p *placeReader) seq() int64 {
	n, size := binary.Uvarint(p.left)
	if size <= 0 || n > math.MaxInt64 {
		p.bad, p.left = true, nil
		return 0
	}
	p.left = p.left[size:]
	return int64(n)
}

// end returns ErrBadCursor where parts were missing or are left over.
func (p *placeReader) end() error {
	if p.bad || len(p.left) > 0 {
		return talk.ErrBadCursor
	}
	return nil
}

// --- rooms and people ---

// room is the cursor after an event of a room.
func (c cursors) room(id talk.RoomID, seq int64) string {
	return c.seal(cursorOfRoom, binary.AppendUvarint(appendID(nil, string(id)), uint64(seq)))
}

// openRoom is the way back from [cursors.room], for the stream of that room.
func (c cursors) openRoom(cursor string, id talk.RoomID) (seq int64, ours bool, err error) {
	place, ours, err := c.open(cursorOfRoom, cursor)
	if err != nil {
		return 0, false, err
	}
	p := placeReader{left: place}
	of, seq := p.id(), p.seq()
	if p.end() != nil || of != string(id) {
		return 0, false, talk.ErrBadCursor
	}
	return seq, ours, nil
}

// personalPlace is how far a personal stream has come.
type personalPlace struct {
	seq     int64
	room    talk.RoomID // or ""
	roomSeq int64
}

// person is the cursor of somebody's own stream.
func (c cursors) person(id talk.UserID, at personalPlace) string {
	place := binary.AppendUvarint(appendID(nil, string(id)), uint64(at.seq))
	return c.seal(cursorOfPerson, binary.AppendUvarint(appendID(place, string(at.room)), uint64(at.roomSeq)))
}

// openPerson is the way back from [cursors.person], for the stream of that person.
func (c cursors) openPerson(cursor string, id talk.UserID) (at personalPlace, ours bool, err error) {
	place, ours, err := c.open(cursorOfPerson, cursor)
	if err != nil {
		return at, false, err
	}
	p := placeReader{left: place}
	of := p.id()
	at = personalPlace{seq: p.seq(), room: talk.RoomID(p.id()), roomSeq: p.seq()}
	if p.end() != nil || of != string(id) {
		return personalPlace{}, false, talk.ErrBadCursor
	}
	return at, ours, nil
}

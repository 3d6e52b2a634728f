package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// What caches hold is the public message, and before it what the public
// message does not say:
//
//	format 1 | length of the extras | extras | message
//
// The message comes last and whole, so that it can be sent as it lies there.
// A format that this server does not write is a miss: versions of the server
// share a cache, and only those of one format understand each other.
const codecFormat = 1

// seatsAtOnce bounds what is made room for by a count that was read.
const seatsAtOnce = 64

var errCodec = errors.New("not what this server writes")

// RoomCodec writes rooms with their people for the caches.
var RoomCodec roomCodec

// UserCodec writes people with the room they sit in for the caches.
var UserCodec userCodec

type roomCodec struct{}

// Encode writes all of view. An empty list comes back as nil.
func (roomCodec) Encode(view talk.RoomView) ([]byte, error) {
	var extras []byte
	extras = appendText(extras, string(view.CloseReason))
	for _, p := range view.Participants {
		extras = appendTime(extras, p.StateSince)
	}
	return encode(extras, &freev1.GetRoomResponse{
		Room: wireRoom(view.Room), Participants: each(view.Participants, wireParticipant),
	})
}

// Decode reads what Encode wrote.
func (roomCodec) Decode(payload string) (talk.RoomView, error) {
	extras, message, err := decode(payload)
	if err != nil {
		return talk.RoomView{}, err
	}
	view := talk.RoomView{Memo: new(talk.Memo)}
	view.Memo.Keep(inBinary, bytesOf(message))
	whole := fields{left: message}
	for whole.next() {
		switch whole.at {
		case 1:
			view.Room = whole.room(whole.text)
		case 2:
			if view.Participants == nil {
				view.Participants = make([]talk.Participant, 0, min(max(view.ParticipantCount, 1), seatsAtOnce))
			}
			view.Participants = append(view.Participants, whole.participant(whole.text))
		}
	}
	view.CloseReason = talk.CloseReason(extras.text())
	for i := range view.Participants {
		view.Participants[i].StateSince = extras.time()
	}
	return view, extras.end(whole.broken)
}

type userCodec struct{}

// Encode writes all of view. An empty list comes back as nil.
func (userCodec) Encode(view talk.UserView) ([]byte, error) {
	return encode(appendText(nil, string(view.RoomID)), &freev1.GetUserResponse{User: wireUser(view.User)})
}

// Decode reads what Encode wrote.
func (userCodec) Decode(payload string) (view talk.UserView, err error) {
	extras, message, err := decode(payload)
	if err != nil {
		return view, err
	}
	whole := fields{left: message}
	for whole.next() {
		if whole.at == 1 {
			view.User = whole.user(whole.text)
		}
	}
	view.RoomID = talk.RoomID(extras.text())
	return view, extras.end(whole.broken)
}

func encode(extras []byte, message proto.Message) ([]byte, error) {
	payload := append([]byte{codecFormat}, binary.AppendUvarint(nil, uint64(len(extras)))...)
	payload, err := proto.MarshalOptions{}.MarshalAppend(append(payload, extras...), message)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", message.ProtoReflect().Descriptor().Name(), err)
	}
	return payload, nil
}

// decode parts a payload.
func decode(payload string) (extras *extraFields, message string, err error) {
	if payload == "" || payload[0] != codecFormat {
		return nil, "", errCodec
	}
	size, n := binary.Uvarint(bytesOf(payload[1:]))
	rest := payload[1+max(n, 0):]
	if n <= 0 || size > uint64(len(rest)) {
		return nil, "", errCodec
	}
	return &extraFields{left: rest[:size]}, rest[size:], nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendTime writes any time, the zero time too.
func appendTime(b []byte, t time.Time) []byte {
	return binary.AppendUvarint(binary.AppendVarint(b, t.Unix()), uint64(t.Nanosecond()))
}

// extraFields reads fields in the order in which they were appended. After the
// first that is not there it returns zeros, and end says so.
type extraFields struct {
	left   string
	broken bool
}

func (e *extraFields) text() string {
	size := e.number()
	if size > uint64(len(e.left)) {
		e.broken = true
		return ""
	}
	s := e.left[:size]
	e.left = e.left[size:]
	return s
}

func (e *extraFields) time() time.Time {
	seconds, n := binary.Varint(bytesOf(e.left))
	e.skip(n)
	return time.Unix(seconds, int64(e.number()%uint64(time.Second))).UTC()
}

func (e *extraFields) number() uint64 {
	number, n := binary.Uvarint(bytesOf(e.left))
	e.skip(n)
	return number
}

func (e *extraFields) skip(n int) {
	if n <= 0 {
		e.left, e.broken = "", true
		return
	}
	e.left = e.left[n:]
}

// end returns an error where fields were missing or are left over, or where the
// message was broken.
func (e *extraFields) end(broken bool) error {
	if broken || e.broken || len(e.left) > 0 {
		return errCodec
	}
	return nil
}

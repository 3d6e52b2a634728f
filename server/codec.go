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
func (roomCodec) Decode(payload []byte) (talk.RoomView, error) {
	var message freev1.GetRoomResponse
	extras, err := decode(payload, &message)
	if err != nil {
		return talk.RoomView{}, err
	}
	view := talk.RoomView{Room: roomOf(message.GetRoom()), Participants: each(message.GetParticipants(), participantOf)}
	view.CloseReason = talk.CloseReason(extras.text())
	for i := range view.Participants {
		view.Participants[i].StateSince = extras.time()
	}
	return view, extras.end()
}

type userCodec struct{}

// Encode writes all of view. An empty list comes back as nil.
func (userCodec) Encode(view talk.UserView) ([]byte, error) {
	return encode(appendText(nil, string(view.RoomID)), &freev1.GetUserResponse{User: wireUser(view.User)})
}

// Decode reads what Encode wrote.
func (userCodec) Decode(payload []byte) (talk.UserView, error) {
	var message freev1.GetUserResponse
	extras, err := decode(payload, &message)
	if err != nil {
		return talk.UserView{}, err
	}
	view := talk.UserView{User: userOf(message.GetUser()), RoomID: talk.RoomID(extras.text())}
	return view, extras.end()
}

func encode(extras []byte, message proto.Message) ([]byte, error) {
	payload := append([]byte{codecFormat}, binary.AppendUvarint(nil, uint64(len(extras)))...)
	payload, err := proto.MarshalOptions{}.MarshalAppend(append(payload, extras...), message)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", message.ProtoReflect().Descriptor().Name(), err)
	}
	return payload, nil
}

func decode(payload []byte, message proto.Message) (*extras, error) {
	if len(payload) == 0 || payload[0] != codecFormat {
		return nil, errCodec
	}
	size, n := binary.Uvarint(payload[1:])
	rest := payload[1+max(n, 0):]
	if n <= 0 || size > uint64(len(rest)) {
		return nil, errCodec
	}
	if err := proto.Unmarshal(rest[size:], message); err != nil {
		return nil, errors.Join(errCodec, err)
	}
	return &extras{left: rest[:size]}, nil
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendTime writes any time, the zero time too.
func appendTime(b []byte, t time.Time) []byte {
	return binary.AppendUvarint(binary.AppendVarint(b, t.Unix()), uint64(t.Nanosecond()))
}

// extras reads fields in the order in which they were appended. After the
// first that is not there it returns zeros, and end says so.
type extras struct {
	left   []byte
	broken bool
}

func (e *extras) text() string {
	size := e.number()
	if size > uint64(len(e.left)) {
		e.broken = true
		return ""
	}
	s := string(e.left[:size])
	e.left = e.left[size:]
	return s
}

func (e *extras) time() time.Time {
	seconds, n := binary.Varint(e.left)
	e.skip(n)
	return time.Unix(seconds, int64(e.number()%uint64(time.Second))).UTC()
}

func (e *extras) number() uint64 {
	number, n := binary.Uvarint(e.left)
	e.skip(n)
	return number
}

func (e *extras) skip(n int) {
	if n <= 0 {
		e.left, e.broken = nil, true
		return
	}
	e.left = e.left[n:]
}

// end returns an error where fields were missing or are left over.
func (e *extras) end() error {
	if e.broken || len(e.left) > 0 {
		return errCodec
	}
	return nil
}

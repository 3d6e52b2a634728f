package server

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// dice is a source of values of every shape, the empty one among them.
type dice struct{ *rand.Rand }

func (d dice) text() string {
	return strings.Repeat([]string{"", "a", "ñandú ✨", "\n", strings.Repeat("x", 300)}[d.IntN(5)], d.IntN(3))
}

func (d dice) texts() []string {
	var all []string
	for range d.IntN(4) {
		all = append(all, d.text())
	}
	return all
}

func (d dice) time() time.Time {
	if d.IntN(4) == 0 {
		return time.Time{}
	}
	return time.UnixMicro(d.Int64N(4e15) - 1e15).UTC()
}

func (d dice) summary() talk.UserSummary {
	return talk.UserSummary{ID: talk.UserID(d.text()), Username: d.text(), DisplayName: d.text(), AvatarURL: d.text()}
}

func (d dice) room() talk.RoomView {
	view := talk.RoomView{Room: talk.Room{
		ID: talk.RoomID(d.text()), Slug: d.text(), Name: d.text(), Topic: d.text(), Languages: d.texts(),
		Level: talk.Level(1 + d.IntN(7)), Capacity: d.IntN(1000), ParticipantCount: d.IntN(1000), Owner: d.summary(),
		Version: d.Int64(), CreatedAt: d.time(), UpdatedAt: d.time(), ClosedAt: d.time(),
		CloseReason: []talk.CloseReason{"", talk.ClosedByOwner, talk.ClosedEmpty, talk.ClosedByAdmin}[d.IntN(4)],
	}, Memo: new(talk.Memo)}
	for range d.IntN(13) {
		view.Participants = append(view.Participants, talk.Participant{
			User: d.summary(), Owner: d.IntN(2) == 0, State: []talk.ParticipantState{talk.Connected, talk.Reconnecting}[d.IntN(2)],
			StateSince: d.time(), JoinedAt: d.time(),
		})
	}
	return view
}

func (d dice) user() talk.UserView {
	return talk.UserView{RoomID: talk.RoomID(d.text()), User: talk.User{
		ID: talk.UserID(d.text()), Username: d.text(), Role: talk.Role(1 + d.IntN(2)), CreatedAt: d.time(), UpdatedAt: d.time(),
		Profile: talk.Profile{
			DisplayName: d.text(), AvatarURL: d.text(), Bio: d.text(), Country: d.text(),
			NativeLanguages: d.texts(), LearningLanguages: d.texts(),
		},
	}}
}

// What the caches hold is all that there is: nothing is lost on the way.
func TestCodecsLoseNothing(t *testing.T) {
	t.Parallel()
	d := dice{rand.New(rand.NewPCG(1, 2))}
	for range 2000 {
		back(t, RoomCodec, d.room())
		back(t, UserCodec, d.user())
	}
	back(t, RoomCodec, talk.RoomView{Room: talk.Room{Level: talk.LevelAny}, Memo: new(talk.Memo)})
	back(t, UserCodec, talk.UserView{User: talk.User{Role: talk.RoleUser}})
}

// Every field of the views is set to something that is not zero: a field that
// is added later and forgotten here fails.
func TestCodecsKnowEveryField(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	who := talk.UserSummary{ID: "u", Username: "n", DisplayName: "d", AvatarURL: "a"}
	room := talk.RoomView{
		Memo: new(talk.Memo),
		Room: talk.Room{
			ID: "r", Slug: "s", Name: "n", Topic: "t", Languages: []string{"es"}, Level: talk.LevelAdvanced, Capacity: 3, ParticipantCount: 1,
			Owner: who, Version: 1, CreatedAt: at, UpdatedAt: at, ClosedAt: at, CloseReason: talk.ClosedEmpty,
		},
		Participants: []talk.Participant{{User: who, Owner: true, State: talk.Reconnecting, StateSince: at, JoinedAt: at}},
	}
	user := talk.UserView{RoomID: "r", User: talk.User{
		ID: "u", Username: "n", Role: talk.RoleAdmin, CreatedAt: at, UpdatedAt: at,
		Profile: talk.Profile{
			DisplayName: "d", AvatarURL: "a", Bio: "b", Country: "MX", NativeLanguages: []string{"es"}, LearningLanguages: []string{"en"},
		},
	}}
	for _, v := range []any{room, user} {
		if path := zeroIn(reflect.ValueOf(v)); path != "" {
			t.Errorf("this test does not set %T%s", v, path)
		}
	}
	back(t, RoomCodec, room)
	back(t, UserCodec, user)
}

func zeroIn(v reflect.Value) string {
	switch {
	case v.Type() == reflect.TypeFor[time.Time](), v.Kind() != reflect.Struct && v.Kind() != reflect.Slice:
		if v.IsZero() {
			return " "
		}
	case v.Kind() == reflect.Slice:
		if v.Len() == 0 {
			return "[]"
		}
		return zeroIn(v.Index(0))
	default:
		for i := range v.NumField() {
			if path := zeroIn(v.Field(i)); path != "" {
				return "." + v.Type().Field(i).Name + path
			}
		}
	}
	return ""
}

type codec[T any] interface {
	Encode(value T) ([]byte, error)
	Decode(payload string) (T, error)
}

func back[T any](t *testing.T, c codec[T], view T) {
	t.Helper()
	payload, err := c.Encode(view)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Decode(string(payload))
	if room, ok := any(&got).(*talk.RoomView); ok && err == nil {
		if wire, _ := proto.Marshal(wireView(*room)); !bytes.Equal(room.Memo.Spelt(inBinary), wire) {
			t.Fatalf("the reply that is kept is %q, want %q", room.Memo.Spelt(inBinary), wire)
		}
		room.Memo = new(talk.Memo)
	}
	if err != nil || !reflect.DeepEqual(got, view) {
		t.Fatalf("%v\n got %+v\nwant %+v", err, got, view)
	}
}

// The public message lies whole at the end of what is cached.
func TestRoomCodecHoldsTheReply(t *testing.T) {
	t.Parallel()
	view := dice{rand.New(rand.NewPCG(3, 4))}.room()
	payload, err := RoomCodec.Encode(view)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := proto.Marshal(wireView(view))
	if !bytes.HasSuffix(payload, want) {
		t.Error("the reply is not there as it is sent")
	}
}

func TestCodecsRefuse(t *testing.T) {
	t.Parallel()
	room, _ := RoomCodec.Encode(talk.RoomView{Room: talk.Room{Name: "n"}, Participants: make([]talk.Participant, 2)})
	user, _ := UserCodec.Encode(talk.UserView{RoomID: "r"})
	message, _ := proto.Marshal(&freev1.GetRoomResponse{})
	for name, payload := range map[string][]byte{
		"nothing":               nil,
		"another format":        append([]byte{codecFormat + 1}, room[1:]...),
		"no length":             {codecFormat},
		"a length without end":  {codecFormat, 0xff, 0xff},
		"extras that are short": {codecFormat, 9, 1},
		"no extras":             append([]byte{codecFormat, 0}, message...),
		"extras left over":      append([]byte{codecFormat, 2, 0, 0}, message...),
		"another message":       append([]byte{codecFormat, 1, 0}, "not a message"...),
		"half of a room":        room[:len(room)/2],
	} {
		if view, err := RoomCodec.Decode(string(payload)); !errors.Is(err, errCodec) {
			t.Errorf("%s: room %+v, %v", name, view, err)
		}
		if name == "half of a room" {
			payload = user[:2]
		}
		if view, err := UserCodec.Decode(string(payload)); !errors.Is(err, errCodec) {
			t.Errorf("%s: user %+v, %v", name, view, err)
		}
	}
	if _, err := RoomCodec.Encode(talk.RoomView{Room: talk.Room{Name: "\xff"}}); err == nil {
		t.Error("what is not UTF-8 was written")
	}
}

// Whatever lies in a cache, reading it does not panic.
func FuzzRoomCodec(f *testing.F) {
	d := dice{rand.New(rand.NewPCG(5, 6))}
	for range 8 {
		payload, _ := RoomCodec.Encode(d.room())
		f.Add(payload)
	}
	f.Add([]byte{codecFormat, 1})
	f.Fuzz(func(t *testing.T, payload []byte) {
		view, err := RoomCodec.Decode(string(payload))
		if err != nil {
			return
		}
		if _, err := RoomCodec.Encode(view); err != nil {
			t.Fatalf("%+v was read and cannot be written: %v", view, err)
		}
	})
}

// BenchmarkRoomCodec reads a room with four people, as a hit in Redis does.
func BenchmarkRoomCodec(b *testing.B) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	who := talk.UserSummary{ID: "01a20543-74d4-7ee7-b190-4e547e354f38", Username: "person-0", DisplayName: "Person 0"}
	view := talk.RoomView{Room: talk.Room{
		ID: "01a20543-7a88-715b-b71f-2d02a3eef732", Slug: "room-0-aaaaaaaa", Name: "A room to talk in", Topic: "What one would do with a year off",
		Languages: []string{"es-mx", "en"}, Level: talk.LevelBeginner, Capacity: 12, ParticipantCount: 4, Owner: who, Version: 4, CreatedAt: at, UpdatedAt: at,
	}}
	for range 4 {
		view.Participants = append(view.Participants, talk.Participant{User: who, State: talk.Connected, StateSince: at, JoinedAt: at})
	}
	payload, err := RoomCodec.Encode(view)
	if err != nil {
		b.Fatal(err)
	}
	entry := string(payload)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := RoomCodec.Decode(entry); err != nil {
			b.Fatal(err)
		}
	}
}

package server

import (
	"context"
	"io"
	"unsafe"

	"google.golang.org/protobuf/proto"

	"github.com/free2talk/free2talk/server/talk"
)

// spelling is a reply that is spelled out already, in pieces. They are shared,
// and never changed: codecs copy them into what is sent.
type spelling [][]byte

// writeTo writes all pieces.
func (s spelling) writeTo(dst io.Writer) error {
	for _, piece := range s {
		if _, err := dst.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

// The places of a memo.
const (
	inBinary = iota
	inJSON
)

func placeOf(json bool) int {
	if json {
		return inJSON
	}
	return inBinary
}

// spelt reports whether the reply of this call is spelled out: as it stands in
// the view's memo, or as it is made now and stands there for the next. Then the
// handler's own message is not read. Where it stands there in binary, its JSON is
// made of that, by the plan of such messages. Where views are not shared, or
// nobody spells, there is none.
func spelt(ctx context.Context, memo *talk.Memo, like *plan, message func() proto.Message) bool {
	q := requestFrom(ctx)
	if memo == nil || !q.spells {
		return false
	}
	json := codecOf(ctx)
	body, err := spellOnce(memo, placeOf(json), func() ([]byte, error) {
		if wire := memo.Spelt(inBinary); json && wire != nil {
			if text, ok := like.json(wire); ok {
				return text, nil
			}
		}
		return spell(message(), json)
	})
	if err != nil {
		return false
	}
	q.reply = append(q.whole[:0], body)
	return true
}

// spellOnce returns what stands in a memo, and first puts it there.
func spellOnce(memo *talk.Memo, place int, body func() ([]byte, error)) ([]byte, error) {
	if kept := memo.Spelt(place); kept != nil {
		return kept, nil
	}
	fresh, err := body()
	if err == nil {
		memo.Keep(place, fresh)
	}
	return fresh, err
}

// writeSpelt writes the reply that a handler left for its codec, if it did.
func writeSpelt(ctx context.Context, dst io.Writer) (done bool, err error) {
	q, ok := ctx.Value(requestKey{}).(*request)
	if !ok || q.reply == nil {
		return false, nil
	}
	return true, q.reply.writeTo(dst)
}

// What values take in memory: their texts, each a piece of its own that is
// rounded up or all of them parts of what Redis had, and once more in each codec.
const (
	pieceMore     = 8
	roomOnWire    = 430 + 130 // of a room without its texts, in both codecs and in Redis
	seatOnWire    = 210 + 45
	profileOnWire = 330 + 90
)

// texts is what texts take in memory and in both codecs.
func texts(all ...string) (size int) {
	for _, s := range all {
		size += 3*len(s) + pieceMore
	}
	return size
}

func summarySize(u *talk.UserSummary) int {
	return texts(string(u.ID), u.Username, u.DisplayName, u.AvatarURL)
}

// Weigh errs upwards: as if the room were spelled in both codecs.
func (roomCodec) Weigh(view talk.RoomView) int {
	size := texts(string(view.ID), view.Slug, view.Name, view.Topic) + texts(view.Languages...) + summarySize(&view.Owner)
	for i := range view.Participants {
		size += summarySize(&view.Participants[i].User)
	}
	seats := len(view.Participants)
	return int(unsafe.Sizeof(view)) + size + roomOnWire + seats*(int(unsafe.Sizeof(talk.Participant{}))+seatOnWire)
}

// Weigh errs upwards: as if the person were spelled in both codecs.
func (userCodec) Weigh(view talk.UserView) int {
	size := texts(string(view.ID), view.Username, view.DisplayName, view.AvatarURL, view.Bio, view.Country, string(view.RoomID)) +
		texts(view.NativeLanguages...) + texts(view.LearningLanguages...)
	return int(unsafe.Sizeof(view)) + size + profileOnWire
}

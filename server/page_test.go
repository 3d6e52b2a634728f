package server

import (
	"encoding/base64"
	"errors"
	"hash/crc32"
	"math"
	"testing"

	"encoding/binary"

	"github.com/free2talk/free2talk/server/talk"
)

var (
	spanish = talk.RoomQuery{Language: "es", Level: talk.LevelBeginner, Text: "tapas", Order: talk.Popular, Size: 20}
	someway = &talk.RoomMark{Count: 7, ID: "0199b1f0-7c00-7000-8000-0123456789ab"}
)

// Checklist 53: page_size -1 is refused by validation; the others are here.
func TestPageSize(t *testing.T) {
	t.Parallel()
	for n, want := range map[int32]int{0: 20, 1: 1, 100: 100, 101: 100, math.MaxInt32: 100} {
		if got := pageSize(n); got != want {
			t.Errorf("%d gives %d, want %d", n, got, want)
		}
	}
}

func TestRoomToken(t *testing.T) {
	t.Parallel()
	t.Run("comes back as the place it was made of", func(t *testing.T) {
		t.Parallel()
		for _, mark := range []*talk.RoomMark{
			nil, someway, {Count: 0, ID: someway.ID}, {Count: math.MaxInt32, ID: someway.ID},
		} {
			back, err := roomMark(spanish, roomToken(spanish, mark))
			if err != nil || (mark == nil) != (back == nil) || mark != nil && *back != *mark {
				t.Errorf("%+v came back as %+v, %v", mark, back, err)
			}
		}
	})
	t.Run("is good for a page of another size", func(t *testing.T) {
		t.Parallel()
		other := spanish
		other.Size = 50
		if _, err := roomMark(other, roomToken(spanish, someway)); err != nil {
			t.Error(err)
		}
	})
}

// Checklist 53: random, truncated, bit-flipped, another filter's, another
// version's page token is BAD_PAGE_TOKEN.
func TestRoomTokenRefuses(t *testing.T) {
	t.Parallel()
	good := roomToken(spanish, someway)
	refused := func(t *testing.T, what string, q talk.RoomQuery, token string) {
		t.Helper()
		if mark, err := roomMark(q, token); !errors.Is(err, talk.ErrBadPageToken) {
			t.Errorf("%s: %+v, %v", what, mark, err)
		}
	}
	t.Run("what is cut short or drawn out", func(t *testing.T) {
		t.Parallel()
		for i := 1; i < len(good); i++ {
			refused(t, "cut", spanish, good[:i])
			refused(t, "beheaded", spanish, good[i:])
		}
		for _, more := range []string{"A", "AAAA", "=", "\n", " ", good} {
			refused(t, "longer", spanish, good+more)
			refused(t, "longer", spanish, more+good)
		}
		refused(t, "a newline inside", spanish, good[:9]+"\n"+good[9:])
	})
	t.Run("every flipped bit", func(t *testing.T) {
		t.Parallel()
		raw, _ := base64.RawURLEncoding.DecodeString(good)
		for i := range raw {
			for bit := range 8 {
				raw[i] ^= 1 << bit
				refused(t, "flipped", spanish, base64.RawURLEncoding.EncodeToString(raw))
				raw[i] ^= 1 << bit
			}
		}
	})
	t.Run("every other character", func(t *testing.T) {
		t.Parallel()
		for i := range good {
			for c := range 128 {
				if changed := good[:i] + string(rune(c)) + good[i+1:]; changed != good {
					refused(t, "changed", spanish, changed)
				}
			}
		}
	})
	t.Run("another filter's and another order's", func(t *testing.T) {
		t.Parallel()
		for _, other := range []talk.RoomQuery{
			{},
			{Language: "de", Level: spanish.Level, Text: spanish.Text, Order: spanish.Order},
			{Language: spanish.Language, Level: talk.LevelAny, Text: spanish.Text, Order: spanish.Order},
			{Language: spanish.Language, Level: spanish.Level, Text: "tapa", Order: spanish.Order},
			{Language: spanish.Language, Level: spanish.Level, Text: spanish.Text, Order: talk.Newest},
			{Language: "es2", Level: spanish.Level, Text: "apas", Order: spanish.Order}, // the same letters
		} {
			refused(t, "another list", other, good)
		}
	})
	t.Run("another version's", func(t *testing.T) {
		t.Parallel()
		raw, _ := base64.RawURLEncoding.DecodeString(good)
		raw[0]++
		refused(t, "version", spanish, base64.RawURLEncoding.EncodeToString(summed(raw[:len(raw)-pageCheckLen])))
	})
	t.Run("a place that is none, under a right checksum", func(t *testing.T) {
		t.Parallel()
		for _, place := range []string{"", "\x00", "\x00\x00\x00\x01", "\x00\x00\x00\x01not-a-uuid", "\x00\x00\x00\x01" + string(someway.ID) + "x"} {
			refused(t, "place", spanish, sealPage(roomList(spanish), []byte(place)))
		}
	})
	t.Run("a long one, without decoding it", func(t *testing.T) {
		t.Parallel()
		refused(t, "long", spanish, sealPage(roomList(spanish), make([]byte, 1<<20)))
	})
}

func summed(raw []byte) []byte { return binary.BigEndian.AppendUint32(raw, crc32.ChecksumIEEE(raw)) }

// Whatever is sent, it is refused or it is the one spelling of a place.
func FuzzRoomMark(f *testing.F) {
	f.Add("es", "tapas", roomToken(spanish, someway))
	f.Add("", "", roomToken(talk.RoomQuery{Order: talk.Newest}, someway))
	f.Add("es", "", "AQ")
	f.Add("", "", "=")
	f.Add("", "", "....")
	f.Add("", "ñ", sealPage([]string{"rooms"}, nil))
	f.Fuzz(func(t *testing.T, language, text, token string) {
		q := talk.RoomQuery{Language: language, Level: talk.LevelBeginner, Text: text, Order: talk.Popular}
		mark, err := roomMark(q, token)
		switch {
		case err != nil && !errors.Is(err, talk.ErrBadPageToken):
			t.Fatalf("refused with %v", err)
		case err == nil && roomToken(q, mark) != token:
			t.Fatalf("%q is another spelling of %q", token, roomToken(q, mark))
		}
	})
}

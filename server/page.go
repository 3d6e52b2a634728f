package server

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/free2talk/free2talk/server/talk"
)

// A page token is where the next page of a list begins. It is opaque to
// clients, and it is no secret: whoever makes one up asks for a page that they
// could have asked for anyway. Its bytes, in base64url without padding:
//
//	version 1 | list 8 | place … | checksum 4
//
// list is a hash of what was asked for, all but the size of the page; place is
// that list's own business; the checksum is over all before it.
const (
	pageVersion  = 1
	pageListLen  = 8
	pageHeadLen  = 1 + pageListLen
	pageCheckLen = 4
	pageCountLen = 4   // of a place among rooms: participants, then the id
	pageMost     = 256 // characters of a token that are looked at
)

// Sizes of a page.
const (
	pageSizeDefault = 20
	pageSizeMost    = 100
)

// pageSize is how much a page holds where n was asked for. Validation has
// refused what is negative.
func pageSize(n int32) int {
	if n == 0 {
		return pageSizeDefault
	}
	return int(min(n, pageSizeMost))
}

var pageEncoding = base64.RawURLEncoding

// sealPage makes the token of a place in a list. The list is its name and its
// filters; the parts keep their bounds, so no two lists are spelled alike.
func sealPage(list []string, place []byte) string {
	raw := make([]byte, 0, pageHeadLen+len(place)+pageCheckLen)
	raw = append(raw, pageVersion)
	raw = append(raw, pageList(list)...)
	raw = append(raw, place...)
	return pageEncoding.EncodeToString(binary.BigEndian.AppendUint32(raw, crc32.ChecksumIEEE(raw)))
}

func pageList(list []string) []byte {
	h := sha256.New()
	for _, part := range list {
		h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	return h.Sum(nil)[:pageListLen]
}

// openPage returns the place that a token of that list names. A token is good
// where its place, sealed again, gives the same token: so version, list and
// checksum are one comparison, and a place has one spelling.
func openPage(token string, list []string) ([]byte, error) {
	if len(token) > pageMost {
		return nil, talk.ErrBadPageToken
	}
	raw, err := pageEncoding.DecodeString(token)
	if err != nil || len(raw) < pageHeadLen+pageCheckLen {
		return nil, talk.ErrBadPageToken
	}
	place := raw[pageHeadLen : len(raw)-pageCheckLen]
	if sealPage(list, place) != token {
		return nil, talk.ErrBadPageToken
	}
	return place, nil
}

// roomList is what of q a token is bound to: all but the size.
func roomList(q talk.RoomQuery) []string {
	return []string{"rooms", q.Language, strconv.Itoa(int(q.Level)), strings.ToLower(q.Text), strconv.Itoa(int(q.Order))}
}

// roomToken is the token of the page after mark, or "" where there is none.
func roomToken(q talk.RoomQuery, mark *talk.RoomMark) string {
	if mark == nil {
		return ""
	}
	place := binary.BigEndian.AppendUint32(nil, uint32(mark.Count))
	return sealPage(roomList(q), append(place, mark.ID...))
}

// roomMark is the way back from [roomToken]: nil for the first page.
func roomMark(q talk.RoomQuery, token string) (*talk.RoomMark, error) {
	if token == "" {
		return nil, nil //nolint:nilnil // no token is the first page, and no mark says so
	}
	place, err := openPage(token, roomList(q))
	if err != nil {
		return nil, err
	}
	if len(place) < pageCountLen {
		return nil, talk.ErrBadPageToken
	}
	id, err := talk.ParseRoomID(string(place[pageCountLen:]))
	if err != nil {
		return nil, talk.ErrBadPageToken
	}
	return &talk.RoomMark{Count: int(binary.BigEndian.Uint32(place)), ID: id}, nil
}

package server

import (
	"context"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// speltPage reports whether the page is spelled out: each room as it stands in
// its memo, and around them what is this page's own.
func speltPage(ctx context.Context, query talk.RoomQuery, page *talk.RoomPage) bool {
	q := requestFrom(ctx)
	if len(page.Memos) != len(page.Rooms) || len(page.Rooms) == 0 || !q.spells {
		return false
	}
	rooms := make([][]byte, 0, len(page.Rooms)+1)
	json := codecOf(ctx)
	for i := range page.Rooms {
		item, err := spellOnce(page.Memos[i], placeOf(json), func() ([]byte, error) { return spellItem(&page.Rooms[i], json) })
		if err != nil {
			return false
		}
		rooms = append(rooms, item)
	}
	token := roomToken(query, page.Next)
	if json {
		q.reply = jsonPage(rooms, token, page.Total)
		return true
	}
	rest, err := proto.Marshal(&freev1.ListRoomsResponse{NextPageToken: token, TotalSize: int32(page.Total)})
	rooms = append(rooms, rest)
	q.reply = rooms
	return err == nil
}

// listRoomsField is the number that the rooms have in the page's message.
const listRoomsField = 1

// spellItem spells a room as it stands in a page: in protobuf with the head of
// its field, so that pages are made by putting pieces side by side.
func spellItem(room *talk.Room, json bool) ([]byte, error) {
	body, err := spell(wireRoom(*room), json)
	if err != nil || json {
		return body, err
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, listRoomsField, protowire.BytesType), body), nil
}

var (
	jsonRoomsBegin = []byte(`{"rooms":[`)
	jsonComma      = []byte(`,`)
)

// jsonPage leaves out what is empty, as protojson does. A token is base64url.
func jsonPage(rooms [][]byte, token string, total int) spelling {
	page := make(spelling, 0, 2*len(rooms)+1)
	for i, room := range rooms {
		before := jsonComma
		if i == 0 {
			before = jsonRoomsBegin
		}
		page = append(page, before, room)
	}
	rest := []byte(`]`)
	if token != "" {
		rest = append(append(append(rest, `,"nextPageToken":"`...), token...), '"')
	}
	if total != 0 {
		rest = strconv.AppendInt(append(rest, `,"totalSize":`...), int64(total), 10)
	}
	return append(page, append(rest, '}'))
}

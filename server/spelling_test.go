package server

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/http"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// spelledBy runs f in a call whose codec sees what it spells, and decodes it.
func spelledBy(t *testing.T, json bool, into proto.Message, f func(c *connect.Server, q *request)) {
	t.Helper()
	q := &request{spells: true}
	srv := connect.NewServer()
	f(srv, q)
	info := &connect.CallInfo{Codec: connect.CodecNameProto}
	unmarshal := proto.Unmarshal
	if json {
		info.Codec, unmarshal = connect.CodecNameJSON, protojson.Unmarshal
	}
	if err := srv.Call(withRequest(t.Context(), q), "/spell", info, nil); err != nil {
		t.Fatal(err)
	}
	var body bytes.Buffer
	if err := q.reply.writeTo(&body); err != nil {
		t.Fatal(err)
	}
	if err := unmarshal(body.Bytes(), into); err != nil {
		t.Fatalf("%v: %s", err, body.Bytes())
	}
}

// What is spelled out says the same as the message, in both codecs, the first
// time and from the memo.
func TestSpellings(t *testing.T) {
	t.Parallel()
	d := dice{rand.New(rand.NewPCG(5, 6))}
	for _, json := range []bool{false, true} {
		for range 50 {
			spellsView(t, d.room(), json)
			page := talk.RoomPage{Total: d.IntN(1000)}
			for range 1 + d.IntN(20) {
				page.Rooms, page.Memos = append(page.Rooms, d.room().Room), append(page.Memos, new(talk.Memo))
			}
			if d.IntN(2) == 0 {
				page.Next = &talk.RoomMark{Count: 3, ID: talk.RoomID(talk.NewID())}
			}
			spellsPage(t, page, json)
		}
	}
}

func spellsView(t *testing.T, view talk.RoomView, json bool) {
	t.Helper()
	for range 2 {
		got := &freev1.GetRoomResponse{}
		spelledBy(t, json, got, func(srv *connect.Server, _ *request) {
			srv.Register(connect.Method{Spec: connect.Spec{Procedure: "/spell"}, Handler: func(ctx context.Context, _ connect.Spec, _ connect.ServerStream) error {
				if !spelt(ctx, view.Memo, getRoomPlan, func() proto.Message { return wireView(view) }) {
					t.Error("not spelled")
				}
				return nil
			}})
		})
		if !proto.Equal(got, wireView(view)) {
			t.Fatalf("got %v, want %v", got, wireView(view))
		}
	}
}

func spellsPage(t *testing.T, page talk.RoomPage, json bool) {
	t.Helper()
	query := talk.RoomQuery{Order: talk.Popular, Size: 20}
	for range 2 {
		got := &freev1.ListRoomsResponse{}
		spelledBy(t, json, got, func(srv *connect.Server, _ *request) {
			srv.Register(connect.Method{Spec: connect.Spec{Procedure: "/spell"}, Handler: func(ctx context.Context, _ connect.Spec, _ connect.ServerStream) error {
				if !speltPage(ctx, query, &page) {
					t.Error("not spelled")
				}
				return nil
			}})
		})
		if want := wirePage(query, page); !proto.Equal(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
}

// A plain call and one that goes by Connect's transport are answered alike, also
// where the same was asked before. How a question may be compressed is said by a
// plain call with errors alone.
func TestPlainCallsAreAnsweredAlike(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	for name, body := range map[string]string{"good": `{"id":"` + aRoomID + `"}`, "not a UUID": `{"id":"x"}`, "cut short": `{"id":`, "nothing": ""} {
		for range 4 {
			plain := e.do(http.MethodPost, getRoomPath, bytes.NewReader([]byte(body)), "Content-Type: application/json")
			other := e.do(http.MethodPost, getRoomPath, bytes.NewReader([]byte(body)), "Content-Type: application/json; charset=utf-8")
			if plain.status != other.status || plain.body != other.body {
				t.Errorf("%s: %d %s, and by the transport %d %s", name, plain.status, plain.body, other.status, other.body)
			}
			for header := range other.header {
				if len(plain.header[header]) == 0 && (header != "Accept-Encoding" || plain.status != http.StatusOK) {
					t.Errorf("%s: no %s", name, header)
				}
			}
		}
	}
}

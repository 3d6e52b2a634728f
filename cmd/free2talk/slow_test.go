package main

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server"
	"github.com/free2talk/free2talk/server/talk"
)

// E2: somebody who never reads is ended, and the others hear everything
// meanwhile.
func TestE2_who_never_reads_is_ended_alone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onPostgres, 1)
	n := w.nodes[0]
	ada, eve := w.person(), w.person()
	room := w.room(ada, 3)
	deaf := openDeaf(t, n, eve, room.GetId())
	defer deaf.Close()
	heard := watch(t.Context(), t, w.as(n, ada), room.GetId(), "")
	heard.await(t, "snapshot", isSnapshot)
	w.eventually(10*time.Second, "two streams are open", func() bool { return w.measured(n, "free2talk_streams") == 2 })
	now, err := n.store.LiveRoom(t.Context(), talkRoom(room.GetId()))
	if err != nil {
		t.Fatal(err)
	}
	said := talk.MessagePosted{Text: strings.Repeat("x", 2000), Audience: []talk.UserID{ada.ID, eve.ID}}
	sent := 0
	for range 100 { // 20 MB: more than sockets and queues hold
		for range 100 {
			sent++
			n.hub.Offer(talk.Event{Topic: talk.RoomTopic(now.ID), Seq: now.Seq + int64(sent), At: time.Now(), Fact: said})
		}
		heard.await(t, "everything", func(events []*free2talkv1.WatchRoomResponse) bool { return len(events) == sent+1 })
	}
	w.eventually(30*time.Second, "who never reads is ended", func() bool { return w.measured(n, "free2talk_streams") == 1 })
	ordered(t, heard.events)
}

// openDeaf opens a stream of a room and reads nothing of it.
func openDeaf(t *testing.T, n *testNode, p *person, room string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(n.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	message := fmt.Sprintf(`{"roomId":%q}`, room)
	_, err = fmt.Fprintf(conn, "POST /free2talk.v1.RoomService/WatchRoom HTTP/1.1\r\nHost: test\r\nContent-Type: application/connect+json\r\n"+
		"Authorization: Bearer %s\r\nContent-Length: %d\r\n\r\n\x00\x00\x00\x00%c%s", p.grant.AccessToken, len(message)+5, len(message), message)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// D2: after many streams were open and have closed, nothing of them is left:
// no goroutine, no connection counted, no key that a person needs. `make
// faults` has ten thousand.
func TestD2_nothing_is_left_of_streams(t *testing.T) {
	w := newWorld(t, onPostgres, 1, withGrace(time.Second), func(s *Settings) { s.Streams = server.StreamLimits{Address: 20_000, User: 20_000, Session: 20_000} })
	n := w.nodes[0]
	ada := w.person()
	c := w.clientBy(n, protocols[2], client.WithTokens(tokensOf(ada.grant)))
	round := func(streams int) {
		ctx, hangUp := context.WithCancel(t.Context())
		for range streams {
			stream, err := c.Presence.Connect(ctx, &free2talkv1.ConnectRequest{})
			if err == nil {
				_, err = stream.Receive()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		w.eventually(10*time.Second, "all are counted", func() bool { return w.measured(n, "free2talk_connections") == float64(streams) })
		hangUp()
		w.eventually(20*time.Second, "none is counted", func() bool {
			return w.measured(n, "free2talk_streams") == 0 && w.measured(n, "free2talk_connections") == 0 && w.measured(n, "free2talk_topics") == 0
		})
	}
	round(10) // what is made once is made
	before := runtime.NumGoroutine()
	round(testenv.Effort(500, 10_000))
	w.eventually(20*time.Second, fmt.Sprintf("goroutines are as many as before, %d", before), func() bool {
		return runtime.NumGoroutine() <= before+10
	})
	w.eventually(20*time.Second, "nobody is online", func() bool {
		reply, err := c.Presence.CountOnline(t.Context(), &free2talkv1.CountOnlineRequest{})
		return err == nil && reply.GetCount() == 0
	})
}

// Streams are limited by session, and the limit says so.
func TestTooManyStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onEmbedded, 1, func(s *Settings) { s.Streams = server.StreamLimits{Session: 3} })
	ada := w.person()
	for i := range 4 {
		stream, err := w.as(w.nodes[0], ada).Presence.Connect(t.Context(), &free2talkv1.ConnectRequest{})
		if err == nil {
			_, err = stream.Receive()
		}
		if i < 3 && err != nil {
			t.Fatal(err)
		}
		if i == 3 && (connect.CodeOf(err) != connect.CodeResourceExhausted || client.Reason(err) != client.ReasonTooManyStreams) {
			t.Errorf("the fourth: %v", err)
		}
	}
}

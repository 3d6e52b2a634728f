package main

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// placesOf decodes the seqs of a cursor: the room's of a room's stream; the
// user's and the room's of a personal one.
func placesOf(cursor string) (kind byte, seqs []uint64, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || len(raw) < 14 {
		return 0, nil, fmt.Errorf("cursor %q: %w", cursor, err)
	}
	kind, place := raw[1], raw[10:len(raw)-4]
	for len(place) > 16 {
		seq, n := binary.Uvarint(place[16:])
		if n <= 0 {
			return kind, seqs, errors.New("cursor: no seq")
		}
		seqs, place = append(seqs, seq), place[16+n:]
	}
	return kind, seqs, nil
}

// recording is what somebody heard of a room, and the state that they made of it.
type recording struct {
	mu      sync.Mutex
	arrived chan struct{} // closed and made anew with each message
	events  []*free2talkv1.WatchRoomResponse
	err     error // how the stream ended
	ended   bool
}

func newRecording() *recording { return &recording{arrived: make(chan struct{})} }

func (r *recording) add(res *free2talkv1.WatchRoomResponse, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.err, r.ended = err, true
	} else {
		r.events = append(r.events, res)
	}
	close(r.arrived)
	r.arrived = make(chan struct{})
}

// await returns once found is true of the events so far, or fails.
func (r *recording) await(t *testing.T, what string, found func(events []*free2talkv1.WatchRoomResponse) bool) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		events, arrived, ended, err := r.events, r.arrived, r.ended, r.err
		r.mu.Unlock()
		if found(events) {
			return
		}
		if ended {
			t.Fatalf("%s: the stream ended (%v) after %v", what, err, events)
		}
		select {
		case <-arrived:
		case <-late:
			t.Fatalf("%s: not heard among %v", what, events)
		}
	}
}

// end returns how the stream ended: nil where it did without an error.
func (r *recording) end(t *testing.T) error {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		arrived, ended, err := r.arrived, r.ended, r.err
		r.mu.Unlock()
		if ended {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		select {
		case <-arrived:
		case <-late:
			t.Fatal("the stream did not end")
		}
	}
}

// watch records the stream of a room until ctx ends.
func watch(ctx context.Context, t *testing.T, c *client.Client, room, cursor string) *recording {
	t.Helper()
	r := newRecording()
	stream, err := c.Rooms.WatchRoom(ctx, &free2talkv1.WatchRoomRequest{RoomId: room, Cursor: cursor})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer stream.Close()
		for {
			res, err := stream.Receive()
			r.add(res, err)
			if err != nil {
				return
			}
		}
	}()
	return r
}

func isSnapshot(events []*free2talkv1.WatchRoomResponse) bool {
	return len(events) > 0 && events[0].GetSnapshot() != nil
}

func TestWatchRoom(t *testing.T) {
	t.Parallel()
	for _, b := range []backend{onEmbedded, onPostgres, onCluster, onSentinel} {
		t.Run(b.name, func(t *testing.T) {
			w := newWorld(t, b, 2)
			for _, p := range protocols {
				t.Run(p.name, func(t *testing.T) { watchRoom(t, w, p) })
			}
		})
	}
}

// watchRoom has somebody on one node hear what others do on another, breaks
// off, and goes on from the cursor.
func watchRoom(t *testing.T, w *world, p protocol) {
	ada, bob, eve := w.person(), w.person(), w.person()
	room := w.room(ada, 5)
	near, far := w.nodes[0], w.nodes[len(w.nodes)-1]
	watcher := w.clientBy(far, p, client.WithTokens(tokensOf(eve.grant)))
	ctx, hangUp := context.WithCancel(t.Context())
	defer hangUp()
	heard := watch(ctx, t, watcher, room.GetId(), "")
	heard.await(t, "snapshot", isSnapshot)
	actor := w.as(near, bob)
	join(t, actor, room.GetId())
	heard.await(t, "joined", func(events []*free2talkv1.WatchRoomResponse) bool {
		return events[len(events)-1].GetParticipantJoined().GetParticipant().GetUser().GetId() == bob.id()
	})
	cursor := heard.events[len(heard.events)-1].GetCursor()
	hangUp()
	if _, err := actor.Rooms.SendMessage(t.Context(), &free2talkv1.SendMessageRequest{RoomId: room.GetId(), Text: "hola"}); err != nil {
		t.Fatal(err)
	}
	if _, err := actor.Rooms.LeaveRoom(t.Context(), &free2talkv1.LeaveRoomRequest{RoomId: room.GetId()}); err != nil {
		t.Fatal(err)
	}
	again := watch(t.Context(), t, watcher, room.GetId(), cursor)
	again.await(t, "resumed, and what was missed", func(events []*free2talkv1.WatchRoomResponse) bool {
		return len(events) == 2 && events[0].GetResumed().GetReplayed() == 1 && events[1].GetParticipantLeft().GetUserId() == bob.id()
	})
	if _, err := w.as(near, ada).Rooms.CloseRoom(t.Context(), &free2talkv1.CloseRoomRequest{RoomId: room.GetId()}); err != nil {
		t.Fatal(err)
	}
	if err := again.end(t); err != nil {
		t.Errorf("a closed room ends with %v", err)
	}
	if last := again.events[len(again.events)-1]; last.GetRoomClosed().GetReason() != free2talkv1.CloseReason_CLOSE_REASON_BY_OWNER {
		t.Errorf("the last event is %v", last)
	}
	ordered(t, again.events)
}

// ordered is E1: seq strictly rises along a stream, and versions never fall.
func ordered(t *testing.T, events []*free2talkv1.WatchRoomResponse) {
	t.Helper()
	var last uint64
	for i, e := range events {
		if e.GetHeartbeat() != nil || e.GetGoAway() != nil || e.GetCursor() == "" {
			continue
		}
		_, seqs, err := placesOf(e.GetCursor())
		if err != nil || len(seqs) != 1 {
			t.Fatalf("event %d: cursor %q: %v", i, e.GetCursor(), err)
		}
		if i > 0 && seqs[0] <= last {
			t.Errorf("event %d has seq %d after %d", i, seqs[0], last)
		}
		last = seqs[0]
	}
}

func join(t *testing.T, c *client.Client, room string) {
	t.Helper()
	if _, err := c.Rooms.JoinRoom(t.Context(), &free2talkv1.JoinRoomRequest{RoomId: room}); err != nil {
		t.Fatal(err)
	}
}

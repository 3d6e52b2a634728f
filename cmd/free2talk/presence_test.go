package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// hearing is what came by a stream, as one line each.
type hearing struct {
	t       *testing.T
	mu      sync.Mutex
	arrived chan struct{}
	lines   []string
	err     error
	ended   bool
}

func newHearing(t *testing.T) *hearing { return &hearing{t: t, arrived: make(chan struct{})} }

func (h *hearing) add(line string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.err, h.ended = err, true
	} else if line != "" {
		h.lines = append(h.lines, line)
	}
	close(h.arrived)
	h.arrived = make(chan struct{})
}

// all is what was heard so far.
func (h *hearing) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]string(nil), h.lines...)
}

// begins waits for the first line, and reports whether there was one.
func (h *hearing) begins() bool {
	for {
		h.mu.Lock()
		said, ended, arrived := len(h.lines) > 0, h.ended, h.arrived
		h.mu.Unlock()
		if said || ended {
			return said
		}
		<-arrived
	}
}

// await returns once line was heard, after the first from lines.
func (h *hearing) await(within time.Duration, from int, line string) int {
	h.t.Helper()
	late := time.After(within)
	for {
		h.mu.Lock()
		lines, arrived, ended, err := h.lines, h.arrived, h.ended, h.err
		h.mu.Unlock()
		for i := from; i < len(lines); i++ {
			if lines[i] == line {
				return i + 1
			}
		}
		if ended {
			h.t.Fatalf("%q: the stream ended (%v) after %q", line, err, lines)
		}
		select {
		case <-arrived:
		case <-late:
			h.t.Fatalf("%q: not within %v among %q", line, within, lines)
		}
	}
}

// finished returns how the stream ended.
func (h *hearing) finished(within time.Duration) error {
	h.t.Helper()
	late := time.After(within)
	for {
		h.mu.Lock()
		arrived, ended, err := h.arrived, h.ended, h.err
		h.mu.Unlock()
		if ended {
			return err
		}
		select {
		case <-arrived:
		case <-late:
			h.t.Fatalf("the stream did not end within %v: %q", within, h.all())
		}
	}
}

// names spells ids as people and rooms are called in a test.
type names struct {
	mu    sync.Mutex
	known map[string]string
}

func called(pairs ...string) *names {
	n := &names{known: map[string]string{}}
	for i := 0; i < len(pairs); i += 2 {
		n.call(pairs[i], pairs[i+1])
	}
	return n
}

func (n *names) call(id, name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known[id] = name
}

func (n *names) of(id string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if name, ok := n.known[id]; ok {
		return name
	}
	return id
}

func spellPresence(n *names, p *free2talkv1.Presence) string {
	state := "offline"
	if p.GetOnline() {
		state = "online"
	}
	if p.GetRoomId() != "" {
		state += " in " + n.of(p.GetRoomId())
	}
	if p.GetStale() {
		state += " (stale)"
	}
	return n.of(p.GetUserId()) + " " + state
}

// watchPresence hears of people until ctx ends; the snapshot is one line each. On
// a machine that starves a node is not certain for a moment, and its snapshot
// says so: that is not told.
func watchPresence(ctx context.Context, t *testing.T, c *client.Client, n *names, ids ...string) *hearing {
	t.Helper()
	h := newHearing(t)
	stream, err := c.Presence.WatchPresence(ctx, &free2talkv1.WatchPresenceRequest{UserIds: ids})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer stream.Close()
		for {
			res, err := stream.Receive()
			for _, p := range res.GetSnapshot().GetPresences() {
				h.add("is "+strings.TrimSuffix(spellPresence(n, p), " (stale)"), nil)
			}
			line := ""
			switch {
			case res.GetPresenceChanged() != nil:
				line = spellPresence(n, res.GetPresenceChanged().GetPresence())
			case res.GetGoAway() != nil:
				line = "go away"
			}
			h.add(line, err)
			if err != nil {
				return
			}
		}
	}()
	return h
}

// connectAs opens somebody's own stream until ctx ends.
func connectAs(ctx context.Context, t *testing.T, c *client.Client, n *names) *hearing {
	t.Helper()
	h := newHearing(t)
	stream, err := c.Presence.Connect(ctx, &free2talkv1.ConnectRequest{})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer stream.Close()
		for {
			res, err := stream.Receive()
			h.add(spellPersonal(n, res), err)
			if err != nil {
				return
			}
		}
	}()
	return h
}

func spellPersonal(n *names, res *free2talkv1.ConnectResponse) string {
	switch e := res.GetEvent().(type) {
	case *free2talkv1.ConnectResponse_Snapshot:
		line := "snapshot"
		if e.Snapshot.GetReason() == free2talkv1.SnapshotReason_SNAPSHOT_REASON_ROOM_CHANGED {
			line = "room changed"
		}
		if e.Snapshot.GetRoom() != nil {
			line += " " + n.of(e.Snapshot.GetRoom().GetId())
		}
		return line
	case *free2talkv1.ConnectResponse_ParticipantJoined:
		return n.of(e.ParticipantJoined.GetParticipant().GetUser().GetId()) + " joined"
	case *free2talkv1.ConnectResponse_ParticipantLeft:
		return fmt.Sprintf("%s left: %s", n.of(e.ParticipantLeft.GetUserId()), e.ParticipantLeft.GetReason())
	case *free2talkv1.ConnectResponse_ParticipantUpdated:
		p := e.ParticipantUpdated.GetParticipant()
		return fmt.Sprintf("%s is %s", n.of(p.GetUser().GetId()), p.GetState())
	case *free2talkv1.ConnectResponse_OwnerChanged:
		return n.of(e.OwnerChanged.GetUserId()) + " owns"
	case *free2talkv1.ConnectResponse_MessagePosted:
		return n.of(e.MessagePosted.GetSender().GetId()) + " says " + e.MessagePosted.GetText()
	case *free2talkv1.ConnectResponse_Kicked:
		return "kicked from " + n.of(e.Kicked.GetRoomId())
	case *free2talkv1.ConnectResponse_RoomClosed:
		return "closed " + n.of(e.RoomClosed.GetRoomId())
	case *free2talkv1.ConnectResponse_SessionRevoked:
		return "session revoked: " + e.SessionRevoked.GetReason().String()
	case *free2talkv1.ConnectResponse_GoAway:
		return "go away"
	}
	return ""
}

// withGrace sets how long people stay.
func withGrace(d time.Duration) func(*Settings) {
	return func(s *Settings) { s.PresenceGrace = d }
}

func TestPresence(t *testing.T) {
	t.Parallel()
	for _, b := range []backend{onEmbedded, onPostgres, onCluster, onSentinel} {
		t.Run(b.name, func(t *testing.T) {
			w := newWorld(t, b, 2, withGrace(5*time.Second)) // of which half is left when a seat is seen to be held: a machine may starve
			for _, n := range w.nodes {
				w.eventually(20*time.Second, "all nodes have said whom they have", n.presence.Certain)
			}
			t.Run("people come, stay and go", func(t *testing.T) { comeAndGo(t, w) })
			t.Run("a seat is held, given back, inherited", func(t *testing.T) { heldSeats(t, w) })
			t.Run("a personal stream follows its person", func(t *testing.T) { followed(t, w) })
			t.Run("a logout ends it at once", func(t *testing.T) { loggedOut(t, w) })
		})
	}
}

// P2, resolution 4: one of two tabs closes, and nobody hears of it; when the
// last is gone and the grace is over, one event says so.
func comeAndGo(t *testing.T, w *world) {
	ada, eve := w.person(), w.person()
	near, far := w.nodes[0], w.nodes[len(w.nodes)-1]
	n := called(ada.id(), "ada")
	seen := watchPresence(t.Context(), t, w.as(far, eve), n, ada.id())
	seen.await(5*time.Second, 0, "is ada offline")
	first, closeFirst := context.WithCancel(t.Context())
	second, closeSecond := context.WithCancel(t.Context())
	defer closeFirst()
	defer closeSecond()
	connectAs(first, t, w.as(near, ada), n).await(5*time.Second, 0, "snapshot")
	seen.await(5*time.Second, 0, "ada online")
	connectAs(second, t, w.as(far, ada), n).await(5*time.Second, 0, "snapshot")
	closeFirst()
	room := w.room(ada, 3)
	seen.await(5*time.Second, 0, "ada online in "+room.GetId())
	closeSecond()
	seen.await(15*time.Second, 0, "ada offline")
	if lines := seen.all(); len(lines) != 4 {
		t.Errorf("heard %q", lines)
	}
}

// An owner whose connection breaks is shown as reconnecting, keeps the room
// where they come back, and is succeeded where they do not.
func heldSeats(t *testing.T, w *world) {
	ada, bob := w.person(), w.person()
	near, far := w.nodes[0], w.nodes[len(w.nodes)-1]
	n := called(ada.id(), "ada", bob.id(), "bob")
	room := w.room(ada, 3)
	n.call(room.GetId(), "the room")
	join(t, w.as(far, bob), room.GetId())
	bobs := connectAs(t.Context(), t, w.as(far, bob), n)
	bobs.await(5*time.Second, 0, "snapshot the room")
	tab, closeTab := context.WithCancel(t.Context())
	connectAs(tab, t, w.as(near, ada), n).await(5*time.Second, 0, "snapshot the room")
	closeTab()
	at := bobs.await(5*time.Second, 0, "ada is PARTICIPANT_STATE_RECONNECTING")
	tab, closeTab = context.WithCancel(t.Context())
	defer closeTab()
	connectAs(tab, t, w.as(far, ada), n).await(5*time.Second, 0, "snapshot the room")
	at = bobs.await(5*time.Second, at, "ada is PARTICIPANT_STATE_CONNECTED")
	closeTab()
	at = bobs.await(5*time.Second, at, "ada is PARTICIPANT_STATE_RECONNECTING")
	at = bobs.await(15*time.Second, at, "bob owns")
	bobs.await(5*time.Second, at, "ada left: LEAVE_REASON_DISCONNECTED")
}

func followed(t *testing.T, w *world) {
	ada, bob := w.person(), w.person()
	near, far := w.nodes[0], w.nodes[len(w.nodes)-1]
	n := called(ada.id(), "ada", bob.id(), "bob")
	bobs := connectAs(t.Context(), t, w.as(far, bob), n)
	bobs.await(5*time.Second, 0, "snapshot")
	room := w.room(ada, 3)
	n.call(room.GetId(), "the room")
	join(t, w.as(near, bob), room.GetId())
	at := bobs.await(5*time.Second, 0, "room changed the room")
	adas := w.as(near, ada)
	if _, err := adas.Rooms.SendMessage(t.Context(), &free2talkv1.SendMessageRequest{RoomId: room.GetId(), Text: "hola"}); err != nil {
		t.Fatal(err)
	}
	at = bobs.await(5*time.Second, at, "ada says hola")
	if _, err := adas.Rooms.KickUser(t.Context(), &free2talkv1.KickUserRequest{RoomId: room.GetId(), UserId: bob.id()}); err != nil {
		t.Fatal(err)
	}
	bobs.await(5*time.Second, at, "kicked from the room")
	bobs.await(5*time.Second, at, "room changed")
}

func loggedOut(t *testing.T, w *world) {
	ada, eve := w.person(), w.person()
	near, far := w.nodes[0], w.nodes[len(w.nodes)-1]
	n := called(ada.id(), "ada")
	seen := watchPresence(t.Context(), t, w.as(far, eve), n, ada.id())
	adas := w.as(near, ada)
	stream := connectAs(t.Context(), t, w.as(far, ada), n)
	stream.await(5*time.Second, 0, "snapshot")
	seen.await(5*time.Second, 0, "ada online")
	if _, err := adas.Auth.Logout(t.Context(), &free2talkv1.LogoutRequest{}); err != nil {
		t.Fatal(err)
	}
	stream.await(5*time.Second, 0, "session revoked: REVOKE_REASON_LOGOUT")
	if err := stream.finished(5 * time.Second); client.Reason(err) != client.ReasonSessionRevoked {
		t.Errorf("the stream ends with %v", err)
	}
	seen.await(time.Second, 0, "ada offline")
}

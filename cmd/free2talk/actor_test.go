package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
)

// seedOf is what a run of faults goes by: FREE2TALK_SEED, or another each time.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if again, err := strconv.ParseUint(os.Getenv("FREE2TALK_SEED"), 10, 64); err == nil {
		seed = again
	}
	t.Logf("FREE2TALK_SEED=%d does the same again", seed)
	return seed
}

// actor is one who acts, and hears what concerns them by their own stream.
type actor struct {
	*person
	home   string // a host's room, or ""
	chance *rand.Rand
	over   chan struct{}

	mu           sync.Mutex
	state        client.RoomState // of where they sit
	seq, roomSeq uint64
	stood        bool // they have left, and their stream will say where they are
	faults       []string
	err          error
}

func (s *swarm) actor(i int) *actor {
	a := &actor{person: s.person(), chance: rand.New(rand.NewPCG(s.seed, uint64(i)+1)), over: make(chan struct{})}
	s.actors = append(s.actors, a)
	return a
}

func (a *actor) follow(ctx context.Context, c *client.Client) {
	defer close(a.over)
	for event, err := range c.Connect(ctx) {
		a.mu.Lock()
		if err != nil {
			a.err = err
		} else {
			a.take(event)
		}
		a.mu.Unlock()
	}
}

func (a *actor) faultf(format string, args ...any) {
	a.faults = append(a.faults, fmt.Sprintf(format, args...))
}

// take checks E1 for who is seated: what happens where they sit comes without
// a gap, messages too.
func (a *actor) take(event *free2talkv1.ConnectResponse) {
	if event.GetResumed() != nil {
		return // its cursor is the one that was brought
	}
	_, seqs, err := placesOf(event.GetCursor())
	if err != nil || len(seqs) != 2 {
		a.faultf("cursor %q: %v", event.GetCursor(), err)
		return
	}
	if snapshot := event.GetSnapshot(); snapshot != nil {
		a.seq, a.roomSeq, a.stood = seqs[0], seqs[1], false
		a.state = client.RoomState{Room: proto.CloneOf(snapshot.GetRoom()), Participants: slices.Clone(snapshot.GetParticipants())}
		return
	}
	// A person's own seq has gaps where a snapshot has told already that they moved.
	own, room := seqs[0] > a.seq, seqs[1]-a.roomSeq
	if beats := event.GetHeartbeat() != nil || event.GetGoAway() != nil; !beats && !a.stood && (room > 1 || room == 0 && !own) {
		a.faultf("%v after %d and %d: %v", seqs, a.seq, a.roomSeq, event)
	}
	a.seq, a.roomSeq = seqs[0], seqs[1]
	if left := event.GetParticipantLeft(); left.GetUserId() == a.id() {
		a.stood = true
	}
	if of := ofRoom(event); of != nil && a.state.Room != nil {
		if err := a.state.Apply(of); err != nil {
			a.faultf("%v", err)
		}
	}
}

// ofRoom is what a room's own stream would say, or nil.
func ofRoom(event *free2talkv1.ConnectResponse) *free2talkv1.WatchRoomResponse {
	res := &free2talkv1.WatchRoomResponse{Cursor: event.GetCursor(), Time: event.GetTime()}
	switch e := event.GetEvent().(type) {
	case *free2talkv1.ConnectResponse_ParticipantJoined:
		res.Event = &free2talkv1.WatchRoomResponse_ParticipantJoined{ParticipantJoined: e.ParticipantJoined}
	case *free2talkv1.ConnectResponse_ParticipantLeft:
		res.Event = &free2talkv1.WatchRoomResponse_ParticipantLeft{ParticipantLeft: e.ParticipantLeft}
	case *free2talkv1.ConnectResponse_ParticipantUpdated:
		res.Event = &free2talkv1.WatchRoomResponse_ParticipantUpdated{ParticipantUpdated: e.ParticipantUpdated}
	case *free2talkv1.ConnectResponse_OwnerChanged:
		res.Event = &free2talkv1.WatchRoomResponse_OwnerChanged{OwnerChanged: e.OwnerChanged}
	case *free2talkv1.ConnectResponse_RoomUpdated:
		res.Event = &free2talkv1.WatchRoomResponse_RoomUpdated{RoomUpdated: e.RoomUpdated}
	case *free2talkv1.ConnectResponse_RoomClosed:
		res.Event = &free2talkv1.WatchRoomResponse_RoomClosed{RoomClosed: e.RoomClosed}
	default:
		return nil
	}
	return res
}

// compare is E4 for a personal stream: it ends where its person sits, with the
// room as it is.
func (a *actor) compare(s *swarm, i int) {
	s.t.Helper()
	store := s.nodes[len(s.nodes)-1].store
	var last string
	agrees := func() bool {
		now, err := store.LiveUser(s.t.Context(), a.ID)
		a.mu.Lock()
		defer a.mu.Unlock()
		want := "nowhere"
		if now.Room != nil {
			want = fmt.Sprintf("%s at %d with %d", now.Room.ID, now.Room.Version, len(now.Room.Participants))
		}
		got := "nowhere"
		if a.state.Room != nil {
			got = fmt.Sprintf("%s at %d with %d", a.state.Room.GetId(), a.state.Room.GetVersion(), len(a.state.Participants))
		}
		last = fmt.Sprintf("they sit %s, their stream says %s (%v)", want, got, err)
		return err == nil && got == want
	}
	deadline := time.After(20 * time.Second)
	for !agrees() {
		select {
		case <-deadline:
			s.t.Errorf("actor %d: %s", i, last)
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.faults) > 0 || a.err != nil && !errors.Is(a.err, context.Canceled) {
		s.t.Errorf("actor %d, %v: %d faults: %.400q", i, a.err, len(a.faults), a.faults[:min(5, len(a.faults))])
	}
}

// lobbyWatcher is one who keeps the list of open rooms by its events.
type lobbyWatcher struct {
	over chan struct{}

	mu    sync.Mutex
	rooms map[string]*free2talkv1.Room
	whole bool // the snapshot is
	err   error
}

func (l *lobbyWatcher) follow(ctx context.Context, c *client.Client) {
	defer close(l.over)
	for event, err := range c.WatchRooms(ctx, &free2talkv1.WatchRoomsRequest{}) {
		l.mu.Lock()
		if err != nil {
			l.err = err
		} else {
			l.take(event)
		}
		l.mu.Unlock()
	}
}

func (l *lobbyWatcher) take(event *free2talkv1.WatchRoomsResponse) {
	if snapshot := event.GetSnapshot(); snapshot != nil {
		if l.whole {
			clear(l.rooms)
		}
		for _, room := range snapshot.GetRooms() {
			l.rooms[room.GetId()] = room
		}
		l.whole = snapshot.GetLast()
	}
	for _, room := range []*free2talkv1.Room{event.GetRoomCreated().GetRoom(), event.GetRoomUpdated().GetRoom()} {
		if room != nil {
			l.rooms[room.GetId()] = room
		}
	}
	delete(l.rooms, event.GetRoomClosed().GetRoomId())
}

// compare is E4 for the lobby.
func (l *lobbyWatcher) compare(s *swarm, i int) {
	s.t.Helper()
	var differ []string
	agrees := func() bool {
		open, err := s.nodes[len(s.nodes)-1].store.OpenRooms(s.t.Context())
		if err != nil {
			return false
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		differ = nil
		for _, room := range open {
			if got := l.rooms[string(room.ID)]; got.GetVersion() != room.Version || int(got.GetParticipantCount()) != room.ParticipantCount {
				differ = append(differ, fmt.Sprintf("%s is at %d with %d, and not %v", room.ID, room.Version, room.ParticipantCount, got))
			}
		}
		if len(l.rooms) != len(open) {
			differ = append(differ, fmt.Sprintf("%d rooms, and not %d", len(open), len(l.rooms)))
		}
		return len(differ) == 0
	}
	deadline := time.After(20 * time.Second)
	for !agrees() {
		select {
		case <-deadline:
			s.t.Errorf("watcher %d of the lobby: %q", i, differ)
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	if l.err != nil && !errors.Is(l.err, context.Canceled) {
		s.t.Errorf("watcher %d of the lobby: %v", i, l.err)
	}
}

// ownedByOne is R3.
func ownedByOne(state *client.RoomState) error {
	owners := 0
	for _, p := range state.Participants {
		if p.GetRole() == free2talkv1.ParticipantRole_PARTICIPANT_ROLE_OWNER {
			owners++
			if p.GetUser().GetId() != state.Room.GetOwner().GetId() {
				return fmt.Errorf("version %d: %s is not the owner", state.Room.GetVersion(), p.GetUser().GetUsername())
			}
		}
	}
	switch status := state.Room.GetStatus(); {
	case status == free2talkv1.RoomStatus_ROOM_STATUS_OPEN && owners != 1 && len(state.Participants) > 0:
		return fmt.Errorf("version %d: %d owners", state.Room.GetVersion(), owners)
	case status == free2talkv1.RoomStatus_ROOM_STATUS_CLOSED && len(state.Participants) > 0:
		return fmt.Errorf("version %d: closed, with %d people", state.Room.GetVersion(), len(state.Participants))
	}
	return nil
}

// newOutsiders is a swarm on three nodes in processes of their own, which may
// be killed; one more, in this process, is a witness that nobody calls.
func newOutsiders(t *testing.T, redis *testenv.Server, rooms, watchers int) *swarm {
	w := newWorld(t, backend{"own redis", 1, func(t testing.TB, s *Settings) {
		s.DatabaseURL, s.RedisURL, s.RedisPrefix = testenv.Postgres(t), redis.URL(), "f2t:"
	}}, 1, func(s *Settings) { s.Secret = []byte(strings.TrimSpace(string(s.Secret))) })
	s := newSwarm(t, w, rooms, watchers)
	s.doors = nil
	for range 3 {
		s.enter()
	}
	return s
}

// enter starts a process more.
func (s *swarm) enter() {
	p := s.child(s.t, s.settings.DatabaseURL)
	s.children = append(s.children, p)
	s.open(p.testNode)
}

// killNodes kills one process after the other until ctx ends, and starts
// another for each.
func (s *swarm) killNodes(ctx context.Context) {
	chance := rand.New(rand.NewPCG(s.seed, 1<<32))
	for {
		wait(ctx, testenv.Effort(4*time.Second, 20*time.Second))
		if ctx.Err() != nil {
			return
		}
		i := chance.IntN(len(s.children))
		victim := s.children[i]
		if err := victim.cmd.Process.Kill(); err != nil {
			s.t.Error(err)
		}
		s.shut(victim.url[len("http://"):])
		s.children = slices.Delete(s.children, i, i+1)
		s.enter()
	}
}

// intact fails where a call came to nothing.
func (s *swarm) intact() {
	s.t.Helper()
	if n := s.unknown.Load(); n > 0 {
		s.t.Errorf("%d calls failed", n)
	}
	s.failed.Range(func(text, _ any) bool {
		s.t.Logf("one said: %s", text)
		return true
	})
}

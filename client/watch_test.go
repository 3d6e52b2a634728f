package client_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
)

// play is what the fake does with each stream that is opened: it sends, and
// ends with an error, or hangs until the client leaves.
type play struct {
	sends []*free2talkv1.WatchRoomResponse
	err   error
	hangs bool
}

// stage is a fake whose streams go by a script.
type stage struct {
	*fake

	mu      sync.Mutex
	plays   []play
	cursors []string // that were brought
}

// WatchRoom plays the next scene; the last is played again and again.
func (s *stage) WatchRoom(ctx context.Context, req *free2talkv1.WatchRoomRequest, stream free2talkv1connect.RoomServiceWatchRoomServerStream) error {
	s.mu.Lock()
	s.cursors = append(s.cursors, req.GetCursor())
	now := s.plays[min(len(s.cursors), len(s.plays))-1]
	s.mu.Unlock()
	for _, message := range now.sends {
		if err := stream.Send(message); err != nil {
			return err
		}
	}
	if now.hangs {
		<-ctx.Done()
	}
	return now.err
}

func onStage(t *testing.T, plays ...play) *stage {
	t.Helper()
	s := &stage{fake: start(), plays: plays}
	s.watchRoom = s.WatchRoom
	t.Cleanup(s.Close)
	return s
}

func at(cursor string, message *free2talkv1.WatchRoomResponse) *free2talkv1.WatchRoomResponse {
	message.Cursor = cursor
	return message
}

func snapshotOf(version int64) *free2talkv1.WatchRoomResponse {
	r := room()
	r.Version = version
	return &free2talkv1.WatchRoomResponse{Event: &free2talkv1.WatchRoomResponse_Snapshot{Snapshot: &free2talkv1.RoomSnapshot{Room: r}}}
}

func resumed() *free2talkv1.WatchRoomResponse {
	return &free2talkv1.WatchRoomResponse{Event: &free2talkv1.WatchRoomResponse_Resumed{Resumed: &free2talkv1.Resumed{}}}
}

func left(version int64) *free2talkv1.WatchRoomResponse {
	return &free2talkv1.WatchRoomResponse{Event: &free2talkv1.WatchRoomResponse_ParticipantLeft{
		ParticipantLeft: &free2talkv1.ParticipantLeft{UserId: ada.GetId(), RoomVersion: version},
	}}
}

func heartbeat() *free2talkv1.WatchRoomResponse {
	return &free2talkv1.WatchRoomResponse{Event: &free2talkv1.WatchRoomResponse_Heartbeat{Heartbeat: &free2talkv1.Heartbeat{}}}
}

func goAway(d time.Duration) *free2talkv1.WatchRoomResponse {
	return &free2talkv1.WatchRoomResponse{Event: &free2talkv1.WatchRoomResponse_GoAway{GoAway: &free2talkv1.GoAway{ReconnectAfter: durationpb.New(d)}}}
}

func closed(version int64) *free2talkv1.WatchRoomResponse {
	return &free2talkv1.WatchRoomResponse{Event: &free2talkv1.WatchRoomResponse_RoomClosed{RoomClosed: &free2talkv1.RoomClosed{RoomVersion: version}}}
}

// kinds names what was yielded.
func kindOf(e *free2talkv1.WatchRoomResponse) string {
	switch {
	case e.GetSnapshot() != nil:
		return "snapshot"
	case e.GetResumed() != nil:
		return "resumed"
	case e.GetParticipantLeft() != nil:
		return "left"
	case e.GetRoomClosed() != nil:
		return "closed"
	case e.GetHeartbeat() != nil:
		return "heartbeat"
	case e.GetGoAway() != nil:
		return "go away"
	}
	return "?"
}

// A stream goes on wherever a connection ends, and ends where going on would
// not help.
func TestWatchRoom(t *testing.T) {
	t.Parallel()
	unavailable := fails(connect.CodeUnavailable, client.ReasonDatabaseUnavailable, after(3*time.Second))
	end := play{sends: []*free2talkv1.WatchRoomResponse{resumed(), closed(9)}}
	for name, c := range map[string]struct {
		plays   []play
		opts    []client.StreamOption
		yields  []string
		reason  string // of the error that ends it, or ""
		cursors []string
		waits   []time.Duration // that the server asked for
	}{
		"a connection that breaks": {
			plays:  []play{{sends: []*free2talkv1.WatchRoomResponse{at("a", snapshotOf(1)), at("b", left(2))}, err: fails(connect.CodeInternal, "")}, end},
			yields: []string{"snapshot", "left", "resumed", "closed"}, cursors: []string{"", "b"},
		},
		"an end without an error": {
			plays:  []play{{sends: []*free2talkv1.WatchRoomResponse{at("a", snapshotOf(1)), left(2)}}, end},
			yields: []string{"snapshot", "left", "resumed", "closed"}, cursors: []string{"", "a"},
		},
		"a node that leaves": {
			plays:  []play{{sends: []*free2talkv1.WatchRoomResponse{at("a", snapshotOf(1)), at("c", goAway(2*time.Second))}, hangs: true}, end},
			yields: []string{"snapshot", "resumed", "closed"}, cursors: []string{"", "c"}, waits: []time.Duration{2 * time.Second},
		},
		"a server that is away": {
			plays:  []play{{err: unavailable}, {err: unavailable}, end},
			yields: []string{"resumed", "closed"}, cursors: []string{"", "", ""}, waits: []time.Duration{3 * time.Second, 3 * time.Second},
		},
		"too slow": {
			plays:  []play{{sends: []*free2talkv1.WatchRoomResponse{at("a", snapshotOf(1))}, err: fails(connect.CodeResourceExhausted, client.ReasonSlowConsumer)}, end},
			yields: []string{"snapshot", "resumed", "closed"}, cursors: []string{"", "a"},
		},
		"a cursor that is none": {
			opts:   []client.StreamOption{client.FromCursor("old")},
			plays:  []play{{err: fails(connect.CodeInvalidArgument, client.ReasonBadCursor)}, {sends: []*free2talkv1.WatchRoomResponse{at("a", snapshotOf(1)), closed(2)}}},
			yields: []string{"snapshot", "closed"}, cursors: []string{"old", ""},
		},
		"silence": {
			opts:   []client.StreamOption{client.WithSilence(2 * time.Second)},
			plays:  []play{{sends: []*free2talkv1.WatchRoomResponse{at("a", snapshotOf(1))}, hangs: true}, end},
			yields: []string{"snapshot", "resumed", "closed"}, cursors: []string{"", "a"},
		},
		"heartbeats, and what is shown of them": {
			opts:   []client.StreamOption{client.WithHeartbeats()},
			plays:  []play{{sends: []*free2talkv1.WatchRoomResponse{at("a", snapshotOf(1)), at("b", heartbeat()), goAway(0)}}, end},
			yields: []string{"snapshot", "heartbeat", "go away", "resumed", "closed"}, cursors: []string{"", "b"},
		},
		"no such room": {
			plays: []play{{err: fails(connect.CodeNotFound, client.ReasonRoomNotFound)}}, reason: client.ReasonRoomNotFound, cursors: []string{""},
		},
		"kicked": {
			plays:  []play{{sends: []*free2talkv1.WatchRoomResponse{snapshotOf(1), left(2)}, err: fails(connect.CodePermissionDenied, client.ReasonKicked)}},
			yields: []string{"snapshot", "left"}, reason: client.ReasonKicked, cursors: []string{""},
		},
		"too many streams, for good": {
			plays: []play{{err: fails(connect.CodeResourceExhausted, client.ReasonTooManyStreams)}}, reason: client.ReasonTooManyStreams, cursors: []string{""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := onStage(t, c.plays...)
			hands := &clock{}
			conn := s.signIn(t, client.WithClock(hands))
			var yields []string
			reason := ""
			for event, err := range conn.WatchRoom(t.Context(), room().GetId(), c.opts...) {
				if err != nil {
					reason = client.Reason(err)
					break
				}
				yields = append(yields, kindOf(event))
			}
			if !slices.Equal(yields, c.yields) || reason != c.reason || !slices.Equal(s.cursors, c.cursors) {
				t.Errorf("yields %q, then %q, from cursors %q; want %q, %q, %q", yields, reason, s.cursors, c.yields, c.reason, c.cursors)
			}
			if c.waits != nil && !slices.Equal(hands.waits, c.waits) {
				t.Errorf("waits %v, want %v", hands.waits, c.waits)
			}
		})
	}
}

// Where the server ends each connection, the client comes back ever later
// unless the connection was of use.
func TestWatchRoomBacksOff(t *testing.T) {
	t.Parallel()
	const short, rounds = 200 * time.Millisecond, 30
	for name, c := range map[string]struct {
		sends []*free2talkv1.WatchRoomResponse
		lasts time.Duration
		later bool
	}{
		"resumed, and no more":    {sends: []*free2talkv1.WatchRoomResponse{resumed()}, later: true},
		"a snapshot, and no more": {sends: []*free2talkv1.WatchRoomResponse{snapshotOf(1)}, later: true},
		"resumed, for a while":    {sends: []*free2talkv1.WatchRoomResponse{resumed()}, lasts: 5 * time.Second},
		"an event":                {sends: []*free2talkv1.WatchRoomResponse{resumed(), left(2)}},
		"a heartbeat":             {sends: []*free2talkv1.WatchRoomResponse{resumed(), heartbeat()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := onStage(t, play{sends: c.sends})
			hands := &clock{}
			conn := s.signIn(t, client.WithClock(hands))
			for range conn.WatchRoom(t.Context(), room().GetId(), client.FromCursor("z")) {
				hands.add(c.lasts)
				if len(hands.waited()) >= rounds {
					break
				}
			}
			// Most of thirty waits are drawn from 0 to 5 s: one of them is long.
			if longest := slices.Max(hands.waited()); longest > short != c.later {
				t.Errorf("waits %v", hands.waited())
			}
		})
	}
}

// A token that has run out is renewed, once, and then the stream goes on.
func TestWatchRoomRenewsItsToken(t *testing.T) {
	t.Parallel()
	s := onStage(t, play{sends: []*free2talkv1.WatchRoomResponse{at("a", snapshotOf(1)), closed(2)}})
	conn := s.signIn(t, client.WithClock(&clock{}))
	s.expire()
	var yields []string
	for event, err := range conn.WatchRoom(t.Context(), room().GetId()) {
		if err != nil {
			t.Fatal(err)
		}
		yields = append(yields, kindOf(event))
	}
	if !slices.Equal(yields, []string{"snapshot", "closed"}) || s.called("Refresh") != 1 {
		t.Errorf("yields %q after %d refreshes", yields, s.called("Refresh"))
	}
}

// A stream waits for the renewal of its token as for the server, and ends with
// the reason where there is none to be had.
func TestWatchRoomWaitsForItsToken(t *testing.T) {
	t.Parallel()
	away := fails(connect.CodeUnavailable, client.ReasonDatabaseUnavailable)
	for name, c := range map[string]struct {
		fails  int
		err    error
		yields []string
		reason string // of the error that ends it, or ""
		calls  int    // of Refresh
	}{
		"one renewal fails in passing": {fails: 3, err: away, yields: []string{"snapshot", "closed"}, calls: 4},
		"several do":                   {fails: 9, err: away, yields: []string{"snapshot", "closed"}, calls: 10},
		"the session is over":          {err: fails(connect.CodeUnauthenticated, client.ReasonRefreshReused), reason: client.ReasonRefreshReused, calls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := onStage(t, play{sends: []*free2talkv1.WatchRoomResponse{at("a", snapshotOf(1)), closed(2)}})
			hands := &clock{}
			conn := s.signIn(t, client.WithClock(hands))
			s.expire()
			s.fail("Refresh", c.fails, c.err)
			var yields []string
			reason := ""
			for event, err := range conn.WatchRoom(t.Context(), room().GetId()) {
				if reason = client.Reason(err); err == nil {
					yields = append(yields, kindOf(event))
				}
			}
			if !slices.Equal(yields, c.yields) || reason != c.reason {
				t.Errorf("yields %q, then %q", yields, reason)
			}
			waits := slices.DeleteFunc(hands.waited(), func(d time.Duration) bool { return d == 0 })
			if s.called("Refresh") != c.calls || len(waits) != c.fails {
				t.Errorf("%d refreshes, with waits of %v", s.called("Refresh"), waits)
			}
		})
	}
}

// Whoever leaves the loop leaves the stream; a context that ends is the error.
func TestLeavingAStream(t *testing.T) {
	t.Parallel()
	s := onStage(t, play{sends: []*free2talkv1.WatchRoomResponse{at("a", snapshotOf(1))}, hangs: true})
	conn := s.signIn(t)
	for range conn.WatchRoom(t.Context(), room().GetId()) {
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	var last error
	n := 0
	for event, err := range conn.WatchRoom(ctx, room().GetId()) {
		if n++; err == nil && kindOf(event) == "snapshot" {
			cancel()
		}
		last = err
	}
	if n != 2 || connect.CodeOf(last) != connect.CodeCanceled {
		t.Errorf("%d yields, the last %v", n, last)
	}
	cancel()
}

// The state of a room is what its events make of the snapshot.
func TestRoomState(t *testing.T) {
	t.Parallel()
	bob := &free2talkv1.UserSummary{Id: "b", Username: "bob"}
	member, owner := free2talkv1.ParticipantRole_PARTICIPANT_ROLE_MEMBER, free2talkv1.ParticipantRole_PARTICIPANT_ROLE_OWNER
	when := timestamppb.New(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	begin := snapshotOf(1)
	begin.GetSnapshot().Participants = []*free2talkv1.Participant{{User: ada, Role: owner}}
	var state client.RoomState
	apply := func(events ...*free2talkv1.WatchRoomResponse) {
		t.Helper()
		for _, e := range events {
			if err := state.Apply(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	apply(begin, &free2talkv1.WatchRoomResponse{Event: &free2talkv1.WatchRoomResponse_ParticipantJoined{ParticipantJoined: &free2talkv1.ParticipantJoined{
		Participant: &free2talkv1.Participant{User: bob, Role: member}, RoomVersion: 2,
	}}}, heartbeat(), &free2talkv1.WatchRoomResponse{Time: when, Event: &free2talkv1.WatchRoomResponse_OwnerChanged{OwnerChanged: &free2talkv1.OwnerChanged{
		UserId: "b", PreviousUserId: ada.GetId(), RoomVersion: 3,
	}}}, left(4), &free2talkv1.WatchRoomResponse{Event: &free2talkv1.WatchRoomResponse_ParticipantUpdated{ParticipantUpdated: &free2talkv1.ParticipantUpdated{
		Participant: &free2talkv1.Participant{User: &free2talkv1.UserSummary{Id: "b", Username: "robert"}, Role: owner}, RoomVersion: 5,
	}}})
	want := room()
	want.Version, want.Owner, want.UpdatedAt = 5, &free2talkv1.UserSummary{Id: "b", Username: "robert"}, when
	if !proto.Equal(state.Room, want) || len(state.Participants) != 1 || state.Participants[0].GetRole() != owner {
		t.Errorf("the room is %v with %v", state.Room, state.Participants)
	}
	if err := state.Apply(left(7)); err == nil || state.Room.GetVersion() != 5 {
		t.Errorf("a gap is taken: %v", state.Room)
	}
	end := closed(6)
	end.Time = when
	apply(end)
	if state.Room.GetStatus() != free2talkv1.RoomStatus_ROOM_STATUS_CLOSED || state.Room.GetClosedAt() == nil {
		t.Errorf("closed: %v", state.Room)
	}
}

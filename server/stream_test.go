package server

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// fakeSource is a source that a test writes.
type fakeSource struct {
	begin     func(ctx context.Context) ([]any, error)
	more      func(ctx, quiet context.Context) ([]any, error)
	farewells int
	closed    bool
}

func (f *fakeSource) first(ctx context.Context) ([]any, error)       { return f.begin(ctx) }
func (f *fakeSource) next(ctx, quiet context.Context) ([]any, error) { return f.more(ctx, quiet) }
func (f *fakeSource) heartbeat() any                                 { return &freev1.WatchRoomsResponse{Cursor: "heartbeat"} }
func (f *fakeSource) goAway(time.Duration) any                       { return &freev1.WatchRoomsResponse{Cursor: "go away"} }
func (f *fakeSource) farewell(context.Context) []any                 { f.farewells++; return nil }
func (f *fakeSource) close()                                         { f.closed = true }

// streaming serves src on an edge, and returns what a caller gets.
func streaming(t *testing.T, s *streams, src source) ([]string, error) {
	t.Helper()
	e := newEdge(t, nil)
	e.fake.stream = func(ctx context.Context, _ func(*freev1.WatchRoomsResponse) error) error { return s.run(ctx, src) }
	stream, err := e.rooms().WatchRooms(t.Context(), &freev1.WatchRoomsRequest{})
	if err != nil {
		return nil, err
	}
	var cursors []string
	for {
		res, err := stream.Receive()
		if err != nil {
			return cursors, err
		}
		cursors = append(cursors, res.GetCursor())
	}
}

// A stream that is sent away before it has said where it stands has no cursor
// to come back with: what its client has brought stays good.
func TestAStreamThatHasNotBegunIsNotSentAway(t *testing.T) {
	t.Parallel()
	s := newStreams(StreamLimits{})
	src := &fakeSource{begin: func(ctx context.Context) ([]any, error) {
		s.leave(0)
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	cursors, err := streaming(t, s, src)
	retry, told := detail[*errdetails.RetryInfo](err)
	if len(cursors) > 0 || connect.CodeOf(err) != connect.CodeUnavailable || !told || retry.GetRetryDelay().AsDuration() <= 0 {
		t.Errorf("it says %q, and ends with %v (%v)", cursors, err, retry)
	}
	if !src.closed {
		t.Error("it is not closed")
	}
}

// One that has begun says where it stood, last.
func TestAStreamThatHasBegunIsSentAway(t *testing.T) {
	t.Parallel()
	s := newStreams(StreamLimits{})
	cursors, err := streaming(t, s, &fakeSource{
		begin: func(context.Context) ([]any, error) {
			return []any{&freev1.WatchRoomsResponse{Cursor: "snapshot"}}, nil
		},
		more: func(_, quiet context.Context) ([]any, error) {
			s.leave(0)
			<-quiet.Done()
			return nil, context.Cause(quiet)
		},
	})
	if len(cursors) != 2 || cursors[1] != "go away" || !errors.Is(err, io.EOF) {
		t.Errorf("it says %q, and ends with %v", cursors, err)
	}
}

// Checklist 51: a session that ends while its stream begins ends it, and the
// source hears of it.
func TestAStreamThatHasNotBegunEndsWithItsSession(t *testing.T) {
	t.Parallel()
	s := newStreams(StreamLimits{})
	src := &fakeSource{begin: func(context.Context) ([]any, error) { return nil, talk.ErrSessionRevoked }}
	cursors, err := streaming(t, s, src)
	if len(cursors) > 0 || connect.CodeOf(err) != connect.CodeUnauthenticated || src.farewells != 1 || !src.closed {
		t.Errorf("it says %q, and ends with %v after %d farewells", cursors, err, src.farewells)
	}
}

// A heartbeat interrupts who waits, and not who reads what has arrived.
func TestAHeartbeatInterruptsOnlyTheWaiting(t *testing.T) {
	t.Parallel()
	src := &fakeSource{more: func(ctx, quiet context.Context) ([]any, error) {
		if _, bounded := ctx.Deadline(); bounded {
			t.Error("work is bounded by the next heartbeat")
		}
		if _, bounded := quiet.Deadline(); !bounded {
			t.Error("waiting is not bounded")
		}
		return []any{"an event"}, errQuiet
	}}
	batch, err := new(silence).await(t.Context(), src)
	if len(batch) != 2 || batch[0] != "an event" || err != nil {
		t.Errorf("%v, %v", batch, err)
	}
}

// pastOf is a history of one topic.
type pastOf struct {
	talk.History

	events []talk.Event
}

// TopicEvents is talk.History's.
func (p pastOf) TopicEvents(_ context.Context, _ talk.Topic, after int64, limit int) ([]talk.Event, error) {
	var events []talk.Event
	for _, e := range p.events {
		if e.Seq > after && len(events) < limit {
			events = append(events, e)
		}
	}
	return events, nil
}

// E2: what a stream missed is told without a gap, up to where the state was
// read, or it is said that it is not.
func TestE2_what_was_missed_is_whole_or_not_told(t *testing.T) {
	t.Parallel()
	kept := func(seqs ...int64) (events []talk.Event) {
		for _, seq := range seqs {
			events = append(events, talk.Event{Seq: seq, Fact: talk.Moved{}})
		}
		return events
	}
	unknown := kept(5, 6)
	unknown[1].Fact = nil
	const none, old, lost = freev1.SnapshotReason(0), freev1.SnapshotReason_SNAPSHOT_REASON_CURSOR_TOO_OLD, freev1.SnapshotReason_SNAPSHOT_REASON_HISTORY_LOST
	for name, c := range map[string]struct {
		events      []talk.Event
		since, last int64
		want        int
		reason      freev1.SnapshotReason
	}{
		"nothing":                                   {kept(1, 2), 2, 2, 0, none},
		"everything":                                {kept(1, 2, 3), 0, 3, 3, none},
		"what came after the state was read":        {kept(1, 2, 3, 4, 5), 1, 3, 2, none},
		"the beginning is deleted":                  {kept(3, 4), 1, 4, 0, old},
		"something in the middle is deleted":        {kept(1, 2, 4, 5), 0, 5, 0, old},
		"the end is not there":                      {kept(1, 2), 0, 3, 0, old},
		"one that this version does not know":       {unknown, 4, 6, 0, old},
		"the state is older than the cursor":        {kept(1), 7, 1, 0, lost},
		"more than a thousand":                      {nil, 1, 1002, 0, freev1.SnapshotReason_SNAPSHOT_REASON_FELL_BEHIND},
		"everything is deleted, and the room still": {nil, 1, 2, 0, old},
	} {
		parts := &liveParts{Live: Live{History: pastOf{events: c.events}}}
		events, reason, err := parts.missed(t.Context(), "room:1", c.since, c.last)
		if len(events) != c.want || reason != c.reason || err != nil {
			t.Errorf("%s: %d events, %v, %v", name, len(events), reason, err)
		}
		if n := len(events); n > 0 && events[n-1].Seq != c.last {
			t.Errorf("%s: up to %d", name, events[n-1].Seq)
		}
	}
}

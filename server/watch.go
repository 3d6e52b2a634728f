package server

import (
	"context"
	"io"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

// replayMost is how many missed events a stream sends; who missed more gets
// the state.
const replayMost = 1000

// Live is what the streams are made of.
type Live struct {
	Hub       *live.Hub
	Lobby     *live.Lobby
	History   talk.History
	HistoryID string // see [talk.History.HistoryID]
	// Bans reads who is kept out of a room, from the truth.
	Bans     func(ctx context.Context, room talk.RoomID) ([]talk.RoomBan, error)
	Presence *live.Presence
	// Ended returns an error where a session is known to have ended. Nil means
	// that none has.
	Ended func(ctx context.Context, session talk.SessionID) error
	// Now is the clock of what is sent without having happened: snapshots, heartbeats.
	Now talk.Clock
}

// liveParts is what the handlers of streams share.
type liveParts struct {
	Live

	cursors cursors
	streams *streams
}

func (l *liveParts) now() *timestamppb.Timestamp { return timestamppb.New(l.Now()) }

// queue is the events that wait for one stream.
type queue struct {
	listener *live.Listener
	spare    []*live.Told
}

func newQueue() queue { return queue{listener: live.NewListener()} }

// next waits, until quiet ends, for events of which something is to be sent.
func (q *queue) next(ctx, quiet context.Context, handle func(context.Context, []*live.Told) ([]any, error)) ([]any, error) {
	for {
		if err := q.listener.Wait(quiet); err != nil {
			return nil, err
		}
		arrived, kept := q.listener.Take(q.spare)
		q.spare = arrived
		if !kept {
			return nil, talk.ErrSlowConsumer.After(comeBack())
		}
		batch, err := handle(ctx, arrived)
		if len(batch) > 0 || err != nil {
			return batch, err
		}
	}
}

// WatchRoom streams one room.
func (h roomHandler) WatchRoom(ctx context.Context, req *freev1.WatchRoomRequest, _ free2talkv1connect.RoomServiceWatchRoomServerStream) error {
	return h.live.streams.run(ctx, &roomSource{
		liveParts: h.live, caller: whoFrom(ctx), id: id[talk.RoomID](req.GetRoomId()), cursor: req.GetCursor(), json: codecOf(ctx),
	})
}

// roomSource is the stream of one room, to one caller.
type roomSource struct {
	*liveParts

	caller talk.UserID
	id     talk.RoomID
	cursor string
	json   bool

	queue queue
	ear   *live.Ear
	seq   int64 // of the last event that was handled
	over  bool  // the room is closed
}

// first is the state, or what was missed since the cursor.
func (s *roomSource) first(ctx context.Context) ([]any, error) {
	since, reason, err := s.since()
	if err != nil {
		return nil, err
	}
	s.queue = newQueue()
	if s.ear, err = s.Hub.Listen(ctx, talk.RoomTopic(s.id), s.queue.listener); err != nil {
		return nil, err
	}
	room, err := s.History.LiveRoom(ctx, s.id)
	if err != nil {
		return nil, err
	}
	// After the room: who is kicked from here on is told so by an event.
	if err := s.allowed(ctx); err != nil {
		return nil, err
	}
	if reason == 0 {
		return s.goOn(ctx, since, room)
	}
	return s.snapshot(room, reason)
}

// goOn is what was missed, or the state where that cannot be told.
func (s *roomSource) goOn(ctx context.Context, since int64, room talk.LiveRoom) ([]any, error) {
	missed, reason, err := s.missed(ctx, talk.RoomTopic(s.id), since, room.Seq)
	switch {
	case err != nil:
		return nil, err
	case reason != 0:
		return s.snapshot(room, reason)
	case len(missed) == 0 && !room.Open():
		// Nothing else would say why the stream ends, and its client would come back for ever.
		return s.snapshot(room, freev1.SnapshotReason_SNAPSHOT_REASON_CURSOR_TOO_OLD)
	}
	return s.resume(since, room, missed)
}

// allowed refuses who is kept out of the room.
func (s *roomSource) allowed(ctx context.Context) error {
	bans, err := s.Bans(ctx, s.id)
	if err != nil {
		return err
	}
	for _, ban := range bans {
		if ban.User.ID == s.caller {
			return talk.ErrKicked.With("until", ban.Until.Format(time.RFC3339)).After(ban.Until.Sub(s.Now()))
		}
	}
	return nil
}

// since is where to go on from, or why that cannot be.
func (s *roomSource) since() (int64, freev1.SnapshotReason, error) {
	if s.cursor == "" {
		return 0, freev1.SnapshotReason_SNAPSHOT_REASON_STARTED, nil
	}
	seq, ours, err := s.cursors.openRoom(s.cursor, s.id)
	if err == nil && !ours {
		return 0, freev1.SnapshotReason_SNAPSHOT_REASON_HISTORY_LOST, nil
	}
	return seq, 0, err
}

// missed is what happened on a topic after since and up to last, or why it
// cannot be told. What came after last is on its way to who listens already.
func (l *liveParts) missed(ctx context.Context, topic talk.Topic, since, last int64) ([]talk.Event, freev1.SnapshotReason, error) {
	switch {
	case since > last:
		return nil, freev1.SnapshotReason_SNAPSHOT_REASON_HISTORY_LOST, nil
	case last-since > replayMost:
		return nil, freev1.SnapshotReason_SNAPSHOT_REASON_FELL_BEHIND, nil
	case since == last:
		return nil, 0, nil
	}
	events, err := l.History.TopicEvents(ctx, topic, since, replayMost)
	if err != nil {
		return nil, 0, err
	}
	if int64(len(events)) < last-since {
		return nil, freev1.SnapshotReason_SNAPSHOT_REASON_CURSOR_TOO_OLD, nil
	}
	events = events[:last-since]
	for i, e := range events {
		if e.Seq != since+1+int64(i) || e.Fact == nil { // deleted, or of a newer version
			return nil, freev1.SnapshotReason_SNAPSHOT_REASON_CURSOR_TOO_OLD, nil
		}
	}
	return events, 0, nil
}

func (s *roomSource) resume(since int64, room talk.LiveRoom, missed []talk.Event) ([]any, error) {
	s.seq = since
	var batch []any
	for _, e := range missed {
		told := &live.Told{Event: e}
		message, err := s.message(told)
		if err != nil {
			return nil, err
		}
		if message != nil {
			batch = append(batch, message)
		}
		s.seq = e.Seq
	}
	resumed := &freev1.WatchRoomResponse{
		Cursor: s.cursor, Time: s.now(),
		Event: &freev1.WatchRoomResponse_Resumed{Resumed: &freev1.Resumed{Replayed: int32(len(batch))}},
	}
	s.over = !room.Open()
	return append([]any{resumed}, batch...), s.end()
}

func (s *roomSource) snapshot(room talk.LiveRoom, reason freev1.SnapshotReason) ([]any, error) {
	s.seq, s.over = room.Seq, !room.Open()
	return []any{&freev1.WatchRoomResponse{
		Cursor: s.cursors.room(s.id, s.seq), Time: s.now(),
		Event: &freev1.WatchRoomResponse_Snapshot{Snapshot: &freev1.RoomSnapshot{
			Reason: reason, Room: wireRoom(room.Room), Participants: each(room.Participants, wireParticipant),
		}},
	}}, s.end()
}

// end is io.EOF once the room is closed: nothing happens there any more.
func (s *roomSource) end() error {
	if s.over {
		return io.EOF
	}
	return nil
}

// message is what the caller hears of an event, or nil.
func (s *roomSource) message(told *live.Told) (any, error) {
	if said, ok := told.Fact.(talk.MessagePosted); ok && !said.For(s.caller) {
		return nil, nil //nolint:nilnil // nothing to say, and nothing wrong
	}
	if _, opened := told.Fact.(talk.RoomCreated); opened {
		return nil, nil //nolint:nilnil // likewise
	}
	body, err := spelled(told, wayRoom, s.json, func(e talk.Event) proto.Message {
		res := roomEvent(e)
		res.Cursor = s.cursors.room(s.id, e.Seq)
		return res
	})
	return &frame{body: body}, err
}

// next waits for events.
func (s *roomSource) next(ctx, quiet context.Context) ([]any, error) {
	return s.queue.next(ctx, quiet, s.handle)
}

func (s *roomSource) handle(ctx context.Context, arrived []*live.Told) (batch []any, err error) {
	for _, told := range arrived {
		if told.Seq <= s.seq {
			continue
		}
		if told.Fact == nil {
			healed, err := s.heal(ctx)
			return append(batch, healed...), err
		}
		message, err := s.message(told)
		if err != nil {
			return batch, err
		}
		if message != nil {
			batch = append(batch, message)
		}
		s.seq = told.Seq
		if err := s.after(ctx, told.Fact); err != nil {
			return batch, err
		}
	}
	return batch, nil
}

// after is what an event means for the stream itself.
func (s *roomSource) after(ctx context.Context, fact talk.Fact) error {
	switch f := fact.(type) {
	case talk.RoomClosed:
		return io.EOF
	case talk.ParticipantLeft:
		if f.UserID == s.caller && f.Reason == talk.LeftByKick {
			return s.allowed(ctx)
		}
	}
	return nil
}

// heal replaces what is lost by the state.
func (s *roomSource) heal(ctx context.Context) ([]any, error) {
	room, err := s.History.LiveRoom(ctx, s.id)
	if err == nil {
		err = s.allowed(ctx)
	}
	if err != nil {
		return nil, err
	}
	return s.snapshot(room, freev1.SnapshotReason_SNAPSHOT_REASON_HEALED)
}

func (s *roomSource) heartbeat() any {
	return &freev1.WatchRoomResponse{
		Cursor: s.cursors.room(s.id, s.seq), Time: s.now(),
		Event: &freev1.WatchRoomResponse_Heartbeat{Heartbeat: &freev1.Heartbeat{}},
	}
}

func (s *roomSource) goAway(after time.Duration) any {
	return &freev1.WatchRoomResponse{
		Cursor: s.cursors.room(s.id, s.seq), Time: s.now(),
		Event: &freev1.WatchRoomResponse_GoAway{GoAway: &freev1.GoAway{ReconnectAfter: durationpb.New(after)}},
	}
}

func (s *roomSource) farewell(context.Context) []any { return nil }

func (s *roomSource) close() {
	if s.ear != nil {
		s.ear.Close()
	}
}

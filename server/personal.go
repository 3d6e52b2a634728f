package server

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

// personalSource is somebody's own stream: their topic and that of the room
// they sit in, wherever that is.
type personalSource struct {
	*liveParts

	caller talk.Caller
	cursor string
	json   bool

	queue      queue
	ear, inner *live.Ear // of the user's topic, and of the room's
	at         personalPlace
	moved      int64 // the user's seq that the room, as it was last read, includes
	seated     seat  // where it was said that the caller sits
	returns    int
	detach     func(live.Parting)
	back       time.Duration // after how long the caller was asked to come back
	ended      bool          // the caller's own session
	leaving    bool          // it has, and only the event that says why is still awaited
	left       []*live.Told  // what arrived, from what could not be told on
}

// first is the state, or what was missed since the cursor.
func (s *personalSource) first(ctx context.Context) ([]any, error) {
	since, reason, err := s.since()
	if err != nil {
		return nil, err
	}
	s.detach = s.Presence.Attach(ctx, s.caller.UserID, s.caller.SessionID)
	s.queue = newQueue()
	if s.ear, err = s.Hub.Listen(ctx, talk.UserTopic(s.caller.UserID), s.queue.listener); err != nil {
		return nil, err
	}
	now, err := s.settle(ctx)
	if err != nil {
		return nil, err
	}
	if reason == 0 {
		var missed []talk.Event
		missed, reason, err = s.missed(ctx, talk.UserTopic(s.caller.UserID), since.seq, now.Seq)
		if err != nil {
			return nil, err
		}
		if reason == 0 {
			return s.resume(ctx, since, now, missed)
		}
	}
	s.at.seq = now.Seq
	return []any{s.snapshot(now, reason)}, nil
}

func (s *personalSource) since() (personalPlace, freev1.SnapshotReason, error) {
	if s.cursor == "" {
		return personalPlace{}, freev1.SnapshotReason_SNAPSHOT_REASON_STARTED, nil
	}
	at, ours, err := s.cursors.openPerson(s.cursor, s.caller.UserID)
	if err == nil && !ours {
		return at, freev1.SnapshotReason_SNAPSHOT_REASON_HISTORY_LOST, nil
	}
	return at, 0, err
}

// seat is one that somebody took at a time: who leaves and joins again has
// another.
type seat struct {
	room  talk.RoomID
	since time.Time
}

// settle listens to the room that the caller sits in, and reads it after that,
// so that nothing is missed in between.
func (s *personalSource) settle(ctx context.Context) (talk.LiveUser, error) {
	for {
		now, err := s.History.LiveUser(ctx, s.caller.UserID)
		if errors.Is(err, talk.ErrUserNotFound) {
			return now, talk.ErrSessionRevoked // erased
		}
		if err != nil {
			return now, err
		}
		s.moved = now.Seq
		room := talk.RoomID("")
		if now.Room != nil {
			room = now.Room.ID
		}
		if room == s.at.room && (room == "") == (s.inner == nil) {
			if now.Room == nil {
				return now, nil
			}
			s.at.roomSeq = now.Room.Seq
			if !s.sit(ctx, now.Room.Participants) {
				return now, nil
			}
			continue
		}
		if err := s.enter(ctx, room); err != nil {
			return now, err
		}
	}
}

// sit says that the caller, connected as they are, sits in their seat: once
// for each room, and whenever it is held for them as if they were not. It
// reports whether that changed the seat.
func (s *personalSource) sit(ctx context.Context, people []talk.Participant) (changed bool) {
	for _, p := range people {
		held, mine := p.State == talk.Reconnecting, seat{s.at.room, p.JoinedAt}
		if p.User.ID == s.caller.UserID && (held && s.returns < mostReturns || s.seated != mine) {
			s.seated = mine
			s.Presence.Seated(ctx, s.caller.UserID, p.State)
			if held {
				s.returns++
			}
			return held
		}
	}
	return false
}

// mostReturns bounds how often a stream asks for its seat while it reads its
// state: whoever sees it otherwise tells so by an event.
const mostReturns = 3

// enter listens to another room, or to none.
func (s *personalSource) enter(ctx context.Context, room talk.RoomID) (err error) {
	if s.inner != nil {
		s.inner.Close()
		s.inner = nil
	}
	s.at.room, s.at.roomSeq = room, 0
	if room != "" {
		s.inner, err = s.Hub.Listen(ctx, talk.RoomTopic(room), s.queue.listener)
	}
	return err
}

// resume replays what was missed. Where the caller is in another room now, its
// state takes the place of what happened in the old one.
func (s *personalSource) resume(ctx context.Context, since personalPlace, now talk.LiveUser, missed []talk.Event) ([]any, error) {
	room, roomSeq := s.at.room, s.at.roomSeq
	s.at.seq, s.at.room, s.at.roomSeq = since.seq, since.room, since.roomSeq
	elsewhere := since.room != room
	var batch []any
	for _, e := range missed {
		_, went := e.Fact.(talk.Moved)
		elsewhere = elsewhere || went
		s.at.seq = e.Seq
		if err := s.append(&batch, &live.Told{Event: e}); err != nil {
			return nil, err
		}
	}
	if !elsewhere && room != "" {
		events, reason, err := s.missed(ctx, talk.RoomTopic(room), since.roomSeq, roomSeq)
		if err != nil {
			return nil, err
		}
		if reason != 0 {
			s.at = personalPlace{seq: s.at.seq, room: room, roomSeq: roomSeq}
			return []any{s.snapshot(now, reason)}, nil
		}
		for _, e := range events {
			s.at.roomSeq = e.Seq
			if err := s.append(&batch, &live.Told{Event: e}); err != nil {
				return nil, err
			}
		}
	}
	resumed := &freev1.ConnectResponse{
		Cursor: s.cursor, Time: s.now(),
		Event: &freev1.ConnectResponse_Resumed{Resumed: &freev1.Resumed{Replayed: int32(len(batch))}},
	}
	batch = append([]any{resumed}, batch...)
	if elsewhere {
		s.at.room, s.at.roomSeq = room, roomSeq
		batch = append(batch, s.snapshot(now, freev1.SnapshotReason_SNAPSHOT_REASON_ROOM_CHANGED))
	}
	return batch, s.end()
}

func (s *personalSource) snapshot(now talk.LiveUser, reason freev1.SnapshotReason) any {
	snapshot := &freev1.PersonalSnapshot{
		Reason:   reason,
		Presence: &freev1.Presence{UserId: string(s.caller.UserID), Online: true, LastSeenAt: s.now()},
	}
	if now.Room != nil {
		snapshot.Presence.RoomId = string(now.Room.ID)
		snapshot.Room, snapshot.Participants = wireRoom(now.Room.Room), each(now.Room.Participants, wireParticipant)
	}
	return &freev1.ConnectResponse{
		Cursor: s.place(), Time: s.now(), Event: &freev1.ConnectResponse_Snapshot{Snapshot: snapshot},
	}
}

func (s *personalSource) place() string { return s.cursors.person(s.caller.UserID, s.at) }

// append adds what the caller hears of an event, if anything, with the cursor
// of where the stream is.
func (s *personalSource) append(batch *[]any, told *live.Told) error {
	switch f := told.Fact.(type) {
	case talk.Moved, talk.RoomCreated:
		return nil
	case talk.MessagePosted:
		if !f.For(s.caller.UserID) {
			return nil
		}
	case talk.SessionRevoked:
		s.ended = s.ended || f.SessionID == s.caller.SessionID
	}
	body, err := spelled(told, wayPersonal, s.json, func(e talk.Event) proto.Message { return personalEvent(e) })
	if err != nil {
		return err
	}
	*batch = append(*batch, &frame{cursor: s.place(), body: body})
	return nil
}

// end is that the caller's own session has ended, once they were told.
func (s *personalSource) end() error {
	if s.ended {
		return talk.ErrSessionRevoked
	}
	return nil
}

// next waits for events.
func (s *personalSource) next(ctx, quiet context.Context) ([]any, error) {
	return s.queue.next(ctx, quiet, s.handle)
}

func (s *personalSource) handle(ctx context.Context, arrived []*live.Told) (batch []any, err error) {
	for i, told := range arrived {
		before := s.at
		switch {
		case told.Topic == talk.UserTopic(s.caller.UserID):
			err = s.mine(ctx, &batch, told)
		case s.at.room != "" && told.Topic == talk.RoomTopic(s.at.room):
			err = s.theirs(ctx, &batch, told)
		}
		if err != nil {
			s.at, s.left = before, arrived[i:] // it was not told, so that the cursor to come back with stays before it
			return batch, err
		}
		if err := s.end(); err != nil {
			return batch, err
		}
	}
	return batch, nil
}

// mine is an event of the caller's own topic.
func (s *personalSource) mine(ctx context.Context, batch *[]any, told *live.Told) error {
	if told.Seq <= s.at.seq {
		return nil
	}
	s.at.seq = told.Seq
	if told.Fact == nil {
		return s.again(ctx, batch, freev1.SnapshotReason_SNAPSHOT_REASON_HEALED)
	}
	if _, went := told.Fact.(talk.Moved); went && told.Seq > s.moved {
		return s.again(ctx, batch, freev1.SnapshotReason_SNAPSHOT_REASON_ROOM_CHANGED)
	}
	return s.append(batch, told)
}

// theirs is an event of the room.
func (s *personalSource) theirs(ctx context.Context, batch *[]any, told *live.Told) error {
	if told.Seq <= s.at.roomSeq {
		return nil
	}
	if told.Fact == nil {
		return s.again(ctx, batch, freev1.SnapshotReason_SNAPSHOT_REASON_HEALED)
	}
	s.at.roomSeq = told.Seq
	if f, ok := told.Fact.(talk.ParticipantUpdated); ok && f.Participant.User.ID == s.caller.UserID {
		if s.returns = 0; f.Participant.State == talk.Reconnecting {
			s.Presence.Seated(ctx, s.caller.UserID, talk.Reconnecting)
		}
	}
	return s.append(batch, told)
}

// again sends the state, of where the caller is now. Who leaves is nowhere, so
// that who comes back is told of it; and what is lost is left to be asked for.
func (s *personalSource) again(ctx context.Context, batch *[]any, reason freev1.SnapshotReason) error {
	switch {
	case s.leaving && reason == freev1.SnapshotReason_SNAPSHOT_REASON_HEALED:
		return talk.ErrSessionRevoked
	case s.leaving:
		return s.enter(ctx, "")
	}
	now, err := s.settle(ctx)
	if err == nil {
		*batch = append(*batch, s.snapshot(now, reason))
	}
	return err
}

func (s *personalSource) heartbeat() any {
	return &freev1.ConnectResponse{
		Cursor: s.place(), Time: s.now(), Event: &freev1.ConnectResponse_Heartbeat{Heartbeat: &freev1.Heartbeat{}},
	}
}

func (s *personalSource) goAway(after time.Duration) any {
	s.back = after
	return &freev1.ConnectResponse{
		Cursor: s.place(), Time: s.now(),
		Event: &freev1.ConnectResponse_GoAway{GoAway: &freev1.GoAway{ReconnectAfter: durationpb.New(after)}},
	}
}

// farewell waits for the event that says that the caller's session has ended:
// nodes know of it before the event is here. Where it is here, it may have come
// with one that could not be told: who sat somewhere has moved before.
func (s *personalSource) farewell(ctx context.Context) []any {
	s.leaving = true
	all, err := s.handle(ctx, s.left)
	for err == nil && !s.ended && s.queue.listener != nil {
		var batch []any
		batch, err = s.next(ctx, ctx)
		all = append(all, batch...)
	}
	s.ended = true // whether the event came or not
	return all
}

func (s *personalSource) close() {
	if s.ear != nil {
		s.ear.Close()
	}
	if s.inner != nil {
		s.inner.Close()
	}
	if s.detach != nil {
		s.detach(live.Parting{AtOnce: s.ended, Back: s.back})
	}
}

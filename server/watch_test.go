package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

// roomPast is the history of one room.
type roomPast struct {
	pastOf

	room talk.LiveRoom
}

// LiveRoom is talk.History's.
func (p roomPast) LiveRoom(context.Context, talk.RoomID) (talk.LiveRoom, error) { return p.room, nil }

// TopicSeqs is talk.History's.
func (p roomPast) TopicSeqs(context.Context, []talk.Topic) (map[talk.Topic]int64, error) {
	return map[talk.Topic]int64{talk.RoomTopic(firstOne): p.room.Seq}, nil
}

// watchFrom is what the stream of a room begins with, from the cursor of seq 6
// or 7, where 7 was the last event; and how the stream ends, if it does.
func watchFrom(t *testing.T, seq int64, closedAt time.Time) ([]any, error) {
	t.Helper()
	past := roomPast{pastOf: pastOf{events: []talk.Event{{Topic: talk.RoomTopic(firstOne), Seq: 7, Fact: talk.RoomClosed{RoomID: firstOne}}}}}
	past.room.ID, past.room.Seq, past.room.ClosedAt = firstOne, 7, closedAt
	hub, err := live.NewHub(past, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	parts := &liveParts{Live: Live{History: past, Hub: hub, Now: time.Now}, cursors: newCursors("history")}
	parts.Bans = func(context.Context, talk.RoomID) ([]talk.RoomBan, error) { return nil, nil }
	s := &roomSource{liveParts: parts, caller: bobsID, id: firstOne, cursor: parts.cursors.room(firstOne, seq)}
	defer s.close()
	return s.first(t.Context())
}

// A stream that ends says why: who has heard already that the room is closed
// gets its state, and who has not hears of it.
func TestAStreamOfAClosedRoomSaysSo(t *testing.T) {
	t.Parallel()
	begin := func(batch []any) *freev1.WatchRoomResponse { return batch[0].(*freev1.WatchRoomResponse) }

	batch, err := watchFrom(t, 7, time.Now())
	if got := begin(batch).GetSnapshot().GetRoom(); got.GetStatus() != freev1.RoomStatus_ROOM_STATUS_CLOSED || len(batch) != 1 || !errors.Is(err, io.EOF) {
		t.Errorf("after room_closed: %v, %v", batch, err)
	}
	batch, err = watchFrom(t, 6, time.Now())
	if begin(batch).GetResumed().GetReplayed() != 1 || len(batch) != 2 || !errors.Is(err, io.EOF) {
		t.Errorf("before room_closed: %v, %v", batch, err)
	}
	batch, err = watchFrom(t, 7, time.Time{})
	if begin(batch).GetResumed() == nil || len(batch) != 1 || err != nil {
		t.Errorf("in an open room: %v, %v", batch, err)
	}
}

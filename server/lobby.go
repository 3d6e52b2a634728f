package server

import (
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

// snapshotRooms is how many rooms one message of a snapshot holds.
const snapshotRooms = 200

// WatchRooms streams the lobby.
func (h roomHandler) WatchRooms(ctx context.Context, req *freev1.WatchRoomsRequest, _ free2talkv1connect.RoomServiceWatchRoomsServerStream) error {
	return h.live.streams.run(ctx, &lobbySource{liveParts: h.live, filter: lobbyFilter(req), cursor: req.GetCursor()})
}

func lobbyFilter(req *freev1.WatchRoomsRequest) live.Filter {
	return live.Filter{Language: talk.CanonicalLanguage(strings.ToLower(req.GetLanguage())), Level: talk.Level(req.GetLevel())}
}

// lobbySource is the stream of the open rooms that a filter finds.
type lobbySource struct {
	*liveParts

	filter live.Filter
	cursor string

	watch *live.Watch
	mark  talk.Mark
}

// list is what a cursor of the lobby is bound to.
func (s *lobbySource) list() []byte {
	return pageList([]string{"lobby", s.filter.Language, strconv.Itoa(int(s.filter.Level))})
}

func (s *lobbySource) place(mark talk.Mark) string {
	place := binary.AppendUvarint(append([]byte{}, s.list()...), mark.Tx)
	return s.cursors.seal(cursorOfLobby, binary.AppendUvarint(place, uint64(mark.ID)))
}

// since is the mark of the cursor, or why there is none to go on from.
func (s *lobbySource) since() (talk.Mark, freev1.SnapshotReason, error) {
	if s.cursor == "" {
		return talk.Mark{}, freev1.SnapshotReason_SNAPSHOT_REASON_STARTED, nil
	}
	place, ours, err := s.cursors.open(cursorOfLobby, s.cursor)
	if err != nil {
		return talk.Mark{}, 0, err
	}
	if len(place) < pageListLen || string(place[:pageListLen]) != string(s.list()) {
		return talk.Mark{}, 0, talk.ErrBadCursor
	}
	p := placeReader{left: place[pageListLen:]}
	mark := talk.Mark{Tx: uint64(p.seq()), ID: p.seq()}
	if p.end() != nil {
		return talk.Mark{}, 0, talk.ErrBadCursor
	}
	if !ours {
		return mark, freev1.SnapshotReason_SNAPSHOT_REASON_HISTORY_LOST, nil
	}
	return mark, 0, nil
}

// first is the state, or what was missed since the cursor.
func (s *lobbySource) first(ctx context.Context) ([]any, error) {
	since, reason, err := s.since()
	if err != nil {
		return nil, err
	}
	rooms := s.begin()
	if reason == 0 {
		var missed []any
		if missed, reason, err = s.missed(ctx, since); err != nil {
			return nil, err
		}
		if reason == 0 {
			resumed := &freev1.WatchRoomsResponse{
				Cursor: s.cursor, Time: s.now(),
				Event: &freev1.WatchRoomsResponse_Resumed{Resumed: &freev1.Resumed{Replayed: int32(len(missed))}},
			}
			return append([]any{resumed}, missed...), nil
		}
	}
	return s.snapshot(rooms, reason), nil
}

// begin watches anew and returns the rooms as they are.
func (s *lobbySource) begin() []talk.Room {
	if s.watch != nil {
		s.watch.Close()
	}
	var rooms []talk.Room
	rooms, s.mark, s.watch = s.Lobby.Watch(s.filter)
	return rooms
}

// snapshot is in as many messages as it takes, each made when it is sent; only
// the last has a cursor.
func (s *lobbySource) snapshot(rooms []talk.Room, reason freev1.SnapshotReason) []any {
	var batch []any
	for len(rooms) > snapshotRooms {
		part := rooms[:snapshotRooms]
		rooms = rooms[snapshotRooms:]
		batch = append(batch, later(func() any { return s.part(part, reason) }))
	}
	cursor := s.place(s.mark)
	return append(batch, later(func() any {
		res := s.part(rooms, reason)
		res.Cursor, res.GetSnapshot().Last = cursor, true
		return res
	}))
}

// part is one message of a snapshot.
func (s *lobbySource) part(rooms []talk.Room, reason freev1.SnapshotReason) *freev1.WatchRoomsResponse {
	return &freev1.WatchRoomsResponse{
		Time:  s.now(),
		Event: &freev1.WatchRoomsResponse_Snapshot{Snapshot: &freev1.LobbySnapshot{Reason: reason, Rooms: each(rooms, wireRoom)}},
	}
}

// missed is what became of the rooms that changed after a mark, each once; or
// why that cannot be told. It goes to the end of the table and not to the
// watch's mark: the index may hold more than that, which the watch will not
// tell. What the watch does tell may have been told here already.
func (s *lobbySource) missed(ctx context.Context, since talk.Mark) ([]any, freev1.SnapshotReason, error) {
	changed := missedRooms{filter: s.filter, known: map[talk.RoomID]*missedRoom{}}
	begin := since
	for events := 0; ; {
		page, err := s.History.EventsAfter(ctx, since, replayMost)
		if errors.Is(err, talk.ErrHistoryGone) {
			return nil, freev1.SnapshotReason_SNAPSHOT_REASON_CURSOR_TOO_OLD, nil
		}
		if err != nil {
			return nil, 0, err
		}
		for i := range page {
			changed.note(page[i].Event)
		}
		if events += len(page); events > 10*replayMost || len(changed.ids) > replayMost {
			return nil, freev1.SnapshotReason_SNAPSHOT_REASON_FELL_BEHIND, nil
		}
		if len(page) < replayMost {
			break
		}
		since = page[len(page)-1].Mark
	}
	rooms, err := s.History.RoomsByID(ctx, changed.ids)
	if err != nil {
		return nil, 0, err
	}
	var batch []any
	for _, room := range rooms {
		if kind := changed.kind(room); kind != 0 {
			batch = append(batch, s.message(live.Change{Kind: kind, Room: room}))
		}
	}
	if s.mark.Before(begin) { // another node had read further
		s.mark = begin
	}
	return batch, 0, nil
}

// missedRooms are the rooms that changed while somebody was away, in the order
// of their first change.
type missedRooms struct {
	filter live.Filter
	ids    []talk.RoomID
	known  map[talk.RoomID]*missedRoom
}

type missedRoom struct{ opened, found bool } // meanwhile; found is whether the filter did, as far as is known

// note takes the next event.
func (m *missedRooms) note(e talk.Event) {
	kind, name, _ := strings.Cut(string(e.Topic), ":")
	if _, said := e.Fact.(talk.MessagePosted); said || kind != "room" {
		return
	}
	id := talk.RoomID(name)
	if m.known[id] == nil {
		m.ids, m.known[id] = append(m.ids, id), &missedRoom{}
	}
	switch f := e.Fact.(type) {
	case talk.RoomCreated:
		m.known[id].opened = true
		m.known[id].found = m.known[id].found || m.filter.Finds(f.Room)
	case talk.RoomUpdated:
		m.known[id].found = m.known[id].found || m.filter.Finds(f.Room)
	}
}

// kind is how a room is told of as it is now; 0 where it is not, since the
// filter has hidden it for all of its life.
func (m *missedRooms) kind(room talk.Room) live.ChangeKind {
	was := m.known[room.ID]
	switch {
	case was.opened && !was.found && !m.filter.Finds(room):
		return 0
	case !room.Open():
		return live.Closed
	case was.opened:
		return live.Created
	}
	return live.Updated
}

func (s *lobbySource) message(c live.Change) *freev1.WatchRoomsResponse {
	res := &freev1.WatchRoomsResponse{Time: wireTime(c.Room.UpdatedAt)}
	switch c.Kind {
	case live.Created:
		res.Time = wireTime(c.Room.CreatedAt)
		res.Event = &freev1.WatchRoomsResponse_RoomCreated{RoomCreated: &freev1.RoomCreated{Room: wireRoom(c.Room)}}
	case live.Closed:
		res.Time = wireTime(c.Room.ClosedAt)
		res.Event = &freev1.WatchRoomsResponse_RoomClosed{RoomClosed: wireClosed(talk.RoomClosed{
			RoomID: c.Room.ID, Reason: c.Room.CloseReason, Version: c.Room.Version,
		})}
	case live.Updated, live.Healed:
		res.Time = s.now() // a room does not say when people came and went
		res.Event = &freev1.WatchRoomsResponse_RoomUpdated{RoomUpdated: &freev1.RoomUpdated{Room: wireRoom(c.Room)}}
	}
	return res
}

// next waits for changes. The cursor is on the last of what came together.
func (s *lobbySource) next(_, quiet context.Context) ([]any, error) {
	for {
		if err := s.watch.Wait(quiet); err != nil {
			return nil, err
		}
		changes, mark, kept := s.watch.Take()
		if !kept {
			return nil, talk.ErrSlowConsumer.After(comeBack())
		}
		var batch []any
		for _, c := range changes {
			if c.Kind == live.Healed {
				return s.snapshot(s.begin(), freev1.SnapshotReason_SNAPSHOT_REASON_HEALED), nil
			}
			batch = append(batch, s.message(c))
		}
		if len(batch) == 0 {
			continue
		}
		if last, ok := batch[len(batch)-1].(*freev1.WatchRoomsResponse); ok && s.mark.Before(mark) {
			s.mark, last.Cursor = mark, s.place(mark)
		}
		return batch, nil
	}
}

func (s *lobbySource) heartbeat() any {
	if mark, all := s.watch.Rest(); all && s.mark.Before(mark) {
		s.mark = mark
	}
	return &freev1.WatchRoomsResponse{
		Cursor: s.place(s.mark), Time: s.now(), Event: &freev1.WatchRoomsResponse_Heartbeat{Heartbeat: &freev1.Heartbeat{}},
	}
}

func (s *lobbySource) goAway(after time.Duration) any {
	return &freev1.WatchRoomsResponse{
		Cursor: s.place(s.mark), Time: s.now(),
		Event: &freev1.WatchRoomsResponse_GoAway{GoAway: &freev1.GoAway{ReconnectAfter: durationpb.New(after)}},
	}
}

func (s *lobbySource) farewell(context.Context) []any { return nil }

func (s *lobbySource) close() {
	if s.watch != nil {
		s.watch.Close()
	}
}

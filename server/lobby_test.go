package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httputil"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

// slowReader reads little at a time, so many bytes a second.
type slowReader struct {
	from io.Reader
	rate int
}

func (r slowReader) Read(b []byte) (int, error) {
	time.Sleep(100 * time.Millisecond) // synctest's clock
	return r.from.Read(b[:min(len(b), r.rate/10)])
}

// lobbyStream reads a stream's messages as Connect's binary codec writes them.
type lobbyStream struct {
	t    *testing.T
	from io.Reader
}

func (s lobbyStream) receive() *freev1.WatchRoomsResponse {
	s.t.Helper()
	var head [envelopeHead]byte
	if _, err := io.ReadFull(s.from, head[:]); err != nil {
		s.t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint32(head[1:]))
	var res freev1.WatchRoomsResponse
	if _, err := io.ReadFull(s.from, body); err != nil {
		s.t.Fatal(err)
	}
	if err := proto.Unmarshal(body, &res); err != nil {
		s.t.Fatal(err)
	}
	return &res
}

// Who reads slowly, and does read, gets all of a snapshot that takes longer
// than one write may; and hears after it of what changed meanwhile.
func TestASlowReaderGetsTheWholeLobby(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rooms := make([]talk.Room, 10*snapshotRooms+1)
		for i := range rooms {
			rooms[i] = talk.Room{ID: talk.RoomID(fmt.Sprintf("%08d", i)), Topic: strings.Repeat("x", 500), Version: 1, Level: talk.LevelAny, Languages: []string{"en"}}
		}
		lobby := live.NewLobby()
		lobby.Reset(rooms, talk.Mark{ID: 1})
		ours, theirs := net.Pipe()
		defer ours.Close()
		src := &lobbySource{liveParts: &liveParts{Live: Live{Lobby: lobby, Now: time.Now}, cursors: newCursors("history")}}
		defer src.close()
		sent := make(chan error, 1)
		go func() {
			defer theirs.Close() // or the test waits for what is not sent
			out := sender{writer: &heldWriter{conn: theirs, begun: true}}
			batch, err := src.first(t.Context())
			if err = errors.Join(err, out.send(batch...)); err == nil {
				batch, err = src.next(t.Context(), t.Context())
				err = errors.Join(err, out.send(batch...))
			}
			sent <- err
		}()
		began := time.Now()
		stream := lobbyStream{t, httputil.NewChunkedReader(slowReader{ours, 40_000})}
		shown := 0
		for last := false; !last; {
			part := stream.receive()
			if shown == 0 {
				changeAll(lobby, rooms)
			}
			shown += len(part.GetSnapshot().GetRooms())
			if last = part.GetSnapshot().GetLast(); last != (part.GetCursor() != "") {
				t.Errorf("last is %v, and the cursor %q", last, part.GetCursor())
			}
		}
		if took := time.Since(began); shown != len(rooms) || took < 2*writeWithin {
			t.Errorf("%d rooms of %d came, within %v", shown, len(rooms), took)
		}
		for range rooms {
			if change := stream.receive(); change.GetRoomUpdated().GetRoom().GetVersion() != 2 {
				t.Fatalf("and then %v", change)
			}
		}
		if err := <-sent; err != nil {
			t.Error(err)
		}
	})
}

// changeAll has every room change once.
func changeAll(lobby *live.Lobby, rooms []talk.Room) {
	for i := range rooms {
		rooms[i].Version = 2
	}
	lobby.Apply(rooms, &talk.Mark{ID: 2})
}

// A part of a snapshot is made when it is sent.
func TestALobbyIsNotSpelledOutAtOnce(t *testing.T) {
	t.Parallel()
	src := &lobbySource{liveParts: &liveParts{Live: Live{Lobby: live.NewLobby(), Now: time.Now}, cursors: newCursors("history")}}
	for _, size := range []int{0, 1, snapshotRooms, snapshotRooms + 1} {
		shown := 0
		batch := src.snapshot(make([]talk.Room, size), freev1.SnapshotReason_SNAPSHOT_REASON_STARTED)
		for i, message := range batch {
			part := message.(later)().(*freev1.WatchRoomsResponse)
			shown += len(part.GetSnapshot().GetRooms())
			if last := i == len(batch)-1; part.GetSnapshot().GetLast() != last {
				t.Errorf("of %d rooms: part %d is the last: %v", size, i, !last)
			}
		}
		if shown != size {
			t.Errorf("%d rooms of %d are shown", shown, size)
		}
	}
}

package main

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
)

// failover is two nodes that reach Postgres each by a way of its own, which is
// led to a standby that lacks the last commits.
type failover struct {
	*world
	t                *testing.T
	primary, standby *testenv.PostgresServer
	ways             []*proxy

	ada, bob, eve *person // eve registers in the commits that are lost
	kept, lost    string  // rooms
	cursor        string  // of the kept room, after what is lost
	open          []*recording
	lobbies       []*lobbyWatcher
	refused       atomic.Int64
}

// TestFailover_the_last_commits_are_lost: what never happened is served by
// nobody any more, and what happens now is heard by all.
func TestFailover_the_last_commits_are_lost(t *testing.T) {
	t.Parallel()
	f := newFailover(t)
	f.begin()
	f.loseCommits()
	f.primary.Kill()
	f.standby.Promote()
	defer f.knockAlways()()

	for i, n := range f.nodes { // the second notices later
		f.ways[i].lead(f.standby.Addr())
		cuts := 0 // the way breaks again and again at first, wherever the node is with beginning anew
		f.eventually(10*time.Second, "it is steady", func() bool { f.ways[i].cut(); cuts++; return cuts > 50 })
		began := time.Now()
		f.eventually(10*time.Second, n.url+" begins anew", func() bool { return f.isRight(n) })
		t.Logf("node %d is right after %v", i, time.Since(began))
		for range 50 {
			f.reads(last(f.world)) // of before, where it does not know yet
			if !f.isRight(n) {
				t.Fatal("what one node did not know yet came back to the other")
			}
		}
	}
	t.Run("streams go away", f.wentAway)
	t.Run("who comes back is told the state, and then what happens", f.comeBack)
	t.Run("the lobby is the one that there is", f.lobby)
	t.Run("others join", func(t *testing.T) { join(t, f.as(f.nodes[1], f.bob), f.kept) })
	t.Run("no call was refused", func(t *testing.T) {
		if n := f.refused.Load(); n > 0 {
			t.Errorf("%d were", n)
		}
	})
}

func newFailover(t *testing.T) *failover {
	f := &failover{t: t, primary: testenv.StartPostgres(t)}
	var urls []string
	for range 2 {
		way := newProxy(t, f.primary.Addr())
		f.ways = append(f.ways, way)
		urls = append(urls, strings.Replace(f.primary.URL(), f.primary.Addr(), way.addr(), 1))
	}
	f.world = newWorld(t, backend{"led postgres", 2, func(t testing.TB, s *Settings) {
		s.DatabaseURL = urls[0]
		s.RedisURL, s.RedisPrefix = testenv.Redis(t)
	}}, 1)
	f.settings.DatabaseURL = urls[1]
	f.start()
	f.redisUsed()
	return f
}

// begin is what the standby has as well.
func (f *failover) begin() {
	f.ada, f.bob = f.person(), f.person()
	f.kept = f.room(f.ada, 5).GetId()
	f.rename("kept")
	f.standby = f.primary.Standby()
	f.standby.Detach(f.primary)
}

// loseCommits is what it has not, which both nodes show, hear of, and cache.
func (f *failover) loseCommits() {
	carol := f.person()
	f.eve = f.person()
	f.lost = f.room(carol, 5).GetId()
	for _, n := range f.nodes {
		f.open = append(f.open, watch(f.Context(), f.t, f.as(n, f.bob), f.kept, ""))
		lobby := &lobbyWatcher{over: make(chan struct{}), rooms: map[string]*free2talkv1.Room{}}
		go lobby.follow(f.Context(), f.client(n, client.WithRetries(client.Retries{})))
		f.lobbies = append(f.lobbies, lobby)
	}
	for range 3 {
		f.rename("lost")
	}
	for i, heard := range f.open {
		heard.await(f.t, "the last change", func(events []*free2talkv1.WatchRoomResponse) bool {
			f.cursor = events[len(events)-1].GetCursor()
			return len(events) == 4 && isSnapshot(events)
		})
		f.eventually(5*time.Second, "it is listed, and cached", func() bool {
			return f.reads(f.nodes[i]) == shown{kept: "lost", listed: 2}
		})
	}
}

// rename changes the kept room.
func (f *failover) rename(name string) {
	f.Helper()
	_, err := f.as(f.nodes[0], f.ada).Rooms.UpdateRoom(f.Context(), &free2talkv1.UpdateRoomRequest{
		Room:       &free2talkv1.Room{Id: f.kept, Name: name},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name"}},
	})
	if err != nil {
		f.Fatal(err)
	}
}

// shown is what a node shows.
type shown struct {
	kept         string // the kept room's name
	lost, person string // why there is no lost room, and nobody who registered then
	listed       int    // rooms
}

func (f *failover) reads(n *testNode) (is shown) {
	c := f.client(n)
	byID := func(id string) *free2talkv1.GetRoomRequest {
		return &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: id}}
	}
	room, err := c.Rooms.GetRoom(f.Context(), byID(f.kept))
	if err == nil {
		is.kept = room.GetRoom().GetName()
	}
	_, lost := c.Rooms.GetRoom(f.Context(), byID(f.lost))
	_, person := c.Users.GetUser(f.Context(), &free2talkv1.GetUserRequest{Key: &free2talkv1.GetUserRequest_Id{Id: f.eve.id()}})
	page, err := c.Rooms.ListRooms(f.Context(), &free2talkv1.ListRoomsRequest{})
	if err == nil {
		is.listed = len(page.GetRooms())
	}
	is.lost, is.person = client.Reason(lost), client.Reason(person)
	return is
}

// isRight is whether it shows what there is.
func (f *failover) isRight(n *testNode) bool {
	return f.reads(n) == shown{kept: "kept", lost: "ROOM_NOT_FOUND", person: "USER_NOT_FOUND", listed: 1}
}

// knockAlways asks each node all the time for what needs no database, until it
// is told to end.
func (f *failover) knockAlways() (end func()) {
	ctx, cancel := context.WithCancel(f.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ctx.Err() == nil; i++ {
			<-tick.C
			reply, err := f.http.Get(f.nodes[i%2].url + "/healthz")
			if err != nil || reply.StatusCode != http.StatusOK {
				f.refused.Add(1)
				continue
			}
			_ = reply.Body.Close()
		}
	}()
	return func() { cancel(); <-over }
}

func (f *failover) wentAway(t *testing.T) {
	for i, heard := range f.open {
		if err := heard.end(t); err != nil || heard.events[len(heard.events)-1].GetGoAway() == nil {
			t.Errorf("on node %d it ends with %v, after %v", i, err, heard.events[len(heard.events)-1])
		}
	}
}

// comeBack has seqs given again that were given in what is lost.
func (f *failover) comeBack(t *testing.T) {
	for range 4 {
		f.rename("again")
	}
	testenv.Record(t, testenv.Figure{Row: "E2", What: "resumed as if nothing were lost", Of: int64(len(f.nodes)), Each: "streams, after a failover that lost commits"})
	lost := free2talkv1.SnapshotReason_SNAPSHOT_REASON_HISTORY_LOST
	var heard []*recording
	for i, n := range f.nodes {
		again := watch(f.Context(), t, f.as(n, f.bob), f.kept, f.cursor)
		again.await(t, "the beginning", func(events []*free2talkv1.WatchRoomResponse) bool { return len(events) > 0 })
		if first := again.events[0].GetSnapshot(); first.GetReason() != lost || first.GetRoom().GetName() != "again" {
			t.Errorf("node %d begins with %v", i, again.events[0])
		}
		heard = append(heard, again)
	}
	f.rename("at last")
	for _, again := range heard {
		again.await(t, "the change", func(events []*free2talkv1.WatchRoomResponse) bool {
			return events[len(events)-1].GetRoomUpdated().GetRoom().GetName() == "at last"
		})
		ordered(t, again.events)
	}
}

func (f *failover) lobby(*testing.T) {
	for i, lobby := range f.lobbies {
		f.eventually(10*time.Second, "the lobby of "+f.nodes[i].url, func() bool {
			lobby.mu.Lock()
			defer lobby.mu.Unlock()
			return lobby.whole && len(lobby.rooms) == 1 && lobby.rooms[f.kept].GetName() == "at last"
		})
	}
}

// TestHistory_is_renamed under a node that runs, as whoever restores into the
// same cluster is told to do.
func TestHistory_is_renamed(t *testing.T) {
	t.Parallel()
	for _, b := range []backend{onEmbedded, onPostgres} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, b, 1)
			ada := w.person()
			room := w.room(ada, 5).GetId()
			heard := watch(t.Context(), t, ada.Client, room, "")
			heard.await(t, "the state", isSnapshot)
			if _, err := w.nodes[0].store.DB().NewRaw("UPDATE history SET id = 'another'").Exec(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := heard.end(t); err != nil || heard.events[len(heard.events)-1].GetGoAway() == nil {
				t.Fatalf("it ends with %v, after %v", err, heard.events)
			}
			again := watch(t.Context(), t, ada.Client, room, heard.events[0].GetCursor())
			again.await(t, "the state again", isSnapshot)
			if reason := again.events[0].GetSnapshot().GetReason(); reason != free2talkv1.SnapshotReason_SNAPSHOT_REASON_HISTORY_LOST {
				t.Errorf("it is told because of %v", reason)
			}
			if _, err := ada.Rooms.SendMessage(t.Context(), &free2talkv1.SendMessageRequest{RoomId: room, Text: "hola"}); err != nil {
				t.Fatal(err)
			}
			again.await(t, "the message", func(events []*free2talkv1.WatchRoomResponse) bool {
				return events[len(events)-1].GetMessagePosted().GetText() == "hola"
			})
			if status, body := w.get(w.nodes[0], "/readyz"); status != http.StatusOK {
				t.Errorf("it is not ready: %s", body)
			}
		})
	}
}

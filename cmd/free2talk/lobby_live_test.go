package main

import (
	"context"
	"testing"
	"time"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// watchLobby opens the lobby's stream and reads its first message.
func watchLobby(ctx context.Context, t *testing.T, c *client.Client, language, cursor string) (first *free2talkv1.WatchRoomsResponse, next func() *free2talkv1.WatchRoomsResponse) {
	t.Helper()
	stream, err := c.Rooms.WatchRooms(ctx, &free2talkv1.WatchRoomsRequest{Language: language, Cursor: cursor})
	if err != nil {
		t.Fatal(err)
	}
	next = func() *free2talkv1.WatchRoomsResponse {
		t.Helper()
		res, err := stream.Receive()
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	return next(), next
}

// E2: the lobby goes on from a cursor with all that happened since, also while
// a long transaction keeps it from being settled, and on a node that knew of it
// before the table said so. What the filter hides is not told.
func TestE2_the_lobby_goes_on_whole(t *testing.T) {
	w := newWorld(t, onPostgres, 2)
	long := w.stranger(w.settings.DatabaseURL)
	long.run("BEGIN")
	long.run("SELECT pg_current_xact_id()") // from here on nothing is settled
	defer long.run("ROLLBACK")
	cursors := map[string]string{}
	for _, language := range []string{"es", "fr"} {
		ctx, hangUp := context.WithTimeout(t.Context(), 20*time.Second)
		first, _ := watchLobby(ctx, t, w.client(w.nodes[0]), language, "")
		if !first.GetSnapshot().GetLast() || first.GetCursor() == "" {
			t.Fatalf("it begins with %v", first)
		}
		cursors[language] = first.GetCursor()
		hangUp()
	}
	room := w.room(w.person(), 3)
	for i, n := range w.nodes {
		w.eventually(10*time.Second, "the node knows the room", func() bool {
			reply, err := w.client(n).Rooms.ListRooms(t.Context(), &free2talkv1.ListRoomsRequest{})
			return err == nil && len(reply.GetRooms()) == 1
		})
		ctx, hangUp := context.WithTimeout(t.Context(), 20*time.Second)
		first, next := watchLobby(ctx, t, w.client(n), "es", cursors["es"])
		if first.GetResumed().GetReplayed() != 1 {
			t.Fatalf("node %d goes on with %v", i, first)
		}
		if got := next(); got.GetRoomCreated().GetRoom().GetId() != room.GetId() {
			t.Errorf("node %d tells %v", i, got)
		}
		if first, _ = watchLobby(ctx, t, w.client(n), "fr", cursors["fr"]); first.GetResumed() == nil || first.GetResumed().GetReplayed() != 0 {
			t.Errorf("node %d tells of what nobody asked for: %v", i, first)
		}
		hangUp()
	}
}

package client_test

import (
	"context"
	"slices"
	"strconv"
	"testing"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
)

// lobbyPart is a part of a snapshot of the lobby; only the last has a cursor.
func lobbyPart(cursor string) *free2talkv1.WatchRoomsResponse {
	return &free2talkv1.WatchRoomsResponse{Cursor: cursor, Event: &free2talkv1.WatchRoomsResponse_Snapshot{
		Snapshot: &free2talkv1.LobbySnapshot{Rooms: []*free2talkv1.Room{room()}, Last: cursor != ""},
	}}
}

// A connection that breaks within a snapshot of several messages is not gone on
// from: what came has replaced what was there, and is not all.
func TestWatchRoomsBeginsABrokenSnapshotAnew(t *testing.T) {
	t.Parallel()
	f := start()
	t.Cleanup(f.Close)
	var cursors []string
	scenes := [][]*free2talkv1.WatchRoomsResponse{
		{lobbyPart(""), lobbyPart("a")},
		{lobbyPart(""), lobbyPart("")},
		{lobbyPart(""), lobbyPart("b")},
		{},
	}
	f.watchRooms = func(_ context.Context, req *free2talkv1.WatchRoomsRequest, stream free2talkv1connect.RoomServiceWatchRoomsServerStream) error {
		cursors = append(cursors, req.GetCursor())
		for _, message := range scenes[len(cursors)-1] {
			if err := stream.Send(message); err != nil {
				return err
			}
		}
		if len(cursors) == len(scenes) {
			return fails(connect.CodeNotFound, client.ReasonRoomNotFound)
		}
		return fails(connect.CodeInternal, "")
	}
	var yields []string
	for event, err := range f.signIn(t, client.WithClock(&clock{})).WatchRooms(t.Context(), &free2talkv1.WatchRoomsRequest{}) {
		if err != nil {
			break
		}
		yields = append(yields, strconv.FormatBool(event.GetSnapshot().GetLast()))
	}
	if !slices.Equal(cursors, []string{"", "a", "", "b"}) {
		t.Errorf("it goes on from %q", cursors)
	}
	if !slices.Equal(yields, []string{"false", "true", "false", "false", "false", "true"}) {
		t.Errorf("it yields %q", yields)
	}
}

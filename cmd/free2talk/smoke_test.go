package main

import (
	"testing"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

func TestWorld(t *testing.T) {
	for _, b := range []backend{onEmbedded, onPostgres, onCluster, onSentinel} {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, b, 2)
			ada, bob := w.person(), w.person()
			room := w.room(ada, 3)
			if _, err := bob.Rooms.JoinRoom(t.Context(), &free2talkv1.JoinRoomRequest{RoomId: room.GetId()}); err != nil {
				t.Fatal(err)
			}
			got, err := ada.Rooms.GetRoom(t.Context(), &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: room.GetId()}})
			if err != nil || len(got.GetParticipants()) != 2 {
				t.Fatalf("got %v, %v", got, err)
			}
		})
	}
}

// Command noop is what the shipped server is measured against: Connect
// handlers that return a constant message, and nothing around them; and streams
// that send each event by itself.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/types/known/timestamppb"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
)

type constant struct {
	free2talkv1connect.RoomServiceHandler // every other method is not called

	room *free2talkv1.GetRoomResponse
	list *free2talkv1.ListRoomsResponse

	watchers *watchers
}

// GetRoom returns the same room of some 600 bytes.
func (c constant) GetRoom(context.Context, *free2talkv1.GetRoomRequest) (*free2talkv1.GetRoomResponse, error) {
	return c.room, nil
}

// ListRooms returns the same twenty rooms.
func (c constant) ListRooms(context.Context, *free2talkv1.ListRoomsRequest) (*free2talkv1.ListRoomsResponse, error) {
	return c.list, nil
}

// LeaveRoom returns nothing.
func (constant) LeaveRoom(context.Context, *free2talkv1.LeaveRoomRequest) (*free2talkv1.LeaveRoomResponse, error) {
	return &free2talkv1.LeaveRoomResponse{}, nil
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where to listen")
	flag.Parse()
	srv := connect.NewServer()
	handler := newConstant()
	free2talkv1connect.RegisterRoomServiceHandler(srv, handler)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /publish", handler.publish)
	connecthttp.Mount(mux, srv)
	server := http.Server{Addr: *listen, Handler: mux, ReadHeaderTimeout: 5 * time.Second, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	fmt.Fprintln(os.Stderr, server.ListenAndServe())
	os.Exit(1)
}

func newConstant() constant {
	at := timestamppb.New(time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC))
	owner := &free2talkv1.UserSummary{Id: "01a20543-74d4-7ee7-b190-4e547e354f38", Username: "person-0", DisplayName: "Person 0"}
	room := &free2talkv1.Room{
		Id: "01a20543-7a88-715b-b71f-2d02a3eef732", Slug: "room-0-aaaaaaaa", Name: "A room to talk in", Topic: "What one would do with a year off",
		Languages: []string{"es-mx", "en"}, Level: free2talkv1.Level_LEVEL_BEGINNER, Capacity: 12, ParticipantCount: 4, Owner: owner,
		Status: free2talkv1.RoomStatus_ROOM_STATUS_OPEN, Version: 4, CreatedAt: at, UpdatedAt: at,
	}
	c := constant{watchers: &watchers{all: map[chan *free2talkv1.WatchRoomResponse]struct{}{}}, room: &free2talkv1.GetRoomResponse{Room: room}, list: &free2talkv1.ListRoomsResponse{NextPageToken: "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA", TotalSize: 100_000}}
	for range 4 {
		c.room.Participants = append(c.room.Participants, &free2talkv1.Participant{
			User: owner, Role: free2talkv1.ParticipantRole_PARTICIPANT_ROLE_MEMBER,
			State: free2talkv1.ParticipantState_PARTICIPANT_STATE_CONNECTED, JoinedAt: at,
		})
	}
	for range 20 {
		c.list.Rooms = append(c.list.Rooms, room)
	}
	return c
}

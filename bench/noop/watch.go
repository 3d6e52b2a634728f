package main

import (
	"context"
	"net/http"
	"strconv"
	"sync"

	"google.golang.org/protobuf/types/known/timestamppb"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
)

// watchers are the streams that are open.
type watchers struct {
	mu  sync.Mutex
	all map[chan *free2talkv1.WatchRoomResponse]struct{}
}

// WatchRoom sends a snapshot, and then each event by itself, as one does who
// knows no better.
func (c constant) WatchRoom(ctx context.Context, _ *free2talkv1.WatchRoomRequest, stream free2talkv1connect.RoomServiceWatchRoomServerStream) error {
	events := make(chan *free2talkv1.WatchRoomResponse, 256)
	c.watchers.mu.Lock()
	c.watchers.all[events] = struct{}{}
	c.watchers.mu.Unlock()
	defer func() {
		c.watchers.mu.Lock()
		defer c.watchers.mu.Unlock()
		delete(c.watchers.all, events)
	}()
	next := &free2talkv1.WatchRoomResponse{Event: &free2talkv1.WatchRoomResponse_Snapshot{Snapshot: &free2talkv1.RoomSnapshot{Room: c.room.GetRoom()}}}
	for {
		if err := stream.Send(next); err != nil {
			return err
		}
		select {
		case next = <-events:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// publish sends everybody n events.
func (c constant) publish(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.FormValue("n"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	event := &free2talkv1.WatchRoomResponse{
		Cursor: "AYsfZxLYOx97AaIX3lILeT2pD87ojmlpdwAAAAAAAAABrnjmgCCn9KtUOdUAdRvhCKr4auStZJe87JnMXDEhlfg", Time: timestamppb.Now(),
		Event: &free2talkv1.WatchRoomResponse_RoomUpdated{RoomUpdated: &free2talkv1.RoomUpdated{Room: c.room.GetRoom()}},
	}
	c.watchers.mu.Lock()
	defer c.watchers.mu.Unlock()
	for range n {
		for events := range c.watchers.all {
			events <- event
		}
	}
}

package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// load is a few people who call without a pause.
type load struct {
	w     *world
	stop  context.CancelFunc
	done  sync.WaitGroup
	mu    sync.Mutex
	calls int
	errs  []error
}

func (w *world) loaded(p protocol, by *http.Client) *load {
	w.Helper()
	ctx, stop := context.WithCancel(w.Context())
	l := &load{w: w, stop: stop}
	w.Cleanup(l.halt)
	w.Cleanup(by.CloseIdleConnections)
	for i := range 6 {
		c := w.clientBy(w.nodes[0], p, client.WithHTTPClient(by))
		if _, err := c.Register(w.Context(), fmt.Sprintf("load-%s-%d@example.org", p.name, i), fmt.Sprintf("load-%s-%d", p.name, i), password); err != nil {
			w.Fatal(err)
		}
		l.done.Go(func() { l.run(ctx, c) })
	}
	return l
}

// run opens a room, looks at it and closes it, again and again. What is begun
// is finished: the end of the load fails no call.
func (l *load) run(ctx context.Context, c *client.Client) {
	last := context.WithoutCancel(ctx)
	for ctx.Err() == nil {
		opened, err := c.Rooms.CreateRoom(last, &free2talkv1.CreateRoomRequest{Name: "Under load", Languages: []string{"es"}})
		l.count(err)
		id := opened.GetRoom().GetId()
		if err != nil {
			continue
		}
		_, err = c.Rooms.GetRoom(last, &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: id}})
		l.count(err)
		_, err = c.Rooms.CloseRoom(last, &free2talkv1.CloseRoomRequest{RoomId: id})
		l.count(err)
	}
}

func (l *load) count(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	if err != nil {
		l.errs = append(l.errs, err)
	}
}

// after waits for so many calls more.
func (l *load) after(calls int) {
	l.w.Helper()
	l.mu.Lock()
	goal := l.calls + calls
	l.mu.Unlock()
	l.w.eventually(30*time.Second, "the calls are made", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.calls >= goal
	})
}

func (l *load) halt() {
	l.stop()
	l.done.Wait()
}

// end returns how many calls there were, and how those failed that did.
func (l *load) end() (int, []error) {
	l.halt()
	return l.calls, l.errs
}

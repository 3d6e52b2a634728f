package server

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptrace"
	"testing"

	"connectrpc.com/connect/v2"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
	"github.com/free2talk/free2talk/server/talk"
)

// succeeded is a server that answers in e's place, with handlers of its own.
func (e *edge) succeeded(fake *fakeHandlers) *Server {
	e.t.Helper()
	next, err := newServer(Config{Limiter: e.limiter, Identify: &fakeIdentifier{}, Log: e.config.Log}, fake.register)
	if err != nil {
		e.t.Fatal(err)
	}
	next.Succeed(e.Server)
	return next
}

// A call in flight finishes where it began; those that come then, on the same
// connection, are answered by the other server.
func TestSucceed(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	running, finish := make(chan struct{}), make(chan struct{})
	e.fake.set(func(context.Context, string) error {
		close(running)
		<-finish
		return nil
	})
	called := make(chan error, 1)
	go func() {
		_, err := e.rooms().GetRoom(context.WithoutCancel(t.Context()), getARoom())
		called <- err
	}()
	<-running
	client := &http.Client{Transport: &http.Transport{}}
	t.Cleanup(client.CloseIdleConnections)
	ready := func() (status int, reused bool) {
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(c httptrace.GotConnInfo) { reused = c.Reused }})
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		return res.StatusCode, reused
	}
	if status, _ := ready(); status != http.StatusOK {
		t.Fatalf("at first: %d", status)
	}
	fake := &fakeHandlers{}
	fake.set(func(context.Context, string) error { return talk.ErrRoomNotFound })
	e.succeeded(fake)
	retired := make(chan error, 1)
	go func() { retired <- e.Retire(context.WithoutCancel(t.Context())) }()
	<-e.retired
	if status, reused := ready(); status != http.StatusOK || !reused {
		t.Errorf("then: %d, on the same connection: %t", status, reused)
	}
	if _, err := e.rooms().GetRoom(t.Context(), getARoom()); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("the other server is not asked: %v", err)
	}
	select {
	case err := <-retired:
		t.Errorf("it did not wait for the call in flight: %v", err)
	default:
	}
	close(finish)
	if err := <-called; err != nil {
		t.Errorf("the call in flight: %v", err)
	}
	if err := <-retired; err != nil {
		t.Errorf("Retire: %v", err)
	}
}

// Streams of a server that was succeeded go away, however they are carried.
func TestSucceedSendsStreamsAway(t *testing.T) {
	inAllWays(t, func(t *testing.T, e *edge, s *streams, g *goingOn, stream free2talkv1connect.RoomServiceWatchRoomsClientStream) {
		e.streams = s
		e.succeeded(&fakeHandlers{})
		retired := make(chan error, 1)
		go func() { retired <- e.Retire(context.WithoutCancel(t.Context())) }()
		hears(t, stream, "go away")
		if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
			t.Errorf("it ended with %v", err)
		}
		g.closes(t)
		if err := <-retired; err != nil {
			t.Errorf("Retire: %v", err)
		}
	})
}

// Who asks whether it is well is not told that it leaves: it does not.
func TestSucceedEndsHealthWatch(t *testing.T) {
	t.Parallel()
	e, health, _ := newHealthEdge(t)
	watch := watched(t, health)
	e.succeeded(&fakeHandlers{})
	if err := e.Retire(t.Context()); err != nil {
		t.Errorf("Retire: %v", err)
	}
	if res, err := watch.Receive(); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("watch: %v, %v", res, err)
	}
	if res, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil || res.GetStatus() != serving {
		t.Errorf("check: %v, %v", res, err)
	}
}

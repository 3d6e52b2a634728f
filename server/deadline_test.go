package server

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// TestDeadline56 is checklist 56.
func TestDeadline56(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	left := make(chan time.Duration, 1)
	tell := func(ctx context.Context) {
		until, ok := ctx.Deadline()
		if !ok {
			t.Error("no deadline")
		}
		left <- time.Until(until)
	}
	e.fake.set(func(ctx context.Context, _ string) error { tell(ctx); return nil })
	e.fake.stream = func(ctx context.Context, _ func(*free2talkv1.WatchRoomsResponse) error) error { tell(ctx); return nil }
	for _, c := range []struct {
		name, path, header string
		least, most        time.Duration
	}{
		{"nothing said", getRoomPath, "", 4 * time.Second, 5 * time.Second},
		{"less than all", getRoomPath, "Connect-Timeout-Ms: 2000", time.Second, 2 * time.Second},
		{"more than the default", getRoomPath, "Connect-Timeout-Ms: 20000", 19 * time.Second, 20 * time.Second},
		{"more than the longest", getRoomPath, "Connect-Timeout-Ms: 9999999999", 29 * time.Second, 30 * time.Second},
		{"a stream, nothing said", watchRoomsPath, "", 53 * time.Minute, 66 * time.Minute},
		{"a stream, less", watchRoomsPath, "Connect-Timeout-Ms: 9000", 8 * time.Second, 9 * time.Second},
		{"a stream, more", watchRoomsPath, "Connect-Timeout-Ms: 9999999999", 53 * time.Minute, 66 * time.Minute},
		{"gRPC, more", getRoomPath, "Grpc-Timeout: 100S", 29 * time.Second, 30 * time.Second},
		{"gRPC, for ever", getRoomPath, "Grpc-Timeout: 99999999H", 29 * time.Second, 30 * time.Second},
		{"gRPC, less", getRoomPath, "Grpc-Timeout: 2S", time.Second, 2 * time.Second},
		{"gRPC, nothing said", getRoomPath, "X: y", 4 * time.Second, 5 * time.Second},
	} {
		e.callWith(c.path, c.header)
		if got := <-left; got < c.least || got > c.most {
			t.Errorf("%s: %v left, want %v to %v", c.name, got, c.least, c.most)
		}
	}
}

// callWith sends one request with one header, in the protocol that it belongs to.
func (e *edge) callWith(path, header string) {
	e.t.Helper()
	if header == "" {
		header = "X-Nothing: said"
	}
	room := `{"id": "` + aRoomID + `"}`
	switch {
	case path == watchRoomsPath:
		e.do(http.MethodPost, path, newReader(envelope(0, 2, "{}")), "Content-Type: application/connect+json", header)
	case header == "X: y" || len(header) > 4 && header[:4] == "Grpc":
		e.do(http.MethodPost, path, newReader(envelope(0, uint32(len(room)), room)), "Content-Type: application/grpc+json", header)
	default:
		e.post(path, room, header)
	}
}

func TestDeadlineIsSaid(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	e.fake.set(func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return errors.New("the driver says something else")
	})
	e.post(getRoomPath, `{"id": "`+aRoomID+`"}`, "Connect-Timeout-Ms: 20").expect(t, "deadline_exceeded", "")
	ctx, cancel := context.WithCancel(t.Context())
	runs := 0
	run := deadline(func(context.Context, connect.Spec, connect.ServerStream) error {
		runs++
		cancel()
		return errors.New("the driver says something else")
	})
	if err := run(ctx, connect.Spec{}, nil); errors.Is(err, context.Canceled) {
		t.Error("what the outer context says, the outer interceptors see")
	}
	if err := run(ctx, connect.Spec{}, nil); !errors.Is(err, context.Canceled) || runs != 1 {
		t.Errorf("a call that nobody waits for ran: %v", err)
	}
	if _, ok := e.log.records(t)[0]["cause"]; ok {
		t.Error("a deadline is logged as an internal error")
	}
}

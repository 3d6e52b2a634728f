package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
	"github.com/free2talk/free2talk/server/talk"
)

// goingOn is a source that says what it is given, until it is told its end.
type goingOn struct {
	fakeSource

	say    chan string
	end    chan error
	panics chan string
	gone   chan struct{} // closed when it is closed
}

func newGoingOn() *goingOn {
	g := &goingOn{say: make(chan string), end: make(chan error), panics: make(chan string), gone: make(chan struct{})}
	g.begin = func(context.Context) ([]any, error) {
		return []any{&freev1.WatchRoomsResponse{Cursor: "snapshot"}}, nil
	}
	g.more = func(_, quiet context.Context) ([]any, error) {
		select {
		case said := <-g.say:
			return []any{&freev1.WatchRoomsResponse{Cursor: said}}, nil
		case err := <-g.end:
			return nil, err
		case value := <-g.panics:
			panic(value)
		case <-quiet.Done():
			return nil, context.Cause(quiet)
		}
	}
	return g
}

func (g *goingOn) close() { close(g.gone) }

// closed waits for the end of the source.
func (g *goingOn) closes(t *testing.T) {
	t.Helper()
	select {
	case <-g.gone:
	case <-time.After(20 * time.Second):
		t.Fatal("the source is not closed")
	}
}

// ways are all in which a stream is carried.
var ways = map[string]struct {
	options []connecthttp.Option
	http1   bool
}{
	"connect":                {nil, false},
	"connect json":           {[]connecthttp.Option{connecthttp.WithProtoJSON()}, false},
	"grpc":                   {[]connecthttp.Option{connecthttp.WithGRPC()}, false},
	"grpc-web":               {[]connecthttp.Option{connecthttp.WithGRPCWeb()}, false},
	"connect, HTTP/1.1":      {nil, true},
	"connect json, HTTP/1.1": {[]connecthttp.Option{connecthttp.WithProtoJSON()}, true},
	"grpc-web, HTTP/1.1":     {[]connecthttp.Option{connecthttp.WithGRPCWeb()}, true},
	"grpc, HTTP/1.1":         {[]connecthttp.Option{connecthttp.WithGRPC()}, true},
}

// inAllWays runs a test of a stream that has begun and said something.
func inAllWays(t *testing.T, test func(t *testing.T, e *edge, s *streams, g *goingOn, stream free2talkv1connect.RoomServiceWatchRoomsClientStream)) {
	t.Parallel()
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, s, g := newEdge(t, nil), newStreams(StreamLimits{}), newGoingOn()
			e.fake.stream = func(ctx context.Context, _ func(*freev1.WatchRoomsResponse) error) error { return s.run(ctx, g) }
			protocols := new(http.Protocols)
			protocols.SetHTTP1(way.http1)
			protocols.SetUnencryptedHTTP2(!way.http1)
			client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
			t.Cleanup(client.CloseIdleConnections)
			rooms := free2talkv1connect.NewRoomServiceClient(connect.NewClient(connecthttp.NewTransport(client, e.url, way.options...)))
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			t.Cleanup(cancel)
			stream, err := rooms.WatchRooms(ctx, &freev1.WatchRoomsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = stream.Close() })
			hears(t, stream, "snapshot")
			g.say <- "an event"
			hears(t, stream, "an event")
			test(t, e, s, g, stream)
		})
	}
}

func hears(t *testing.T, stream free2talkv1connect.RoomServiceWatchRoomsClientStream, want string) {
	t.Helper()
	res, err := stream.Receive()
	if err != nil || res.GetCursor() != want {
		t.Fatalf("got %q, %v, want %q", res.GetCursor(), err, want)
	}
}

// logged waits for the one record of the stream.
func (e *edge) logged(want ...string) {
	e.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for late := time.After(20 * time.Second); !strings.Contains(e.log.String(), "\n"); {
		select {
		case <-tick.C:
		case <-late:
			e.t.Fatal("nothing is logged")
		}
	}
	log := e.log.String()
	if n := strings.Count(log, `"msg":"call"`); n != 1 {
		e.t.Errorf("%d records: %s", n, log)
	}
	for _, part := range want {
		if !strings.Contains(log, part) {
			e.t.Errorf("%s is not in %s", part, log)
		}
	}
}

// A stream that goes on without its call ends like a call: with its error, its
// record, and its reason.
func TestAStreamEndsLikeACall(t *testing.T) {
	inAllWays(t, func(t *testing.T, e *edge, s *streams, g *goingOn, stream free2talkv1connect.RoomServiceWatchRoomsClientStream) {
		if n := s.count(); n != 1 {
			t.Errorf("%d streams are open", n)
		}
		g.end <- talk.ErrSlowConsumer.Because(errors.New("of a test"))
		_, err := stream.Receive()
		info, _ := detail[*errdetails.ErrorInfo](err)
		if connect.CodeOf(err) != connect.CodeResourceExhausted || info.GetReason() != "SLOW_CONSUMER" {
			t.Errorf("it ended with %v (%v)", err, info)
		}
		g.closes(t)
		e.logged(`"procedure":"/free2talk.v1.RoomService/WatchRooms"`, `"code":"resource_exhausted"`, `"reason":"SLOW_CONSUMER"`)
		if n := s.count(); n != 0 {
			t.Errorf("%d streams are left", n)
		}
	})
}

// An end without an error is told as such.
func TestAStreamEndsWell(t *testing.T) {
	inAllWays(t, func(t *testing.T, e *edge, s *streams, g *goingOn, stream free2talkv1connect.RoomServiceWatchRoomsClientStream) {
		s.leave(0)
		hears(t, stream, "go away")
		if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
			t.Errorf("it ended with %v", err)
		}
		g.closes(t)
		e.logged(`"code":"ok"`)
	})
}

// A panic of a stream is an internal error of that stream.
func TestAStreamThatPanicsEndsAlone(t *testing.T) {
	inAllWays(t, func(t *testing.T, e *edge, _ *streams, g *goingOn, stream free2talkv1connect.RoomServiceWatchRoomsClientStream) {
		g.panics <- "of a test"
		if _, err := stream.Receive(); connect.CodeOf(err) != connect.CodeInternal || strings.Contains(err.Error(), "of a test") {
			t.Errorf("it ended with %v", err)
		}
		g.closes(t)
		e.logged(`"code":"internal"`, "of a test")
	})
}

// Who goes away is noticed though nothing is sent.
func TestAStreamEndsWithItsClient(t *testing.T) {
	inAllWays(t, func(t *testing.T, e *edge, _ *streams, g *goingOn, stream free2talkv1connect.RoomServiceWatchRoomsClientStream) {
		_ = stream.Close()
		g.closes(t)
		e.logged(`"code":"canceled"`)
	})
}

// The time that a client gives its call bounds the stream, also without the call.
func TestAStreamEndsWithItsTime(t *testing.T) {
	t.Parallel()
	e, s, g := newEdge(t, nil), newStreams(StreamLimits{}), newGoingOn()
	e.fake.stream = func(ctx context.Context, _ func(*freev1.WatchRoomsResponse) error) error { return s.run(ctx, g) }
	got := e.do(http.MethodPost, "/free2talk.v1.RoomService/WatchRooms", strings.NewReader("\x00\x00\x00\x00\x02{}"),
		"Content-Type: application/connect+json", "Connect-Timeout-Ms: 300")
	if !strings.Contains(got.body, "snapshot") || !strings.Contains(got.body, "deadline_exceeded") {
		t.Errorf("got %q", got.body)
	}
	g.closes(t)
}

// Over HTTP/1.1 a stream leaves net/http, and its connection ends with it: as
// one chunked body that is whole.
func TestAStreamHasItsConnectionToItself(t *testing.T) {
	t.Parallel()
	e, s, g := newEdge(t, nil), newStreams(StreamLimits{}), newGoingOn()
	e.fake.stream = func(ctx context.Context, _ func(*freev1.WatchRoomsResponse) error) error { return s.run(ctx, g) }
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(e.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := "\x00\x00\x00\x00\x02{}"
	fmt.Fprintf(conn, "POST /free2talk.v1.RoomService/WatchRooms HTTP/1.1\r\nHost: x\r\nContent-Type: application/connect+json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	reply, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	if !reply.Close {
		t.Error("the connection is said to be good for more")
	}
	g.say <- "an event"
	shut := make(chan error, 1)
	go func() { shut <- e.Shutdown(t.Context()) }() // it does not know of s: the stream is waited for
	g.end <- io.EOF
	all, err := io.ReadAll(reply.Body)
	if err != nil || !strings.Contains(string(all), "an event") {
		t.Errorf("%q, %v", all, err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the connection is not closed: %v", err)
	}
	if err := <-shut; err != nil {
		t.Error(err)
	}
}

// What is left when the server may not wait any longer is closed.
func TestShutdownClosesStreamsThatDoNotEnd(t *testing.T) {
	t.Parallel()
	e, s, g := newEdge(t, nil), newStreams(StreamLimits{}), newGoingOn()
	e.fake.stream = func(ctx context.Context, _ func(*freev1.WatchRoomsResponse) error) error { return s.run(ctx, g) }
	stream, err := e.rooms().WatchRooms(t.Context(), &freev1.WatchRoomsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	hears(t, stream, "snapshot")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := e.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	g.closes(t)
}

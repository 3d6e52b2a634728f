package server

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect/v2"
)

// errGoesOn is what a call returns whose stream goes on without it.
//
// A stream is quiet for most of its life, and what it holds then is what it
// costs. So it does not wait where it began, at the bottom of a chain of calls
// whose stack is five kilobytes deep, below everything that was needed to read
// one request. The call begins the stream and returns; the stream goes on at
// the top, where net/http has called the server; over HTTP/1.1 without
// net/http, whose buffers are larger than all that is left. When the stream ends
// the chain is passed once more, with nothing but how it ended: so it is logged,
// counted and told as every other call.
var errGoesOn = errors.New("the stream goes on")

// goOn notes that the stream goes on once the call has returned.
func (q *request) goOn(on *ongoing) {
	q.ongoing = on
	q.writer.ignored = true // what Connect writes as the end of the call is not the end
	q.stream, on.sender.stream = nil, nil
}

// goesOn reports whether the call returns without an end.
func (q *request) goesOn() bool { return q.ongoing != nil && !q.ended }

// start is when the call came; of a stream that ends, when it began.
func (q *request) start() time.Time {
	if q.began.IsZero() {
		q.began = time.Now()
	}
	return q.began
}

// carriesAlone begins to serve a stream whose call has returned, where it has a
// connection to itself; else it lets go of what the call held.
//
//go:noinline // what it needs would lie below the stream for as long as it waits
func (s *Server) carriesAlone(r *http.Request, q *request) bool {
	if !q.writer.takeConn() {
		letGo(q, r)
		return false
	}
	s.carried.add(q.writer)
	go s.carryAlone(bare(r), q) // it outlives the request, whose context ends with it
	return true
}

// carryAlone serves a stream that has a connection to itself.
func (s *Server) carryAlone(r *http.Request, q *request) {
	defer s.carried.done(q.writer)
	ctx, gone := context.WithCancel(context.Background())
	defer gone()
	go q.writer.watch(gone)
	s.goesOn(ctx, q)
	q.writer.hold()
	s.end(ctx, r, q)
	q.writer.finish()
}

// letGo lets go of what net/http holds for the call: the head, which was sent,
// and what of the request is not read again.
func letGo(q *request, r *http.Request) {
	clear(q.writer.Header())
	for name := range r.Header {
		if !readAgain(name) {
			delete(r.Header, name)
		}
	}
}

// bare is what of a request is read when its chain is passed once more. It keeps
// nothing of what net/http has of it, where all headers are one piece.
//
//go:noinline // what it needs would lie below the stream for as long as it waits
func bare(r *http.Request) *http.Request {
	header := http.Header{}
	for name, values := range r.Header {
		if readAgain(name) && len(values) > 0 {
			header[strings.Clone(name)] = []string{strings.Clone(values[0])}
		}
	}
	return &http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: strings.Clone(r.URL.Path)}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: header, Body: http.NoBody, RemoteAddr: r.RemoteAddr,
	}
}

// readAgain reports whether a header says in what way the end is to be told.
func readAgain(name string) bool {
	return name == "Content-Type" || strings.HasPrefix(name, "Connect-") || strings.HasPrefix(name, "Grpc-")
}

// goesOn runs the stream until it ends, and notes how it ended. What is called
// between here and the waiting is few and small: a stack is halved, by the
// garbage collection, where less than a quarter of it is in use, and two
// kilobytes are nearly: over h2c, net/http has 0.3 of them, and the runtime keeps
// 0.8 in reserve. G12 of the bench shows it where there is a frame too many.
func (s *Server) goesOn(ctx context.Context, q *request) {
	ctx = q.under(ctx)
	defer s.caught(ctx, &q.failed)
	defer q.ongoing.close()
	q.failed = q.ongoing.wait(q.ongoing.bounded(ctx))
}

// under is a context of the request, as [withRequest] makes it.
//
//go:noinline // what it needs would lie below the stream for as long as it waits
func (q *request) under(ctx context.Context) context.Context { return withRequest(ctx, q) }

// end passes the chain once more, for the end of a stream.
//
//go:noinline // what it needs would lie below the stream for as long as it waits
func (s *Server) end(ctx context.Context, r *http.Request, q *request) {
	q.ended, q.writer.ignored = true, false
	again := r.WithContext(withRequest(ctx, q))
	again.Body = http.NoBody // it was read
	s.rpc.ServeHTTP(q.writer, again)
}

// ending is where a stream that went on without its call ends.
func ending(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		q := requestFrom(ctx)
		if !q.ended {
			return next(ctx, spec, stream)
		}
		if info, ok := connect.CallInfoForServerContext(ctx); ok {
			info.SendStats, info.ReceiveStats = q.ongoing.sent, q.ongoing.received
		}
		// The head was sent long ago. Connect is to know it: what ends the stream goes into the body.
		_ = stream.SendHeaders()
		return q.failed
	}
}

// carried are the streams that have connections to themselves, of which
// [http.Server] does not know.
type carried struct {
	mu   sync.Mutex
	all  map[*heldWriter]struct{}
	none chan struct{} // closed when the last one is gone, where somebody waits
}

func (c *carried) add(w *heldWriter) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[*heldWriter]struct{}{}
	}
	c.all[w] = struct{}{}
}

func (c *carried) done(w *heldWriter) {
	_ = w.conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if delete(c.all, w); len(c.all) == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
}

// wait returns when there are none, or with ctx.
func (c *carried) wait(ctx context.Context) error {
	c.mu.Lock()
	if len(c.all) == 0 {
		c.mu.Unlock()
		return nil
	}
	if c.none == nil {
		c.none = make(chan struct{})
	}
	none := c.none
	c.mu.Unlock()
	select {
	case <-none:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close closes the connections of those that are left.
func (c *carried) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.all {
		_ = w.conn.Close()
	}
}

package server

import (
	"io"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/free2talk/free2talk/server/talk"
)

const (
	bodyMost   = 64 << 10 // bytes of a request, before and after decompression
	duplexMost = 1 << 20  // bytes of all requests of a stream that the client writes to (reflection)

	// bodyWithin is how long a request may take to arrive, with its body: the
	// context's deadline does not interrupt a read. net/http lifts it from a
	// connection once the body is complete, so it ends no stream.
	bodyWithin = 10 * time.Second

	// drainWithin is how long net/http may look for the rest of a body that
	// nobody reads: what has arrived is cheaper to read than a new connection.
	drainWithin = 250 * time.Millisecond
)

// refusals writes errors for calls that never reach Connect.
var refusals = connecthttp.NewErrorWriter()

// call serves an RPC with its body capped. What is too large by its own
// account is refused before a byte of it is read.
func (s *Server) call(w http.ResponseWriter, r *http.Request, q *request) {
	most := int64(bodyMost)
	if q.rules.duplex {
		most = duplexMost
	}
	switch {
	case r.ContentLength > most:
		s.refuse(w, r, q, talk.ErrBodyTooLarge)
		return
	case !timeoutReadable(r.Header):
		s.refuse(w, r, q, connect.NewError(connect.CodeInvalidArgument, sentenceTimeout))
		return
	case !encodingKnown(r):
		s.refuse(w, r, q, connect.NewError(connect.CodeUnimplemented, sentenceEncoding))
		return
	}
	if place, ok := s.lane.takes(r); ok {
		s.lane.serve(w, r, q, place)
		return
	}
	if r.ContentLength != 0 && r.Body != nil {
		r.Body = inTime(w, r, http.MaxBytesReader(w, r.Body, most))
	}
	if q.rules.stream && !q.rules.duplex {
		q.writer = newHeldWriter(w, r)
		w = q.writer
	}
	s.rpc.ServeHTTP(w, r)
	if r.Close && r.Body != nil {
		_ = r.Body.Close() // Connect leaves it as it is where the type of it is none of its own
	}
}

// refuse answers without reading the body, in the caller's protocol, and drops
// the connection: what is still on its way is not read either.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, q *request, err error) {
	start := time.Now()
	wire, _ := wireError(err, q)
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	leaveBody(w, r)
	_ = refusals.Write(w, r, wire) // a caller who is gone hears nothing
	s.record(r.Context(), q, r.URL.Path, wire, start)
}

// leaveBody is for a request whose body nobody reads. On HTTP/1.1 net/http
// looks for the rest of it after the answer, up to 256 KiB; that has to arrive
// in time, too.
func leaveBody(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor == 1 && r.ContentLength != 0 && r.Body != nil {
		_ = deadlinesOf(w).SetReadDeadline(time.Now().Add(bodyWithin))
		linger(w, r, r.Body)
	}
}

// linger has the connection of a request that asked to be the last on it closed
// as RFC 9112, section 9.6, has it: our side first, and the other when the
// answer had time to arrive. net/http does that where it gives up reading a
// body, but closes at once where it does not begin to. The connection is reset
// then, and who was still sending may see that and not the answer. So a byte is
// read, of none that are allowed.
func linger(w http.ResponseWriter, r *http.Request, body io.ReadCloser) {
	if !r.Close || r.ProtoMajor != 1 || r.Header.Get("Expect") != "" { // who waits to be asked for the body sends none
		return
	}
	_ = deadlinesOf(w).SetReadDeadline(time.Now().Add(drainWithin))
	_, _ = http.MaxBytesReader(w, body, 0).Read(make([]byte, 1)) // that it fails is what it is for
}

// inTime returns a body that has to arrive in time. Over HTTP/2 its time-out is
// lifted as well when it is complete: a stream that lasts would keep the clock.
func inTime(w http.ResponseWriter, r *http.Request, body io.ReadCloser) io.ReadCloser {
	return &timedBody{ReadCloser: body, w: w, r: r, lifts: r.ProtoMajor > 1}
}

// readDeadliner is who knows the connection that a request comes by.
type readDeadliner interface{ SetReadDeadline(at time.Time) error }

func deadlinesOf(w http.ResponseWriter) readDeadliner {
	if d, ok := w.(readDeadliner); ok { // net/http's own
		return d
	}
	return http.NewResponseController(w)
}

// timedBody has to arrive in time, and what has not when it is closed is hardly
// waited for.
type timedBody struct {
	io.ReadCloser

	w       http.ResponseWriter
	r       *http.Request
	lifts   bool
	arrived bool
}

// Read reads the body.
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF && !b.arrived { // readers return it bare
		b.arrived = true
		if b.lifts {
			_ = deadlinesOf(b.w).SetReadDeadline(time.Time{})
		}
	}
	return n, err
}

// Close gives up what has not arrived.
func (b *timedBody) Close() error {
	if !b.arrived {
		linger(b.w, b.r, b.ReadCloser)
		b.within(drainWithin)
	}
	return b.ReadCloser.Close()
}

// within sets the deadline where the connection has one; a test's has none.
func (b *timedBody) within(d time.Duration) { _ = deadlinesOf(b.w).SetReadDeadline(time.Now().Add(d)) }

// timeoutReadable reports whether the protocols' time-out headers are what
// they should be. Connect would say no as well, but quote them.
func timeoutReadable(h http.Header) bool {
	if v := h.Get("Connect-Timeout-Ms"); v != "" && (len(v) > 10 || !digits(v)) {
		return false
	}
	v := h.Get("Grpc-Timeout")
	return v == "" || len(v) >= 2 && len(v) <= 9 && digits(v[:len(v)-1]) && strings.Contains("HMSmun", v[len(v)-1:])
}

// encodingKnown reports whether the request is compressed in a way, and of a
// version of the protocol, that there is. Here too, Connect would quote it.
func encodingKnown(r *http.Request) bool {
	for _, name := range [...]string{"Content-Encoding", "Connect-Content-Encoding", "Grpc-Encoding"} {
		if v := r.Header.Get(name); v != "" && v != connect.CompressionNameIdentity && v != connect.CompressionNameGzip {
			return false
		}
	}
	if v := r.Header.Get("Connect-Protocol-Version"); v != "" && v != "1" {
		return false
	}
	if r.Method != http.MethodGet {
		return true
	}
	query := r.URL.Query()
	compression, version := query.Get("compression"), query.Get("connect")
	return (compression == "" || compression == connect.CompressionNameIdentity || compression == connect.CompressionNameGzip) &&
		(version == "" || version == "v1")
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect/v2"
)

// lane carries plain calls past Connect's HTTP transport: unary ones of the
// Connect protocol, posted in JSON or protobuf, of a length that is known and
// not compressed. Those are nearly all, and what the transport does for every
// other kind is a third of what they cost. Everything else goes by the
// transport: gRPC, gRPC-Web, GET, streams, and whatever is not as it should be.
// The chain, the handlers, the codecs and how errors are written are the same.
type lane struct {
	server *connect.Server
	codecs [2]connect.Codec      // by place
	unary  map[string]*[2]*asked // procedures; what each was asked in each codec, or nil
}

func newLane(server *connect.Server, codecs []connect.Codec) *lane {
	l := &lane{server: server, unary: map[string]*[2]*asked{}}
	for _, codec := range codecs {
		l.codecs[placeOf(codec.Name() == connect.CodecNameJSON)] = codec
	}
	for spec := range server.Specs() {
		if spec.StreamType != connect.StreamTypeUnary {
			continue
		}
		l.unary[spec.Procedure] = &[2]*asked{}
		if remembers(spec) {
			*l.unary[spec.Procedure] = [2]*asked{newAsked(), newAsked()}
		}
	}
	return l
}

// countedLeast is the size of a reply from which on its length is said here: that
// of a smaller one net/http says by itself, as it holds it as a whole.
const countedLeast = 2 << 10 // bytes

// laneReads are the headers that what traces looks for.
var laneReads = []string{"Traceparent", "Tracestate"}

// The values of headers, which nobody changes.
var (
	laneTypes  = [2][]string{{"application/proto"}, {"application/json"}}
	laneGzip   = []string{connect.CompressionNameGzip}
	laneNames  = [2]string{connect.CodecNameProto, connect.CodecNameJSON}
	errNotOne  = connect.NewError(connect.CodeInternal, "a unary call is answered once")
	lanePieces = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	laneZips   = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}
)

// takes reports whether a request is plain, and in which codec.
func (l *lane) takes(r *http.Request) (place int, ok bool) {
	if r.Method != http.MethodPost || r.ContentLength < 0 || l.unary[r.URL.Path] == nil {
		return 0, false
	}
	switch kind := r.Header["Content-Type"]; {
	case len(kind) != 1:
		return 0, false
	case kind[0] == laneTypes[inJSON][0]:
		place = inJSON
	case kind[0] != laneTypes[inBinary][0]:
		return 0, false
	}
	return place, len(r.Header["Content-Encoding"]) == 0 && len(r.Header["Connect-Content-Encoding"]) == 0
}

// serve makes the call. Time-outs were found readable.
func (l *lane) serve(w http.ResponseWriter, r *http.Request, q *request, place int) {
	c := &plainCall{lane: l, w: w, r: r, q: q, place: place}
	q.plain = c
	if r.ContentLength > 0 {
		c.body = timedBody{ReadCloser: r.Body, w: w, r: r}
	}
	c.info.Spec.Procedure, c.info.PeerAddr, c.info.Protocol = r.URL.Path, r.RemoteAddr, connect.ProtocolNameConnect
	c.info.Codec = laneNames[place]
	c.info.RequestEncoding, c.info.ResponseEncoding = connect.CompressionNameIdentity, connect.CompressionNameIdentity
	for _, name := range laneReads {
		if values := r.Header[name]; values != nil {
			c.info.RequestHeader().SetValues(name, values)
		}
	}
	q.head = w.Header()
	ctx := r.Context()
	if said := r.Header.Get("Connect-Timeout-Ms"); said != "" {
		ms, err := strconv.ParseInt(said, 10, 64)
		if err == nil {
			bounded := boundedBy(ctx, time.Now().Add(time.Duration(ms)*time.Millisecond))
			defer bounded.end()
			ctx = bounded
		}
	}
	c.ctx = ctx
	err := l.server.Call(ctx, r.URL.Path, &c.info, c)
	if !c.received && r.ContentLength > 0 {
		_ = c.body.Close() // says that what has not arrived is not waited for
	}
	switch {
	case c.sent: // whatever went wrong then, the answer is on its way
	case err == nil:
		err = connect.NewError(connect.CodeInternal, sentenceInternal).WithCause(errors.New("a unary call was not answered"))
		fallthrough
	default:
		c.tell()
		w.Header()["Accept-Encoding"] = laneGzip
		_ = refusals.Write(w, r, err) // a caller who is gone hears nothing
	}
}

// plainCall is the stream of one plain call.
type plainCall struct {
	*lane

	w     http.ResponseWriter
	r     *http.Request
	q     *request
	place int
	body  timedBody // where there is any
	info  connect.CallInfo
	ctx   context.Context //nolint:containedctx // of the call that it is

	received, sent bool

	question string // to be remembered where it is valid; "" for none
	recalled bool   // it was
}

// Receive reads the one message.
func (c *plainCall) Receive(msg any) error {
	if c.received {
		return io.EOF
	}
	c.received = true
	body := piece()
	defer kept(body)
	if c.r.ContentLength > 0 {
		if _, err := body.ReadFrom(&c.body); err != nil {
			return err
		}
		_ = c.body.Close() // or net/http would look whether there is more
	}
	c.info.ReceiveStats.Size = body.Len()
	if before := c.unary[c.r.URL.Path][c.place]; before != nil && body.Len() <= askedMost {
		if c.recalled = before.recall(body.Bytes(), msg); c.recalled {
			return nil
		}
		c.question = body.String()
	}
	if err := c.codecs[c.place].UnmarshalRead(c.ctx, body, msg); err != nil {
		return connect.NewError(connect.CodeInvalidArgument, sentenceMalformed).WithCause(err)
	}
	return nil
}

// remember notes that the message that was received is valid.
func (c *plainCall) remember(msg any) {
	if c.question != "" {
		c.unary[c.r.URL.Path][c.place].remember(c.question, msg)
	}
}

// SendHeaders does nothing: how a unary call ends stands in its head.
func (*plainCall) SendHeaders() error { return nil }

// Send writes the one answer.
func (c *plainCall) Send(msg any) error {
	if c.sent {
		return errNotOne
	}
	var reply []byte
	if len(c.q.reply) == 1 {
		reply = c.q.reply[0]
	} else {
		body := piece()
		defer kept(body)
		if err := c.codecs[c.place].MarshalWrite(c.ctx, body, msg); err != nil {
			return err
		}
		reply = body.Bytes()
	}
	c.info.SendStats.Size = len(reply)
	if len(reply) >= compressLeast && !c.q.rules.secret && acceptsGzip(c.r.Header["Accept-Encoding"]) {
		zipped := piece()
		defer kept(zipped)
		if err := zip(zipped, reply); err != nil {
			return err
		}
		reply = zipped.Bytes()
		c.info.SendStats.CompressedSize, c.info.ResponseEncoding = len(reply), connect.CompressionNameGzip
		c.w.Header()["Content-Encoding"] = laneGzip
	}
	c.tell()
	h := c.w.Header()
	h["Content-Type"] = laneTypes[c.place]
	if len(reply) >= countedLeast {
		h["Content-Length"] = []string{strconv.Itoa(len(reply))}
	}
	c.sent = true
	_, err := c.w.Write(reply) //nolint:gosec // no page: a message, of a type that says so
	return err
}

// tell puts the headers that the chain has set where they are sent. What we
// accept is said with errors alone: with nine headers a map is no longer one
// piece, and net/http makes two of them for an answer, which is a twentieth of
// what a call costs.
func (c *plainCall) tell() {
	h := c.w.Header()
	for name, values := range c.info.ResponseHeader().All() {
		h[name] = append(h[name], values...)
	}
}

// acceptsGzip reports whether a client takes gzip, as far as Connect's own
// transport looks: by the name alone.
func acceptsGzip(values []string) bool {
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			if strings.TrimSpace(name) == connect.CompressionNameGzip {
				return true
			}
		}
	}
	return false
}

func zip(to *bytes.Buffer, reply []byte) error {
	w, ok := laneZips.Get().(*gzip.Writer)
	if !ok {
		return errors.New("no gzip")
	}
	defer laneZips.Put(w)
	w.Reset(to)
	if _, err := w.Write(reply); err != nil {
		return err
	}
	return w.Close()
}

func piece() *bytes.Buffer {
	b, ok := lanePieces.Get().(*bytes.Buffer)
	if !ok {
		b = new(bytes.Buffer)
	}
	b.Reset()
	return b
}

// kept gives a buffer back, unless it is large.
func kept(b *bytes.Buffer) {
	if b.Cap() <= keptBuffer {
		lanePieces.Put(b)
	}
}

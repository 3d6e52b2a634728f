package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// writeWithin is how long one write to a stream may take: somebody who reads
// nothing for that long has gone or is too slow. Writes that follow each other
// closely share a deadline, which is set again after deadlineEvery.
const (
	writeWithin   = 10 * time.Second
	deadlineEvery = 2 * time.Second
)

// heldWriter lets a stream send several messages in one write. Connect flushes
// after each message; while the writer is held, what is written and flushed
// waits, and goes out at once when it is let go.
//
// Over HTTP/1.1 what was held then goes to the connection as one chunk (RFC
// 9112, section 7.1), past the buffers of net/http, which would copy it twice
// more. That is right because net/http has written the head, which says
// chunked, and holds nothing back after a flush; and because the goroutine of
// the handler is the only one that writes.
type heldWriter struct {
	http.ResponseWriter

	control *http.ResponseController
	held    *bytes.Buffer // nil while it is not held
	conn    net.Conn      // of HTTP/1.1; nil of HTTP/2
	begun   bool          // the head is written, and it says chunked
	until   time.Time     // the deadline of conn's writes is not before
	ignored bool          // what is written is not sent
	alone   bool          // conn may leave net/http, and after takeConn it has
	taken   bool
}

var heldBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// keptBuffer is how large a buffer is kept for others, and how much is enough
// for one write: who takes that within writeWithin does read.
const keptBuffer = 64 << 10

// chunkHead is the room for a chunk's size and the line's end.
const chunkHead = 10

// connKey is where a connection is found in the contexts of its requests.
type connKey struct{}

func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

func newHeldWriter(w http.ResponseWriter, r *http.Request) *heldWriter {
	held := &heldWriter{ResponseWriter: w, control: http.NewResponseController(w)}
	if r.ProtoMajor == 1 && r.ProtoMinor == 1 {
		held.conn, _ = r.Context().Value(connKey{}).(net.Conn)
		// gRPC ends with trailers, which net/http writes.
		kind, web := r.Header.Get("Content-Type"), "application/grpc-web"
		held.alone = held.conn != nil && (!strings.HasPrefix(kind, "application/grpc") || strings.HasPrefix(kind, web))
	}
	return held
}

// Unwrap is for http.ResponseController.
func (w *heldWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Header returns the headers. Where nothing is sent, or the head was sent by
// net/http and the connection has left it, they are nobody's.
func (w *heldWriter) Header() http.Header {
	if w.ignored || w.ResponseWriter == nil {
		return http.Header{}
	}
	return w.ResponseWriter.Header()
}

// WriteHeader writes the head, unless it was.
func (w *heldWriter) WriteHeader(code int) {
	if !w.ignored && !w.begun {
		w.ResponseWriter.WriteHeader(code)
	}
}

// Write writes, or keeps what is to be written.
func (w *heldWriter) Write(b []byte) (int, error) {
	if w.ignored {
		return len(b), nil
	}
	if w.held != nil {
		return w.held.Write(b)
	}
	return w.ResponseWriter.Write(b)
}

// Flush sends what was written, unless it is held.
func (w *heldWriter) Flush() {
	if w.held == nil && !w.ignored {
		_ = w.control.Flush() // who writes next hears of it
	}
}

// hold keeps what is written from now on.
func (w *heldWriter) hold() {
	if b, ok := heldBuffers.Get().(*bytes.Buffer); ok {
		w.held = b
		b.Write(make([]byte, chunkHead))
	}
}

// full reports whether what is held is enough for one write.
func (w *heldWriter) full() bool { return w.held.Len() >= keptBuffer }

// envelope writes a frame as Connect and gRPC do, without compression: no
// flags, the length, the message.
func (w *heldWriter) envelope(f *frame, json bool) error {
	begins := w.held.Len()
	w.held.Write(make([]byte, envelopeHead))
	if err := f.writeTo(w.held, json); err != nil {
		w.held.Truncate(begins)
		return err
	}
	envelope := w.held.Bytes()[begins:]
	binary.BigEndian.PutUint32(envelope[1:envelopeHead], uint32(len(envelope)-envelopeHead))
	return nil
}

const envelopeHead = 5

// release sends what was held, within a time. It returns an error where the
// other side does not take it.
func (w *heldWriter) release() (err error) {
	held := w.held
	if held == nil {
		return nil
	}
	w.held = nil
	defer func() {
		// After an error HTTP/2 may still read what it was given.
		if err == nil && held.Cap() <= keptBuffer {
			held.Reset()
			heldBuffers.Put(held)
		}
	}()
	if held.Len() == chunkHead {
		return nil
	}
	began := time.Now()
	send := w.flushed
	if w.begun && w.conn != nil {
		send = w.chunk
	}
	err = send(held)
	if err != nil && (time.Since(began) >= writeWithin || errors.Is(err, syscall.ETIMEDOUT)) {
		// HTTP/2 says only that the stream is reset, and the kernel may lose its patience first.
		err = errors.Join(os.ErrDeadlineExceeded, err)
	}
	return err
}

// flushed sends what was held by net/http.
func (w *heldWriter) flushed(held *bytes.Buffer) error {
	w.within(writeWithin)
	if w.alone {
		w.ResponseWriter.Header().Set("Connection", "close") // no other request comes after the stream
	}
	_, err := w.ResponseWriter.Write(held.Bytes()[chunkHead:]) //nolint:gosec // no page: messages, of a type that says so
	if err == nil {
		err = w.control.Flush()
	}
	if err == nil {
		w.begun = w.ResponseWriter.Header().Get("Content-Length") == ""
		_ = w.control.SetWriteDeadline(time.Time{}) // HTTP/2 would end the stream when it passes
	}
	return err
}

// chunk sends what was held to the connection itself.
func (w *heldWriter) chunk(held *bytes.Buffer) error {
	var digits [chunkHead]byte
	size := strconv.AppendInt(digits[:0], int64(held.Len()-chunkHead), 16)
	held.WriteString("\r\n")
	all := held.Bytes()[chunkHead-len("\r\n")-len(size):]
	copy(all[copy(all, size):], "\r\n")
	if now := time.Now(); now.After(w.until) {
		w.until = now.Add(deadlineEvery)
		if err := w.conn.SetWriteDeadline(now.Add(writeWithin)); err != nil {
			return err
		}
	}
	_, err := w.conn.Write(all)
	if err != nil {
		_ = w.conn.Close() // it may be in the middle of a chunk: nothing must follow
	}
	return err
}

// drop forgets what is held, where something broke off before it was released.
func (w *heldWriter) drop() { w.held = nil }

// within bounds the writes that come after the last release.
func (w *heldWriter) within(d time.Duration) {
	if !w.taken {
		_ = w.control.SetWriteDeadline(time.Now().Add(d))
	}
}

// takeConn takes the connection from net/http, with its buffers, and lets go of
// all that belonged to the call. It reports whether that could be.
//
//go:noinline // what it needs would lie below the stream for as long as it waits
func (w *heldWriter) takeConn() bool {
	if !w.alone || !w.begun {
		return false
	}
	conn, _, err := w.control.Hijack()
	if err != nil {
		return false
	}
	w.conn, w.taken = conn, true
	w.ResponseWriter, w.control = nil, nil
	return true
}

// watch calls gone when the other side has closed the connection. What it says
// instead is not listened to, as by net/http.
func (w *heldWriter) watch(gone func()) {
	var one [1]byte
	if n, _ := w.conn.Read(one[:]); n == 0 {
		gone()
	}
}

// finish sends what was held, and the last chunk.
//
//go:noinline // what it needs would lie below the stream for as long as it waits
func (w *heldWriter) finish() {
	if err := w.release(); err == nil {
		_ = w.conn.SetWriteDeadline(time.Now().Add(writeWithin))
		_, _ = io.WriteString(w.conn, "0\r\n\r\n") // who is gone does not need it
	}
}

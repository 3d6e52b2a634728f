package server

import (
	"bytes"
	"errors"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// writeWithin is how long one write to a stream may take: somebody who reads
// nothing for that long has gone or is too slow.
const writeWithin = 10 * time.Second

// heldWriter lets a stream send several messages in one write. Connect flushes
// after each message; while the writer is held, what is written and flushed
// waits, and goes out at once when it is let go.
type heldWriter struct {
	http.ResponseWriter

	control *http.ResponseController
	held    *bytes.Buffer // nil while it is not held
}

var heldBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// keptBuffer is how large a buffer is kept for others.
const keptBuffer = 64 << 10

func newHeldWriter(w http.ResponseWriter) *heldWriter {
	return &heldWriter{ResponseWriter: w, control: http.NewResponseController(w)}
}

// Unwrap is for http.ResponseController.
func (w *heldWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write writes, or keeps what is to be written.
func (w *heldWriter) Write(b []byte) (int, error) {
	if w.held != nil {
		return w.held.Write(b)
	}
	return w.ResponseWriter.Write(b)
}

// Flush sends what was written, unless it is held.
func (w *heldWriter) Flush() {
	if w.held == nil {
		_ = w.control.Flush() // who writes next hears of it
	}
}

func (w *heldWriter) hold() {
	if b, ok := heldBuffers.Get().(*bytes.Buffer); ok {
		w.held = b
	}
}

// release sends what was held, within a time. It returns an error where the
// other side does not take it.
func (w *heldWriter) release() error {
	held := w.held
	if held == nil {
		return nil
	}
	w.held = nil
	defer func() {
		if held.Cap() <= keptBuffer {
			held.Reset()
			heldBuffers.Put(held)
		}
	}()
	began := time.Now()
	w.within(writeWithin)
	_, err := w.ResponseWriter.Write(held.Bytes())
	if err == nil {
		err = w.control.Flush()
	}
	switch {
	case err == nil:
		_ = w.control.SetWriteDeadline(time.Time{}) // HTTP/2 would end the stream when it passes
	case time.Since(began) >= writeWithin, errors.Is(err, syscall.ETIMEDOUT):
		// HTTP/2 says only that the stream is reset, and the kernel may lose its patience first.
		err = errors.Join(os.ErrDeadlineExceeded, err)
	}
	return err
}

func (w *heldWriter) within(d time.Duration) { _ = w.control.SetWriteDeadline(time.Now().Add(d)) }

package server

import (
	"io"
	"sync"
	"sync/atomic"
)

// logBuffer is how much a [LogWriter] holds: some five thousand records.
const logBuffer = 1 << 20 // bytes

// LogWriter writes to another writer in the background, so that a slow disk or
// terminal never holds up a call. What does not fit into its buffer is dropped
// and counted. It must be closed.
type LogWriter struct {
	to      io.Writer
	done    chan struct{} // closed when the writing goroutine is gone
	dropped atomic.Int64

	mu     sync.Mutex
	more   sync.Cond // signalled when buffer or closed changes
	buffer []byte
	closed bool
}

// NewLogWriter returns a writer in front of w.
func NewLogWriter(w io.Writer) *LogWriter {
	l := &LogWriter{to: w, done: make(chan struct{})}
	l.more.L = &l.mu
	go l.run()
	return l
}

// Write takes a copy of p, or drops it where the buffer is full or the writer
// closed. It never fails.
func (l *LogWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.buffer)+len(p) > logBuffer {
		l.dropped.Add(1)
		return len(p), nil
	}
	if len(l.buffer) == 0 {
		l.more.Signal()
	}
	l.buffer = append(l.buffer, p...)
	return len(p), nil
}

// Dropped is how many records were lost so far.
func (l *LogWriter) Dropped() int64 { return l.dropped.Load() }

// Close writes out what is held and waits for it. Closing twice is no error.
func (l *LogWriter) Close() error {
	l.mu.Lock()
	l.closed = true
	l.more.Signal()
	l.mu.Unlock()
	<-l.done
	return nil
}

// run swaps two buffers: one is filled while the other is written.
func (l *LogWriter) run() {
	defer close(l.done)
	var full []byte
	for {
		l.mu.Lock()
		for len(l.buffer) == 0 && !l.closed {
			l.more.Wait()
		}
		if len(l.buffer) == 0 {
			l.mu.Unlock()
			return
		}
		full, l.buffer = l.buffer, full[:0]
		l.mu.Unlock()
		_, _ = l.to.Write(full) // there is nowhere to tell that the log cannot be written
	}
}

package server

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// logBuffer is how much a [LogWriter] holds: some five thousand records.
	logBuffer = 1 << 20 // bytes

	// logGather is how long a record waits for others that are written with it: each
	// write is a system call, and wakes whoever reads.
	logGather = 10 * time.Millisecond
)

// LogWriter writes to another writer in the background, so that a slow disk or
// terminal never holds up a call. What does not fit into its buffer is dropped
// and counted. It must be closed.
type LogWriter struct {
	to      io.Writer
	some    chan struct{} // gets a value when there is something to write, or nothing any more
	hurry   chan struct{} // gets a value when it must not wait for more
	done    chan struct{} // closed when the writing goroutine is gone
	dropped atomic.Int64

	mu     sync.Mutex
	buffer []byte
	closed bool
}

// NewLogWriter returns a writer in front of w.
func NewLogWriter(w io.Writer) *LogWriter {
	l := &LogWriter{to: w, some: make(chan struct{}, 1), hurry: make(chan struct{}, 1), done: make(chan struct{})}
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
		wake(l.some)
	}
	if l.buffer = append(l.buffer, p...); len(l.buffer) > logBuffer/2 {
		wake(l.hurry)
	}
	return len(p), nil
}

// wake sends to a channel that has room for one, where it is empty.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Dropped is how many records were lost so far.
func (l *LogWriter) Dropped() int64 { return l.dropped.Load() }

// Close writes out what is held and waits for it. Closing twice is no error.
func (l *LogWriter) Close() error {
	l.mu.Lock()
	l.closed = true
	wake(l.some)
	wake(l.hurry)
	l.mu.Unlock()
	<-l.done
	return nil
}

// run swaps two buffers: one is filled while the other is written.
func (l *LogWriter) run() {
	defer close(l.done)
	var full []byte
	for closed := false; !closed; {
		<-l.some
		l.gather()
		l.mu.Lock()
		full, l.buffer, closed = l.buffer, full[:0], l.closed
		l.mu.Unlock()
		if len(full) > 0 {
			_, _ = l.to.Write(full) // there is nowhere to tell that the log cannot be written
		}
	}
}

// gather waits for what comes in a moment.
func (l *LogWriter) gather() {
	timer := time.NewTimer(logGather)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.hurry:
	}
}

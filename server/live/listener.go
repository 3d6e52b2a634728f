package live

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/free2talk/free2talk/server/talk"
)

// queueMost is how many events wait for one listener; who falls further
// behind is ended, and resumes by its cursor.
const queueMost = 256

// Told is an event on its way to listeners, which share it. A nil Fact says
// that events up to Seq are lost: the listener reads the topic's state.
type Told struct {
	talk.Event

	spellings [Spellings]atomic.Pointer[[]byte]
}

// Spellings is in how many ways an event may be spelled out for the wire.
const Spellings = 8

// Spelled returns the event spelled out in the way-th way, made by spell the
// first time and then shared: nobody changes it.
func (t *Told) Spelled(way int, spell func() ([]byte, error)) ([]byte, error) {
	if known := t.spellings[way].Load(); known != nil {
		return *known, nil
	}
	made, err := spell()
	if err != nil {
		return nil, err
	}
	t.spellings[way].Store(&made) // two at once make the same
	return made, nil
}

// Listener is who listens to topics: a queue that never makes anybody wait.
// One goroutine takes from it.
type Listener struct {
	mu       sync.Mutex
	queue    []*Told
	overflow bool
	arrived  chan struct{}

	until context.Context //nolint:containedctx // the last that was waited for; its end is told by arrived
	stop  func() bool     // what tells it
}

// NewListener makes a listener with an empty queue.
func NewListener() *Listener { return &Listener{arrived: make(chan struct{}, 1)} }

func (l *Listener) push(t *Told) {
	l.mu.Lock()
	switch {
	case l.overflow:
	case len(l.queue) >= queueMost:
		l.overflow, l.queue = true, nil
	default:
		l.queue = append(l.queue, t)
	}
	l.mu.Unlock()
	l.wake()
}

func (l *Listener) wake() {
	select {
	case l.arrived <- struct{}{}:
	default:
	}
}

// Take returns all that has arrived, and false where more arrived than a queue
// holds. It does not wait. What it returns is valid until the next Take, which
// may use it again as spare.
func (l *Listener) Take(spare []*Told) ([]*Told, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.queue
	clear(spare)
	l.queue = spare[:0]
	return taken, !l.overflow
}

// Wait returns once something has arrived since the last Take, or with the
// cause of ctx's end. It may also return for nothing.
//
// It waits for one thing alone, which both tell: to wait for two costs twice as
// much, for every event and every stream.
func (l *Listener) Wait(ctx context.Context) error {
	if l.until != ctx {
		if l.stop != nil {
			l.stop()
		}
		l.until, l.stop = ctx, context.AfterFunc(ctx, l.wake)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	<-l.arrived
	if ctx.Err() != nil && l.empty() {
		return context.Cause(ctx)
	}
	return nil
}

func (l *Listener) empty() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue) == 0 && !l.overflow
}

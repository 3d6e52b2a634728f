package db

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

const (
	// keptAside is how many connections calls leave to what a node must go on
	// doing whatever calls do: to say that it lives, to hear who was revoked.
	keptAside = 3
	// stuckAfter is how long nothing moves until a pool counts as run out.
	stuckAfter = 600 * time.Millisecond
	// stuckLeast is how long whoever comes to a pool that has run out waits still.
	stuckLeast = 50 * time.Millisecond
)

var errStuck = errors.New("all connections are held, and none comes back")

// turns lets as many calls use connections as there are for them. A crowd
// that gets on waits in the order of coming, for as long as its deadlines
// last; where no connection was taken or came back for a while, whoever
// waits hears at once that it is no use. The zero value is open to all.
type turns struct {
	places chan struct{}
	moved  atomic.Int64 // when one was last taken or came back, ns since 1970
}

func newTurns(conns int) *turns {
	return &turns{places: make(chan struct{}, max(conns-keptAside, (conns+1)/2))}
}

// take returns how to give the place back.
func (t *turns) take(ctx context.Context) (give func(), err error) {
	if t.places == nil || ctx.Value(asideKey{}) != nil {
		return func() {}, nil
	}
	select {
	case t.places <- struct{}{}:
		return t.taken(), nil
	default:
	}
	timer := time.NewTimer(max(stuckAfter-t.idle(), stuckLeast))
	defer timer.Stop()
	for {
		select {
		case t.places <- struct{}{}:
			return t.taken(), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			left := stuckAfter - t.idle()
			if left <= 0 {
				return nil, talk.ErrBusy.Because(errStuck)
			}
			timer.Reset(left)
		}
	}
}

func (t *turns) taken() (give func()) {
	t.moved.Store(time.Now().UnixNano())
	return func() {
		t.moved.Store(time.Now().UnixNano())
		<-t.places
	}
}

func (t *turns) idle() time.Duration { return time.Since(time.Unix(0, t.moved.Load())) }

type asideKey struct{}

// aside is for what goes on behind the calls and must not wait for them.
func aside(ctx context.Context) context.Context { return context.WithValue(ctx, asideKey{}, true) }

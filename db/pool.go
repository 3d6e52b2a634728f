package db

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/free2talk/free2talk/server/talk"
)

const (
	// asideConns is how many connections a node has to go on with what it must
	// do whatever calls do: to say that it lives, to hear who was revoked.
	asideConns = 2
	// stuckAfter is how long nothing moves until a pool counts as run out.
	stuckAfter = 600 * time.Millisecond
	// stuckLeast is how long whoever comes to a pool that has run out waits still.
	stuckLeast = 50 * time.Millisecond
)

var errStuck = errors.New("all connections are held, and none comes back")

// turns lets as many calls use connections as there are for them. A crowd
// that gets on waits in the order of coming, for as long as its deadlines
// last; where for a while the database said nothing on any connection, and none
// was taken or came back, whoever waits hears at once that it is no use. The
// zero value is open to all.
type turns struct {
	places chan struct{}
	moved  atomic.Int64 // when that last happened, ns since 1970
}

// newTurns leaves one of so many connections to what is no call, as to forget
// old events.
func newTurns(conns int) *turns {
	return &turns{places: make(chan struct{}, max(conns-1, (conns+1)/2))}
}

// share is how many of so many connections are for calls; the others are
// asideConns, or one, where there are few.
func share(conns int) int { return max(conns-asideConns, (conns+1)/2) }

// take returns how to give the place back.
func (t *turns) take(ctx context.Context) (give func(), err error) {
	if t.places == nil || isAside(ctx) {
		return func() {}, nil
	}
	select {
	case t.places <- struct{}{}:
		return t.taken(), nil
	default:
	}
	patience := max(stuckAfter-t.idle(), stuckLeast)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		began := time.Now()
		select {
		case t.places <- struct{}{}:
			return t.taken(), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timer.C:
			left, late := stuckAfter-t.idle(), time.Since(began)-patience
			switch {
			case left > 0:
				patience = left
			case late > stuckLeast: // this process stood still: what the database answered meanwhile is unread
				patience = stuckLeast
			default:
				return nil, talk.ErrBusy.Because(errStuck)
			}
			timer.Reset(patience)
		}
	}
}

func (t *turns) taken() (give func()) {
	t.move()
	return func() {
		t.move()
		<-t.places
	}
}

// move notes that the database did something for a call: where it is slow, it
// is not stuck.
func (t *turns) move() { t.moved.Store(time.Now().UnixNano()) }

func (t *turns) idle() time.Duration { return time.Since(time.Unix(0, t.moved.Load())) }

type asideKey struct{}

// aside is for what goes on behind the calls and must not wait for them: it has
// connections of its own, which no call that is given up can close.
func aside(ctx context.Context) context.Context { return context.WithValue(ctx, asideKey{}, true) }

func isAside(ctx context.Context) bool { return ctx.Value(asideKey{}) != nil }

// heard is a connection's wire. Whatever comes on it is a move: a connection
// that is opened takes several answers, each of them late on a busy machine.
type heard struct {
	net.Conn
	move func()
}

// Read implements [net.Conn].
func (h heard) Read(into []byte) (int, error) {
	n, err := h.Conn.Read(into)
	if n > 0 {
		h.move()
	}
	return n, err
}

// hearing has dial call move for all that comes.
func hearing(dial pgconn.DialFunc, move func()) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return heard{conn, move}, nil
	}
}

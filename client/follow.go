package client

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"connectrpc.com/connect/v2"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// StreamOption changes how a stream is followed.
type StreamOption func(*following)

// FromCursor goes on after the event that had this cursor, which may have been
// kept over the end of the process. Empty means from the state as it is, which
// is also what there is without this option.
func FromCursor(cursor string) StreamOption { return func(f *following) { f.cursor = cursor } }

// WithHeartbeats shows heartbeats and go_away too, which are otherwise obeyed
// and not shown.
func WithHeartbeats() StreamOption { return func(f *following) { f.all = true } }

// WithSilence gives a stream up that has said nothing for d, and opens it
// anew. Zero means 45 s: the server sends a heartbeat every 15 s or so.
func WithSilence(d time.Duration) StreamOption { return func(f *following) { f.silence = d } }

// following is how one stream is followed.
type following struct {
	cursor  string
	all     bool
	silence time.Duration
}

const silentFor = 45 * time.Second

// update is what every message of a stream can be asked.
type update interface {
	GetCursor() string
	GetHeartbeat() *free2talkv1.Heartbeat
	GetGoAway() *free2talkv1.GoAway
}

// receiver is one opened stream.
type receiver[E update] interface {
	Receive() (E, error)
	Close() error
}

// errSilent is that a stream said nothing for too long.
var errSilent = errors.New("client: the stream fell silent")

// follower follows one stream over as many connections as it takes.
type follower[E update] struct {
	following

	client *Client
	open   func(ctx context.Context, cursor string) (receiver[E], error)
	last   func(E) bool // whether nothing comes after it
	part   func(E) bool // whether it is a part of a snapshot, and not its last

	failures int       // in a row, without a connection between them that was of use
	began    time.Time // when this connection had brought what a stream begins with; zero before
	renewed  bool      // the token, since the last message
}

// follow yields messages until the stream is over, fails for good, or ctx
// ends.
func follow[E update](ctx context.Context, c *Client, opts []StreamOption, with follower[E]) iter.Seq2[E, error] {
	return func(yield func(E, error) bool) {
		f := &follower[E]{client: c, open: with.open, last: with.last, part: with.part, following: following{silence: silentFor}}
		for _, opt := range opts {
			opt(&f.following)
		}
		if f.silence <= 0 {
			f.silence = silentFor
		}
		for {
			wait, again, err := f.session(ctx, yield)
			if again && f.client.session.clock.Wait(ctx, wait) != nil {
				again, err = false, contextError(ctx)
			}
			if !again {
				if err != nil {
					yield(*new(E), err)
				}
				return
			}
		}
	}
}

// session is one connection. It says whether to open another, after which
// wait; or why not: nil where the stream is over, or the caller has enough.
func (f *follower[E]) session(ctx context.Context, yield func(E, error) bool) (wait time.Duration, again bool, err error) {
	bounded, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(f.silence, func() { cancel(errSilent) })
	defer silence.Stop()
	f.began = time.Time{}
	stream, err := f.open(bounded, f.cursor)
	if err != nil {
		return f.after(ctx, bounded, err)
	}
	defer func() { _ = stream.Close() }()
	for {
		message, err := stream.Receive()
		if err != nil {
			return f.after(ctx, bounded, err)
		}
		silence.Reset(f.silence)
		f.took(message)
		if f.shown(message) && !yield(message, nil) {
			return 0, false, nil
		}
		switch away := message.GetGoAway(); {
		case away != nil:
			return away.GetReconnectAfter().AsDuration(), true, nil
		case f.last(message):
			return 0, false, nil
		}
	}
}

// took notes where to go on after a message, and whether the connection is of
// use. What it begins with does not say so: a server that ends each connection
// after it would be called again at once, for ever.
func (f *follower[E]) took(message E) {
	part, cursor := f.part(message), message.GetCursor()
	switch {
	case part:
		f.cursor = "" // the caller has a part of what replaces everything before: only a whole one helps
	case cursor != "":
		f.cursor = cursor
	}
	f.renewed = false
	switch {
	case !f.began.IsZero():
		f.failures = 0
	case !part:
		f.began = f.client.session.clock.Now()
	}
}

// lasted reports whether the connection was there for as long as the longest
// wait, and so of use, even where nothing happened.
func (f *follower[E]) lasted() bool {
	s := f.client.session
	return !f.began.IsZero() && s.clock.Now().Sub(f.began) >= s.retries.longest()
}

func (f *follower[E]) shown(message E) bool {
	return f.all || message.GetHeartbeat() == nil && message.GetGoAway() == nil
}

// after says what to do about the end of a connection.
func (f *follower[E]) after(ctx, bounded context.Context, err error) (time.Duration, bool, error) {
	if ctx.Err() != nil {
		return 0, false, contextError(ctx)
	}
	if f.lasted() {
		f.failures = 0
	}
	f.failures++
	silent := errors.Is(context.Cause(bounded), errSilent)
	if Reason(err) == ReasonTokenExpired && !f.renewed {
		if err = f.renew(ctx, err); err == nil {
			return 0, true, nil
		}
	}
	delay, told := RetryAfter(err)
	if !told {
		r := f.client.session.retries
		delay = spread(min(r.base()<<min(f.failures, 10), r.longest()))
	}
	switch {
	case errors.Is(err, io.EOF), silent:
		return delay, true, nil
	case Reason(err) == ReasonBadCursor && f.cursor != "":
		f.cursor = "" // of another server, or of a version that is no more: the state says that it begins anew
		return 0, true, nil
	case passing(err, told):
		return delay, true, nil
	}
	return 0, false, err
}

// renew gets a new access token in place of one that was refused. Where that
// fails in passing, the one that is held is refused again, and it is tried anew.
func (f *follower[E]) renew(ctx context.Context, refused error) error {
	tokens, err := f.client.session.current(ctx)
	if err == nil {
		_, err = f.client.session.renew(ctx, tokens, refused)
	}
	f.renewed = err == nil
	return err
}

// passing reports whether the same again, later, may go on: the connection
// broke, the server is away or full, or this client was too slow.
func passing(err error, told bool) bool {
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeCanceled, connect.CodeUnknown, connect.CodeInternal, connect.CodeAborted:
		return true
	case connect.CodeResourceExhausted:
		return told || Reason(err) == ReasonSlowConsumer
	}
	return false
}

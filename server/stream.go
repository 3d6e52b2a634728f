package server

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	"github.com/free2talk/free2talk/server/talk"
)

const (
	heartbeatEvery = 15 * time.Second // on a quiet stream, ±20 %
	farewellWithin = time.Second      // for the event that says why a session ended
)

// errQuiet is that nothing came for as long as a stream may be quiet.
var errQuiet = errors.New("the stream is quiet")

// source is what a stream sends: messages of its RPC's response type, or
// frames. One goroutine uses it.
type source interface {
	// first is what the stream begins with: a snapshot, or resumed and what was missed.
	first(ctx context.Context) ([]any, error)
	// next waits for more, until quiet ends; what it does with what came is
	// bounded by ctx alone. io.EOF ends the stream without an error, after what
	// came with it was sent; any other error ends it with that error, likewise.
	next(ctx, quiet context.Context) ([]any, error)
	// heartbeat is sent where nothing else was for a while.
	heartbeat() any
	// goAway is sent last where the node leaves.
	goAway(after time.Duration) any
	// farewell is sent last where the caller's session has ended; it may wait for
	// what is still to come. Nil means nothing. It is also called, and not sent,
	// where the session ended before first had returned.
	farewell(ctx context.Context) []any
	// close ends what first began.
	close()
}

// keepOpen is the innermost link: it leaves the stream where [Server.run]
// finds it, which sends what the generated code has no type for.
func keepOpen(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		if spec.StreamType != connect.StreamTypeUnary {
			requestFrom(ctx).stream = stream
		}
		return next(ctx, spec, stream)
	}
}

// codecOf reports whether the caller reads JSON.
func codecOf(ctx context.Context) (json bool) {
	info, ok := connect.CallInfoForServerContext(ctx)
	return ok && info.Codec == connect.CodecNameJSON
}

// run begins a stream from src. Where the transport allows it, the stream goes
// on once the call has returned, with errGoesOn; else until it ends.
func (s *streams) run(ctx context.Context, src source) (err error) {
	q := requestFrom(ctx)
	o, err := s.open(q)
	if err != nil {
		return err
	}
	on := &ongoing{
		streams: s, entry: o, src: src,
		sender: sender{stream: q.stream, writer: q.writer, json: codecOf(ctx)},
		life:   time.AfterFunc(streamLife(), func() { s.end(o, goneAway{after: comeBack()}) }),
	}
	on.until, _ = ctx.Deadline()
	ctx, release := s.under(ctx, o)
	defer release()
	defer func() {
		if !errors.Is(err, errGoesOn) {
			on.close()
		}
	}()
	if err := s.still(ctx, q); err != nil {
		return err
	}
	batch, err := src.first(ctx)
	if err != nil && len(batch) == 0 {
		return s.unbegun(ctx, src, err)
	}
	if sent := on.sender.send(batch...); sent != nil {
		return sent
	}
	if err != nil {
		return on.ending(ctx, err)
	}
	if q.writer == nil || !q.writer.begun {
		return on.wait(ctx)
	}
	if info, ok := connect.CallInfoForServerContext(ctx); ok {
		on.sent, on.received = info.SendStats, info.ReceiveStats
	}
	q.goOn(on)
	return errGoesOn
}

// ongoing is a stream that has begun. It holds nothing of the call that began it.
type ongoing struct {
	streams *streams
	entry   *openStream
	src     source
	sender  sender
	life    *time.Timer
	until   time.Time // the call's deadline; or zero
	quiet   silence
	release func() // of the context in which it goes on; or nil

	sent, received connect.MessageStats // as the call said
}

// bounded returns the context in which the stream goes on: it ends with the
// call's deadline, or when the stream is told to end.
//
//go:noinline // what it needs would lie below the stream for as long as it waits
func (on *ongoing) bounded(ctx context.Context) context.Context {
	cancel := func() {}
	if !on.until.IsZero() && time.Until(on.until) < streamLongest { // else its life ends before
		ctx, cancel = context.WithDeadline(ctx, on.until)
	}
	ctx, release := on.streams.under(ctx, on.entry)
	on.release = func() { release(); cancel() }
	return ctx
}

// wait sends what comes, until the stream ends.
func (on *ongoing) wait(ctx context.Context) error {
	for {
		batch, err := on.quiet.await(ctx, on.src)
		if sent := on.sender.send(batch...); sent != nil {
			return sent
		}
		if err != nil {
			return on.ending(ctx, err)
		}
	}
}

func (on *ongoing) close() {
	on.quiet.broken()
	if on.release != nil {
		on.release()
	}
	on.sender.last()
	on.src.close()
	on.life.Stop()
	on.streams.close(on.entry)
}

// unbegun is the error of a stream that ends before its first message, which
// must be a snapshot or resumed: it has no cursor to go away with.
func (s *streams) unbegun(ctx context.Context, src source, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if after, away := awayAfter(err); away {
		return talk.ErrBusy.After(after)
	}
	if errors.Is(err, talk.ErrSessionRevoked) {
		over, cancel := context.WithCancel(context.WithoutCancel(ctx))
		cancel()
		src.farewell(over)
	}
	return err
}

// still asks again whether the caller's session goes on, now that its end would
// end this stream: it may have ended on the way here.
func (s *streams) still(ctx context.Context, q *request) error {
	if s.check == nil || !q.known {
		return nil
	}
	return s.check(ctx, q.caller.SessionID)
}

// streamLife is an hour at most, and not the same for streams that began
// together.
func streamLife() time.Duration { return streamLongest - rand.N(streamLongest/10) }

// silence is how long a stream may say nothing. Its clock is not set anew with
// each message: where it runs out, what was left of the silence is waited for.
type silence struct {
	ctx    context.Context //nolint:containedctx // of the waiting, which one goroutine does
	cancel context.CancelFunc
	since  time.Time // the last message
	most   time.Duration
}

// await waits for the next messages, or for as long as a stream may be quiet.
// The heartbeat interrupts the waiting alone: what has arrived is dealt with.
func (s *silence) await(ctx context.Context, src source) ([]any, error) {
	s.heard()
	for {
		if s.ctx == nil {
			s.begin(ctx)
		}
		batch, err := src.next(ctx, s.ctx)
		if !errors.Is(err, errQuiet) {
			return batch, err
		}
		if batch = s.over(batch, src); batch != nil {
			return batch, nil
		}
	}
}

// heard is that the silence begins anew.
//
//go:noinline // as over and begin: what they need would lie below the stream for as long as it waits
func (s *silence) heard() { s.since = time.Now() }

// over is that the clock has run out: a heartbeat, after what has arrived; nil
// where it is not due yet.
//
//go:noinline
func (s *silence) over(batch []any, src source) []any {
	s.broken()
	if len(batch) == 0 && time.Since(s.since) < s.most {
		return nil
	}
	s.most = 0
	return append(batch, src.heartbeat())
}

// begin sets the clock to what is left of the silence.
//
//go:noinline
func (s *silence) begin(ctx context.Context) {
	if s.most == 0 {
		s.most = heartbeatEvery*4/5 + rand.N(heartbeatEvery*2/5)
	}
	s.ctx, s.cancel = context.WithTimeoutCause(ctx, s.most-time.Since(s.since), errQuiet)
}

// broken takes the clock away.
func (s *silence) broken() {
	if s.ctx != nil {
		s.cancel()
		s.ctx = nil
	}
}

// ending says goodbye as err wants it.
func (on *ongoing) ending(ctx context.Context, err error) error {
	if ctx.Err() != nil && !errors.Is(err, io.EOF) {
		err = context.Cause(ctx)
	}
	if after, away := awayAfter(err); away {
		return on.sender.send(on.src.goAway(after))
	}
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case errors.Is(err, talk.ErrSessionRevoked):
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewellWithin)
		defer cancel()
		if sent := on.sender.send(on.src.farewell(last)...); sent != nil {
			return sent
		}
	}
	return err
}

// sender writes what has queued up in one go, or in parts where it is much.
type sender struct {
	stream connect.ServerStream
	writer *heldWriter // nil where the call did not come over HTTP
	json   bool
}

// later is a message that is made when it is sent, so that not all of many are
// there at once.
type later func() any

// last bounds the writing of how the stream ended, which comes after it: who
// does not read would hold it for ever.
func (s *sender) last() {
	if s.writer != nil {
		s.writer.drop()
		s.writer.within(writeWithin)
	}
}

// send returns an error where the other side is gone, or does not read. Each
// part has a time of its own: who reads much slowly does read.
func (s *sender) send(batch ...any) error {
	for len(batch) > 0 {
		sent, err := s.part(batch)
		if err != nil {
			return err
		}
		batch = batch[sent:]
	}
	return nil
}

// part sends the next messages, until they are enough for one write, and
// returns how many.
func (s *sender) part(batch []any) (sent int, err error) {
	if s.writer != nil {
		s.writer.hold()
	}
	for err == nil && sent < len(batch) && (s.writer == nil || !s.writer.full()) {
		err = s.one(batch[sent])
		sent++
	}
	if s.writer == nil {
		return sent, err
	}
	if released := s.writer.release(); errors.Is(released, os.ErrDeadlineExceeded) {
		return sent, talk.ErrSlowConsumer.Because(released)
	} else if err == nil {
		err = released
	}
	return sent, err
}

// one sends a message. The first goes by Connect, which writes the head; the
// others need no more than their envelope.
func (s *sender) one(message any) error {
	if made, ok := message.(later); ok {
		message = made()
	}
	if s.writer == nil || !s.writer.begun {
		return s.stream.Send(message)
	}
	f, spelt := message.(*frame)
	if !spelt {
		body, err := spell(message.(proto.Message), s.json) //nolint:forcetypeassert // sources send nothing else
		if err != nil {
			return err
		}
		f = &frame{body: body}
	}
	return s.writer.envelope(f, s.json)
}

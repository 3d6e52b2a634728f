package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// StreamLimits bounds how many streams are open at once on this node.
type StreamLimits struct {
	User    int // of one user, on all their devices. Zero means 50
	Session int // of one session. Zero means 20
	Address int // from one address (IPv6: one /64). Zero means 2,000
}

const (
	streamsOfUser    = 50
	streamsOfSession = 20
	streamsOfAddress = 2000
	streamsTryAgain  = 10 * time.Second
	streamsElsewhere = 200 * time.Millisecond // after which a stream tries again that came by a connection to a node that leaves
)

func (l StreamLimits) withDefaults() StreamLimits {
	for n, standard := range map[*int]int{&l.User: streamsOfUser, &l.Session: streamsOfSession, &l.Address: streamsOfAddress} {
		if *n == 0 {
			*n = standard
		}
	}
	return l
}

// goneAway ends a stream whose node leaves, or whose life is over.
type goneAway struct{ after time.Duration }

// Error is not for callers: the stream says go_away.
func (goneAway) Error() string { return "the stream goes away" }

// streams knows every stream that is open on this node, to end them.
type streams struct {
	limits StreamLimits
	check  func(context.Context, talk.SessionID) error // whether a session has ended; nil: none has

	mu       sync.Mutex
	leaving  bool
	users    map[talk.UserID]int
	sessions map[talk.SessionID]map[*openStream]struct{}
	peers    map[string]int
	all      map[*openStream]struct{}
}

func newStreams(limits StreamLimits) *streams {
	return &streams{
		limits: limits.withDefaults(),
		users:  map[talk.UserID]int{}, sessions: map[talk.SessionID]map[*openStream]struct{}{},
		peers: map[string]int{}, all: map[*openStream]struct{}{},
	}
}

// openStream is one of them. What is not set at once is guarded by the lock of
// streams.
type openStream struct {
	caller talk.Caller
	known  bool
	peer   string
	cancel context.CancelCauseFunc // of the context that the stream runs in
	cause  error                   // of its end, once it is told to end
}

// tell has the stream end. The lock is held.
func (o *openStream) tell(cause error) {
	if o.cause == nil {
		o.cause = cause
	}
	o.cancel(o.cause)
}

// end has a stream end.
func (s *streams) end(o *openStream, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.tell(cause)
}

// under returns the context in which a stream goes on, which ends with the
// stream, whenever that was told to; and what releases it.
func (s *streams) under(ctx context.Context, o *openStream) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.cancel = cancel; o.cause != nil {
		cancel(o.cause)
	}
	return ctx, func() { cancel(nil) }
}

// open counts a stream in, or refuses it.
func (s *streams) open(q *request) (*openStream, error) {
	o := &openStream{caller: q.caller, known: q.known, peer: addressKey(q.address), cancel: func(error) {}}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.leaving:
		return nil, talk.ErrBusy.After(streamsElsewhere)
	case s.peers[o.peer] >= s.limits.Address,
		o.known && s.users[o.caller.UserID] >= s.limits.User,
		o.known && len(s.sessions[o.caller.SessionID]) >= s.limits.Session:
		return nil, talk.ErrTooManyStreams.After(streamsTryAgain)
	}
	s.all[o] = struct{}{}
	s.peers[o.peer]++
	if o.known {
		s.users[o.caller.UserID]++
		if s.sessions[o.caller.SessionID] == nil {
			s.sessions[o.caller.SessionID] = map[*openStream]struct{}{}
		}
		s.sessions[o.caller.SessionID][o] = struct{}{}
	}
	return o, nil
}

func (s *streams) close(o *openStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, o)
	countDown(s.peers, o.peer)
	if !o.known {
		return
	}
	countDown(s.users, o.caller.UserID)
	delete(s.sessions[o.caller.SessionID], o)
	if len(s.sessions[o.caller.SessionID]) == 0 {
		delete(s.sessions, o.caller.SessionID)
	}
}

func countDown[K comparable](counts map[K]int, key K) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}

// revoked ends the streams of sessions that have ended.
func (s *streams) revoked(ids ...talk.SessionID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		for o := range s.sessions[id] {
			o.tell(talk.ErrSessionRevoked)
		}
	}
}

// leave tells every stream to go, spread out, and refuses new ones. A client
// comes back after a while of its own, so that not all come at once.
func (s *streams) leave(spread time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	s.sendAway(spread)
}

// restart tells every stream to come back soon: this node was frozen, and what
// it believed of itself is no longer so.
func (s *streams) restart(spread time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendAway(spread)
}

func (s *streams) sendAway(spread time.Duration) {
	for o := range s.all {
		away := goneAway{after: comeBack()}
		if spread <= 0 {
			o.tell(away)
			continue
		}
		time.AfterFunc(rand.N(spread), func() { s.end(o, away) })
	}
}

// comeBack is when a stream that was sent away may return: not all at once.
func comeBack() time.Duration { return 100*time.Millisecond + rand.N(2*time.Second) }

func (s *streams) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.all)
}

// awayAfter reports whether err says that the stream goes away, and how long
// to wait before coming back.
func awayAfter(err error) (time.Duration, bool) {
	var away goneAway
	ok := errors.As(err, &away)
	return away.after, ok
}

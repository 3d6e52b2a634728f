package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect/v2"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
)

const (
	// refreshEarly is how long before its end an access token is refreshed: of a
	// short-lived one, a tenth of its life.
	refreshEarly = 30 * time.Second
	// refreshWithin bounds a refresh, which outlives the callers that asked for it.
	refreshWithin = 30 * time.Second
)

// session is the tokens of one client: who is logged in.
type session struct {
	auth    free2talkv1connect.AuthServiceClient // without the chain
	store   TokenStore
	clock   Clock
	retries Retries

	mu      sync.Mutex // also held around the store, which is told in order
	loaded  bool
	tokens  Tokens
	ends    time.Time     // when the access token runs out, by our wall clock; zero: when the server says so
	early   time.Duration // how long before that it is refreshed
	unsaved bool          // the store has something older
	flight  *flight       // the refresh that is under way
}

// flight is one refresh, for everybody who wants it.
type flight struct {
	done   chan struct{} // closed when the rest is set
	tokens Tokens
	err    error
}

// current returns the tokens as they are.
func (s *session) current(ctx context.Context) (Tokens, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.load(ctx)
	return s.tokens, err
}

func (s *session) load(ctx context.Context) error {
	if s.loaded {
		return nil
	}
	tokens, err := s.store.Load(ctx)
	if err != nil {
		return fmt.Errorf("load tokens: %w", err)
	}
	s.adopt(tokens)
	return nil
}

// adopt takes over tokens of unknown age.
func (s *session) adopt(tokens Tokens) {
	s.loaded = true
	s.tokens, s.ends, s.early = tokens, tokens.AccessExpiresAt, refreshEarly
}

// replace takes over tokens that the server has just made: their life runs from
// the time of its answer, so that our own clock may be wrong. Where they cannot
// be saved they are kept all the same, and the error is returned.
func (s *session) replace(ctx context.Context, tokens Tokens, answer *connect.Header) error {
	s.adopt(tokens)
	made, err := http.ParseTime(answer.Get("Date"))
	if err != nil {
		made = s.clock.Now()
	}
	life := tokens.AccessExpiresAt.Sub(made)
	s.ends = s.clock.Now().Add(life).Round(0) // the monotonic clock stands while a machine sleeps
	s.early = min(refreshEarly, life/10)
	if life <= 0 {
		s.ends = time.Time{}
	}
	return s.save(ctx)
}

func (s *session) save(ctx context.Context) error {
	err := s.store.Save(context.WithoutCancel(ctx), s.tokens)
	s.unsaved = err != nil
	if err != nil {
		return fmt.Errorf("save tokens: %w", err)
	}
	return nil
}

// keep is replace, for who does not hold the lock.
func (s *session) keep(ctx context.Context, tokens Tokens, answer *connect.Header) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replace(ctx, tokens, answer)
}

// forget drops the tokens of the session that ended belongs to, if it is still
// the one that is held.
func (s *session) forget(ctx context.Context, ended Tokens) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	same := ended.SessionID != "" && ended.SessionID == s.tokens.SessionID
	if !same && ended.Access != s.tokens.Access {
		return nil
	}
	return s.drop(ctx)
}

func (s *session) drop(ctx context.Context) error {
	s.adopt(Tokens{})
	return s.save(ctx)
}

// rests reports whether the access token is not about to run out.
func (s *session) rests() bool {
	return s.ends.IsZero() || s.clock.Now().Before(s.ends.Add(-s.early))
}

// fresh returns tokens that are not about to run out, or none where nobody is
// logged in.
func (s *session) fresh(ctx context.Context) (Tokens, error) {
	s.mu.Lock()
	err := s.load(ctx)
	held, rests, alive := s.tokens, s.rests(), s.clock.Now().Before(s.ends)
	s.mu.Unlock()
	if err != nil || held.Refresh == "" || held.Access != "" && rests {
		return held, err
	}
	renewed, err := s.renew(ctx, held, nil)
	if err != nil && alive && !over(err) && ctx.Err() == nil {
		return held, nil // it still holds; the server is away, perhaps only for a moment
	}
	return renewed, err
}

// renew returns newer tokens than stale; where there is nothing to refresh with,
// stale and refused. Of all who ask at once, the first starts a refresh and all
// wait for it, each as long as they like.
func (s *session) renew(ctx context.Context, stale Tokens, refused error) (Tokens, error) {
	f, held := s.takeOff(ctx, stale)
	switch {
	case f == nil && held.Access == stale.Access:
		return held, refused
	case f == nil:
		return held, nil // somebody was faster
	}
	select {
	case <-f.done:
		return f.tokens, f.err
	case <-ctx.Done():
		return Tokens{}, contextError(ctx)
	}
}

// takeOff returns the refresh that is under way, or starts one, or returns the
// tokens where none is needed or possible.
func (s *session) takeOff(ctx context.Context, stale Tokens) (*flight, Tokens) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tokens.Access != stale.Access || s.tokens.Refresh == "" {
		return nil, s.tokens
	}
	if s.flight == nil {
		s.flight = &flight{done: make(chan struct{})}
		go s.fly(ctx, s.flight)
	}
	return s.flight, Tokens{}
}

// fly makes one refresh. It keeps what belongs to the caller's context but its
// end, and its call's headers: once the server has turned the token over, the
// answer must not be lost.
func (s *session) fly(ctx context.Context, f *flight) {
	defer close(f.done)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshWithin)
	defer cancel()
	ctx, info := connect.NewClientContext(ctx)

	unlock, err := s.lock(ctx)
	defer unlock()
	used, done := s.reread(ctx)
	var made Tokens
	if !done && err == nil {
		made, err = s.refresh(ctx, used.Refresh)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case done || s.tokens.Refresh != used.Refresh: // another process did, or somebody logged in or out meanwhile
	case err == nil:
		f.err = s.replace(ctx, made, info.ResponseHeader())
	case over(err):
		f.err = errors.Join(refreshError(err), s.drop(ctx))
	default:
		f.err = refreshError(err)
	}
	f.tokens, s.flight = s.tokens, nil
}

// lock keeps other processes that share the store from refreshing meanwhile.
func (s *session) lock(ctx context.Context) (unlock func(), err error) {
	unlock = func() {}
	if shared, ok := s.store.(TokenLocker); ok {
		if unlock, err = shared.Lock(ctx); err != nil {
			return func() {}, fmt.Errorf("lock tokens: %w", err)
		}
	}
	return unlock, nil
}

func refreshError(err error) error { return fmt.Errorf("refresh the session: %w", err) }

// reread returns the tokens to refresh. Another process that shares the store
// may have refreshed them: then it takes those, and reports that it is done
// where they will do.
func (s *session) reread(ctx context.Context) (Tokens, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unsaved {
		return s.tokens, false
	}
	stored, err := s.store.Load(ctx)
	if err != nil || stored == s.tokens {
		return s.tokens, false // what cannot be read may still be as it was
	}
	s.adopt(stored)
	return stored, stored.Refresh == "" || stored.Access != "" && s.rests()
}

// refresh asks for the next tokens. To ask again with the same token is safe
// where the answer was lost: the server gives the same one.
func (s *session) refresh(ctx context.Context, token string) (Tokens, error) {
	for tries := 1; ; tries++ {
		res, err := s.auth.Refresh(ctx, &free2talkv1.RefreshRequest{RefreshToken: token})
		if err == nil {
			return tokensOf(res.GetTokens()), nil
		}
		delay, again := s.retries.after(ctx, err, connect.IdempotencyIdempotent, tries)
		if !again || s.clock.Wait(ctx, delay) != nil {
			return Tokens{}, err
		}
	}
}

// over reports whether err says that the session has ended, for good.
func over(err error) bool {
	switch Reason(err) {
	case ReasonSessionRevoked, ReasonRefreshInvalid, ReasonRefreshReused:
		return true
	}
	return false
}

// contextError is the end of ctx as the transport would report it.
func contextError(ctx context.Context) error {
	code := connect.CodeCanceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = connect.CodeDeadlineExceeded
	}
	return connect.NewError(code, ctx.Err().Error()).WithCause(ctx.Err())
}

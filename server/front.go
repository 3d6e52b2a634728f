package server

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"
)

// front is what listens. The servers of a process answer on it one after the
// other, so that connections outlive whoever answers on them.
type front struct {
	http   *http.Server
	serves atomic.Pointer[Server]
}

// ServeHTTP has the server of now answer.
func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := f.enter()
	if q := s.answer(w, r); q.goesOn() && !s.carriesAlone(r, q) {
		s.goesOn(r.Context(), q)
		s.end(r.Context(), r, q)
	}
}

// enter counts a call in at the server of now, whose answer counts it out.
func (f *front) enter() *Server {
	for {
		s := f.serves.Load()
		s.calls.Add(1)
		if s == f.serves.Load() {
			return s
		}
		s.calls.Add(-1) // another one took over, and did not wait for this call
	}
}

// Succeed has s answer from now on in the place of another server of this
// process, on its connections. Then [Server.Retire] the other.
func (s *Server) Succeed(old *Server) {
	s.front = old.front
	s.front.serves.Store(s)
}

// Retire ends what a server has left that another one succeeded: its streams
// are sent away, spread out, its calls finish. It takes at most fifteen
// seconds, or until ctx is done.
func (s *Server) Retire(ctx context.Context) error {
	s.retireOnce.Do(func() { close(s.retired) })
	s.streams.leave(leaveOver)
	ctx, cancel := context.WithTimeout(ctx, shutdownMost)
	defer cancel()
	err := errors.Join(s.quiet(ctx), s.carried.wait(ctx))
	s.carried.close()
	return err
}

const quietLook = 20 * time.Millisecond

// quiet returns when no calls and no streams are left, or with ctx.
func (s *Server) quiet(ctx context.Context) error {
	look := time.NewTicker(quietLook)
	defer look.Stop()
	for s.calls.Load() > 0 || s.streams.count() > 0 {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-look.C:
		}
	}
	return nil
}

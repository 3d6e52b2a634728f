package talk

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// revokedFor is how long a revoked session is remembered: longer than any
	// access token of it can live.
	revokedFor = AccessLifetime + time.Minute
	// revokedOverlap is how far back each poll looks again, at the least: a
	// session's time of revocation is taken before the transaction commits.
	revokedOverlap = 10 * time.Second
	revokedPoll    = 500 * time.Millisecond
	// revokedStale is how old the last good poll may be before sessions are
	// read one by one.
	revokedStale = 2 * time.Second
	// sessionRead is how long such a read may take.
	sessionRead = time.Second
)

var errSlowDatabase = errors.New("the database did not answer in time")

// RevocationSource is the part of [Store] that tells which sessions ended.
type RevocationSource interface {
	TimeSource
	// Pending is when the oldest change began that may still commit, or zero.
	Pending(ctx context.Context) (time.Time, error)
	RevokedSince(ctx context.Context, since time.Time) ([]SessionID, error)
	Session(ctx context.Context, id SessionID) (Session, error)
}

// Revocations knows the sessions that were revoked in the last sixteen
// minutes, which is as long as an access token of theirs can live: so that a
// caller is identified without a query, and yet a session that ended on one
// node is known to have ended on all within a second.
type Revocations struct {
	source RevocationSource
	clock  *ClockSync

	mu      sync.RWMutex
	revoked map[SessionID]time.Time // when this node heard of it

	polling sync.Mutex
	since   time.Time                 // by the database's clock: what was revoked before was seen by the last good poll
	began   atomic.Pointer[time.Time] // the same by the local clock; nil before the first
	swept   time.Time

	reads atomic.Int64
	tell  func(...SessionID)
}

// OnEnd has f called with sessions that are found to have ended, some of them
// more than once; f must not wait. Call it before [Revocations.Run].
func (r *Revocations) OnEnd(f func(...SessionID)) { r.tell = f }

// NewRevocations reads from source, whose clock it keeps in clock. Call
// [Revocations.Poll] once before serving, then [Revocations.Run].
func NewRevocations(source RevocationSource, clock *ClockSync) *Revocations {
	return &Revocations{source: source, clock: clock, revoked: map[SessionID]time.Time{}}
}

// Poll reads the database's clock and what was revoked since the last good
// poll; the first reads the last sixteen minutes.
func (r *Revocations) Poll(ctx context.Context) error {
	r.polling.Lock()
	defer r.polling.Unlock()
	began := r.clock.local()
	if err := r.clock.Sync(ctx, r.source); err != nil {
		return err
	}
	// Later than began, but the overlap covers that.
	now := r.clock.Now()
	pending, err := r.source.Pending(ctx) // before the rows: what commits in between is in both
	if err != nil {
		return err
	}
	since := now.Add(-revokedFor)
	if r.since.After(since) {
		since = r.since.Add(-revokedOverlap)
	}
	ids, err := r.source.RevokedSince(ctx, since)
	if err != nil {
		return err
	}
	r.Add(ids...)
	r.since = now
	if !pending.IsZero() && pending.Before(now) {
		r.since = pending // what it revokes has a time after that, whenever it commits
	}
	r.began.Store(&began)
	r.forget(began)
	return nil
}

// Run polls every half second until ctx ends. It reports the first failure of
// a row of them, and nil when polling works again.
func (r *Revocations) Run(ctx context.Context, report func(error)) {
	tick := time.NewTicker(revokedPoll)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		short, cancel := context.WithTimeoutCause(ctx, revokedStale, errSlowDatabase)
		err := r.Poll(short)
		cancel()
		if ctx.Err() == nil && failing != (err != nil) {
			failing = err != nil
			report(err)
		}
	}
}

// Add takes note of sessions that were revoked: at once, on the node that did
// it and on those that hear of it.
func (r *Revocations) Add(ids ...SessionID) {
	if len(ids) == 0 {
		return
	}
	now := r.clock.local()
	var fresh []SessionID
	r.mu.Lock()
	for _, id := range ids {
		if _, known := r.revoked[id]; !known {
			r.revoked[id] = now
			fresh = append(fresh, id)
		}
	}
	r.mu.Unlock()
	if r.tell != nil && len(fresh) > 0 {
		r.tell(fresh...)
	}
}

// Check returns ErrSessionRevoked for a session that is known to have ended.
// Where the last good poll began over two seconds ago it reads the session
// itself, and returns ErrDatabaseUnavailable where it cannot.
func (r *Revocations) Check(ctx context.Context, id SessionID) error {
	r.mu.RLock()
	_, revoked := r.revoked[id]
	r.mu.RUnlock()
	switch {
	case revoked:
		return ErrSessionRevoked
	case r.Fresh():
		return nil
	}
	return r.look(ctx, id)
}

// Fresh reports whether the last good poll began at most two seconds ago.
func (r *Revocations) Fresh() bool {
	began := r.began.Load()
	return began != nil && r.clock.local().Sub(*began) <= revokedStale
}

// Reads is how many sessions were read one by one.
func (r *Revocations) Reads() int64 { return r.reads.Load() }

// Known is how many revoked sessions are remembered.
func (r *Revocations) Known() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.revoked)
}

func (r *Revocations) look(ctx context.Context, id SessionID) error {
	r.reads.Add(1)
	ctx, cancel := context.WithTimeoutCause(ctx, sessionRead, errSlowDatabase)
	defer cancel()
	session, err := r.source.Session(ctx, id)
	switch {
	case errors.Is(err, ErrSessionNotFound):
		return ErrSessionRevoked
	case err != nil:
		return ErrDatabaseUnavailable.Because(err)
	case !session.RevokedAt.IsZero():
		r.Add(id)
		return ErrSessionRevoked
	}
	return nil
}

// forget drops, once a minute, what no token can ask for any more. An id is
// kept from when it was heard of, which is never before it was revoked.
func (r *Revocations) forget(now time.Time) {
	if now.Sub(r.swept) < time.Minute {
		return
	}
	r.swept = now
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, heard := range r.revoked {
		if now.Sub(heard) > revokedFor {
			delete(r.revoked, id)
		}
	}
}

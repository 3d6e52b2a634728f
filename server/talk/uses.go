package talk

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// A session's use is noted once in useEvery, and what was noted is written
// once in writeEvery. The first token of a generation is noted at once.
const (
	useEvery   = time.Minute
	writeEvery = time.Second
	useKeep    = 20 * time.Minute // longer than an access token lives
)

// SessionCache shares the last uses of sessions between nodes before they are
// written down. It is a convenience: without it a list of devices is a second
// behind.
type SessionCache interface {
	// Touch notes uses.
	Touch(ctx context.Context, uses []SessionUse) error
	// Used returns the last uses of those of ids that have any noted.
	Used(ctx context.Context, ids []SessionID) (map[SessionID]SessionUse, error)
}

// Uses notes which sessions are at work, without a query on the request path.
type Uses struct {
	store Store
	cache SessionCache
	log   *slog.Logger

	mu      sync.Mutex
	seen    map[SessionID]SessionUse // the last one noted
	pending map[SessionID]SessionUse // not yet written
}

// NewUses makes the notebook of one node; [Uses.Run] writes it down.
func NewUses(store Store, cache SessionCache, log *slog.Logger) *Uses {
	return &Uses{
		store: store, cache: cache, log: log,
		seen: map[SessionID]SessionUse{}, pending: map[SessionID]SessionUse{},
	}
}

// Note remembers that caller was seen. It returns from when on it has to be
// told of them again.
func (u *Uses) Note(caller Caller, device Device, now time.Time) time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	last, ok := u.seen[caller.SessionID]
	if ok && last.Generation >= caller.Generation && now.Sub(last.At) < useEvery {
		return last.At.Add(useEvery)
	}
	use := SessionUse{
		ID: caller.SessionID, At: now, IP: device.IP, UserAgent: device.UserAgent,
		Generation: max(caller.Generation, last.Generation),
	}
	u.seen[use.ID], u.pending[use.ID] = use, use
	return now.Add(useEvery)
}

// Confirmed reports whether this node has seen an access token of that
// generation, written down or not.
func (u *Uses) Confirmed(id SessionID, generation int64) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.seen[id].Generation >= generation
}

// Overlay puts uses that are not yet written over what the database says.
func (u *Uses) Overlay(ctx context.Context, sessions []Session) []Session {
	ids := make([]SessionID, len(sessions))
	for i, s := range sessions {
		ids[i] = s.ID
	}
	shared, err := u.cache.Used(ctx, ids)
	if err != nil {
		u.log.DebugContext(ctx, "session uses not shared", "error", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for i := range sessions {
		s := &sessions[i]
		for _, use := range []SessionUse{shared[s.ID], u.seen[s.ID]} {
			if use.At.After(s.LastUsedAt) {
				s.LastUsedAt, s.IP, s.UserAgent = use.At, use.IP, use.UserAgent
			}
		}
	}
	return sessions
}

// Run writes the notes down until ctx ends, and then what is left.
func (u *Uses) Run(ctx context.Context) {
	tick := time.NewTicker(writeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			u.Write(last)
			return
		case <-tick.C:
			u.Write(ctx)
		}
	}
}

// Write writes down what was noted. What could not be written is kept.
func (u *Uses) Write(ctx context.Context) {
	uses := u.take()
	if len(uses) == 0 {
		return
	}
	if err := u.store.UseSessions(ctx, uses); err != nil {
		u.log.Warn("session uses not written", "error", err)
		u.giveBack(uses)
		return
	}
	if err := u.cache.Touch(ctx, uses); err != nil {
		u.log.DebugContext(ctx, "session uses not shared", "error", err)
	}
}

func (u *Uses) take() []SessionUse {
	u.mu.Lock()
	defer u.mu.Unlock()
	uses := make([]SessionUse, 0, len(u.pending))
	var latest time.Time
	for _, use := range u.pending {
		uses = append(uses, use)
		latest = maxTime(latest, use.At)
	}
	clear(u.pending)
	for id, use := range u.seen {
		if latest.Sub(use.At) > useKeep {
			delete(u.seen, id)
		}
	}
	return uses
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (u *Uses) giveBack(uses []SessionUse) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, use := range uses {
		if _, newer := u.pending[use.ID]; !newer {
			u.pending[use.ID] = use
		}
	}
}

package talk

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// registry is a database of sessions whose clock is ahead of the node's.
type registry struct {
	mu      sync.Mutex
	ahead   time.Duration
	ended   map[SessionID]time.Time // by its own clock
	asked   []time.Time             // since when
	pending time.Time               // since when a change is under way
	slow    time.Duration           // how long an answer takes
	away    error
	missing []SessionID
}

func (r *registry) wait(ctx context.Context) error {
	r.mu.Lock()
	slow, away := r.slow, r.away
	r.mu.Unlock()
	if slow > 0 {
		select {
		case <-time.After(slow):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return away
}

func (r *registry) time() time.Time { return time.Now().Add(r.ahead).Round(0) }

func (r *registry) Now(ctx context.Context) (time.Time, error) {
	return r.time(), r.wait(ctx)
}

func (r *registry) Pending(ctx context.Context) (time.Time, error) {
	err := r.wait(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pending, err
}

func (r *registry) RevokedSince(ctx context.Context, since time.Time) (ids []SessionID, err error) {
	err = r.wait(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, since)
	for id, at := range r.ended {
		if !at.Before(since) {
			ids = append(ids, id)
		}
	}
	if err != nil {
		return nil, err
	}
	return ids, nil
}

func (r *registry) Session(ctx context.Context, id SessionID) (Session, error) {
	if err := r.wait(ctx); err != nil {
		return Session{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.missing, id) {
		return Session{}, ErrSessionNotFound
	}
	return Session{ID: id, RevokedAt: r.ended[id]}, nil
}

func (r *registry) revoke(id SessionID, ago time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended[id] = r.time().Add(-ago)
}

func (r *registry) set(change func(*registry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

// inABubble runs a test of revocations in time that passes by itself.
func inABubble(t *testing.T, name string, f func(t *testing.T, db *registry, node *Revocations)) {
	t.Run(name, func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			db := &registry{ended: map[SessionID]time.Time{}, ahead: time.Hour}
			f(t, db, NewRevocations(db, NewClockSync(nil)))
		})
	})
}

// pass lets the bubble's time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func (r *Revocations) wants(t *testing.T, id SessionID, want error) {
	t.Helper()
	if err := r.Check(t.Context(), id); !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("%s: %v, want %v", id, err, want)
	}
}

func TestRevocations(t *testing.T) {
	inABubble(t, "the first poll reads the last sixteen minutes, by the database's clock", func(t *testing.T, db *registry, node *Revocations) {
		db.revoke("recent", 15*time.Minute)
		db.revoke("old", 17*time.Minute)
		if err := node.Poll(t.Context()); err != nil {
			t.Fatal(err)
		}
		node.wants(t, "recent", ErrSessionRevoked)
		node.wants(t, "living", nil)
		if node.Known() != 1 || node.Reads() != 0 {
			t.Errorf("%d known, %d reads", node.Known(), node.Reads())
		}
	})
	inABubble(t, "every node knows within a second", func(t *testing.T, db *registry, node *Revocations) {
		node.Poll(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		go node.Run(ctx, func(err error) { t.Error(err) })
		for i := range 40 {
			pass(time.Duration(i) * 31 * time.Millisecond)
			id := SessionID(strconv.Itoa(i))
			db.revoke(id, 0)
			pass(time.Second)
			node.wants(t, id, ErrSessionRevoked)
		}
		cancel()
		synctest.Wait()
	})
	inABubble(t, "the node that revoked knows at once", func(t *testing.T, _ *registry, node *Revocations) {
		node.Poll(t.Context())
		node.Add("a", "b")
		node.Add()
		node.wants(t, "a", ErrSessionRevoked)
		node.wants(t, "b", ErrSessionRevoked)
	})
	inABubble(t, "what no token can ask for is forgotten", func(t *testing.T, _ *registry, node *Revocations) {
		node.Poll(t.Context())
		node.Add("a")
		for range 15 {
			pass(time.Minute)
			node.Poll(t.Context())
		}
		pass(30 * time.Second)
		node.Poll(t.Context())
		node.wants(t, "a", ErrSessionRevoked)
		for range 3 {
			pass(time.Minute)
			node.Poll(t.Context())
		}
		if node.Known() != 0 {
			t.Error("it is still there")
		}
	})
	inABubble(t, "an outage of minutes loses nothing", func(t *testing.T, db *registry, node *Revocations) {
		node.Poll(t.Context())
		db.set(func(r *registry) { r.away = ErrDatabaseUnavailable })
		for range 10 {
			pass(time.Minute)
			if err := node.Poll(t.Context()); err == nil {
				t.Fatal("no error")
			}
		}
		db.revoke("meanwhile", 9*time.Minute)
		db.set(func(r *registry) { r.away = nil })
		node.Poll(t.Context())
		node.wants(t, "meanwhile", ErrSessionRevoked)
	})
}

func TestRevocationsThatCommitLate(t *testing.T) {
	inABubble(t, "a revocation that committed ten seconds after its time is seen", func(t *testing.T, db *registry, node *Revocations) {
		node.Poll(t.Context())
		pass(20 * time.Second)
		node.Poll(t.Context())
		pass(500 * time.Millisecond)
		db.revoke("late", 10*time.Second)
		node.Poll(t.Context())
		node.wants(t, "late", ErrSessionRevoked)
	})
	inABubble(t, "a revocation is seen whenever it commits", func(t *testing.T, db *registry, node *Revocations) {
		node.Poll(t.Context())
		pass(20 * time.Second)
		db.set(func(r *registry) { r.pending = r.time() })
		for range 120 {
			node.Poll(t.Context())
			pass(500 * time.Millisecond)
		}
		db.revoke("late", 59*time.Second)
		db.set(func(r *registry) { r.pending = time.Time{} })
		node.Poll(t.Context())
		node.wants(t, "late", ErrSessionRevoked)
		node.Poll(t.Context())
		if again := db.asked[len(db.asked)-1]; db.time().Sub(again) > revokedOverlap+time.Second {
			t.Errorf("it still looks back to %s", again)
		}
	})
}

func TestRevocationsWhenPollsFail(t *testing.T) {
	inABubble(t, "before the first poll each session is read", func(t *testing.T, db *registry, node *Revocations) {
		db.revoke("ended", 0)
		node.wants(t, "living", nil)
		node.wants(t, "ended", ErrSessionRevoked)
		if node.Reads() != 2 {
			t.Errorf("%d reads", node.Reads())
		}
	})
	inABubble(t, "two seconds after the last good poll each session is read", func(t *testing.T, db *registry, node *Revocations) {
		node.Poll(t.Context())
		db.revoke("ended", 0)
		db.set(func(r *registry) { r.missing = []SessionID{"erased"} })
		pass(2 * time.Second)
		node.wants(t, "ended", nil) // the bound that is promised
		pass(time.Millisecond)
		node.wants(t, "ended", ErrSessionRevoked)
		node.wants(t, "erased", ErrSessionRevoked)
		node.wants(t, "living", nil)
		if node.Reads() != 3 {
			t.Errorf("%d reads", node.Reads())
		}
		node.wants(t, "ended", ErrSessionRevoked)
		if node.Reads() != 3 {
			t.Error("what was read as ended was read again")
		}
	})
	inABubble(t, "a poll counts from when it began", func(t *testing.T, db *registry, node *Revocations) {
		db.set(func(r *registry) { r.slow = 1100 * time.Millisecond })
		node.Poll(t.Context()) // 2.2 s
		if node.Fresh() {
			t.Error("it is called fresh")
		}
	})
	inABubble(t, "checklist_37_without_the_database_the_answer_is_unavailable", func(t *testing.T, db *registry, node *Revocations) {
		node.Poll(t.Context())
		node.Add("ended")
		db.set(func(r *registry) { r.away = errors.New("connection refused") })
		pass(time.Second)
		node.wants(t, "living", nil)
		pass(2 * time.Second)
		node.wants(t, "living", ErrDatabaseUnavailable)
		node.wants(t, "ended", ErrSessionRevoked)
		db.set(func(r *registry) { r.away, r.slow = nil, time.Hour })
		start := time.Now()
		node.wants(t, "living", ErrDatabaseUnavailable)
		if spent := time.Since(start); spent != sessionRead {
			t.Errorf("a database that hangs keeps the caller for %s", spent)
		}
	})
	inABubble(t, "a failure is reported once, and so is its end", func(t *testing.T, db *registry, node *Revocations) {
		ctx, cancel := context.WithCancel(t.Context())
		var told []error
		go node.Run(ctx, func(err error) { told = append(told, err) })
		db.set(func(r *registry) { r.away = ErrDatabaseUnavailable })
		pass(5 * time.Second)
		db.set(func(r *registry) { r.away, r.slow = nil, time.Hour })
		pass(5 * time.Second)
		db.set(func(r *registry) { r.slow = 0 })
		pass(5 * time.Second)
		cancel()
		synctest.Wait()
		if len(told) != 2 || !errors.Is(told[0], ErrDatabaseUnavailable) || told[1] != nil {
			t.Errorf("%v", told)
		}
	})
}

// tower is a database's clock as a node sees it, with a round trip.
type tower struct {
	node      *time.Time // the node's monotonic clock
	at        func() time.Time
	out, back time.Duration
	err       error
}

func (s *tower) Now(context.Context) (time.Time, error) {
	*s.node = s.node.Add(s.out)
	told := s.at()
	*s.node = s.node.Add(s.back)
	return told, s.err
}

// farTower is a node's clock, and a database an hour ahead of it.
func farTower() (*time.Time, *tower, *ClockSync) {
	node := noon
	db := &tower{node: &node, at: func() time.Time { return node.Add(time.Hour) }}
	return &node, db, NewClockSync(func() time.Time { return node })
}

func (c *ClockSync) wants(t *testing.T, want time.Time, within time.Duration) {
	t.Helper()
	if off := c.Now().Sub(want).Abs(); off > within {
		t.Errorf("off by %s", off)
	}
}

func TestClockSync(t *testing.T) {
	t.Run("checklist_25_a_node_an_hour_off_agrees_with_the_database", func(t *testing.T) {
		node, db, clock := farTower()
		clock.wants(t, noon, 0) // before the first reading: its own
		clock.Sync(t.Context(), db)
		clock.wants(t, db.at(), 0)
		*node = node.Add(time.Minute)
		clock.wants(t, db.at(), 0)
		if clock.Offset() != time.Hour {
			t.Error(clock.Offset())
		}
	})
	t.Run("the middle of the round trip is taken", func(t *testing.T) {
		_, db, clock := farTower()
		db.out, db.back = 100*time.Millisecond, 300*time.Millisecond
		clock.Sync(t.Context(), db)
		clock.wants(t, db.at(), 100*time.Millisecond)
	})
	t.Run("a slow reading spoils nothing", func(t *testing.T) {
		_, db, clock := farTower()
		clock.Sync(t.Context(), db)
		db.back = 3 * time.Second
		clock.Sync(t.Context(), db)
		clock.wants(t, db.at(), 0)
	})
	t.Run("a quick reading corrects a slow one", func(t *testing.T) {
		_, db, clock := farTower()
		db.back = 3 * time.Second
		clock.Sync(t.Context(), db)
		db.back = time.Millisecond
		clock.Sync(t.Context(), db)
		clock.wants(t, db.at(), time.Millisecond)
	})
}

func TestClockSyncIsCorrected(t *testing.T) {
	t.Run("checklist_25_a_failover_sets_it_back_once_and_by_that_much", func(t *testing.T) {
		node, db, clock := farTower()
		clock.Sync(t.Context(), db)
		before := clock.Now()
		db.at = func() time.Time { return node.Add(time.Hour - 3*time.Second) }
		clock.Sync(t.Context(), db)
		if got := clock.Now().Sub(before); got != -3*time.Second {
			t.Error(got)
		}
		for range 100 {
			before = clock.Now()
			*node = node.Add(time.Millisecond)
			clock.Sync(t.Context(), db)
			if !clock.Now().After(before) {
				t.Fatal("it stands or runs back")
			}
		}
	})
	t.Run("a failed reading changes nothing", func(t *testing.T) {
		_, db, clock := farTower()
		clock.Sync(t.Context(), db)
		db.err, db.at = ErrDatabaseUnavailable, func() time.Time { return time.Time{} }
		if err := clock.Sync(t.Context(), db); !errors.Is(err, ErrDatabaseUnavailable) {
			t.Error(err)
		}
		clock.wants(t, noon.Add(time.Hour), 0)
	})
	t.Run("times are UTC, in whole microseconds", func(t *testing.T) {
		east := time.FixedZone("east", 3600)
		clock := NewClockSync(func() time.Time { return noon.In(east).Add(1999 * time.Nanosecond) })
		if got := clock.Now(); got.Location() != time.UTC || !got.Equal(noon.Add(time.Microsecond)) {
			t.Error(got)
		}
	})
	t.Run("zero means the machine's clock", func(t *testing.T) {
		if off := time.Since(NewClockSync(nil).Now()).Abs(); off > time.Minute {
			t.Error(off)
		}
	})
}

func BenchmarkRevocations(b *testing.B) {
	db := &registry{ended: map[SessionID]time.Time{}}
	node := NewRevocations(db, NewClockSync(nil))
	node.Poll(b.Context())
	now := node.clock.local()
	node.clock.local = func() time.Time { return now }
	for i := range 10000 {
		node.Add(SessionID(strconv.Itoa(i)))
	}
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			node.Check(b.Context(), adaPhone)
		}
	})
}

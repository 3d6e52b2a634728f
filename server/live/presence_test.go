package live_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

// switchboard is the connections of all nodes, in memory, and the database of
// nodes: what a presence needs. Nobody sits anywhere.
type switchboard struct {
	talk.Connections
	talk.Nodes

	mu       sync.Mutex
	away     bool                 // Redis is
	online   map[talk.UserID]bool // as Redis has it
	rooms    map[talk.UserID]talk.RoomID
	swept    bool // the next renewal hears so
	late     int  // for so many looks, after which it is not any more
	begun    []string
	reported map[string][]talk.UserID // node → its people
}

func newSwitchboard() *switchboard {
	return &switchboard{online: map[talk.UserID]bool{}, rooms: map[talk.UserID]talk.RoomID{}, reported: map[string][]talk.UserID{}}
}

var errAway = errors.New("redis is away")

func (s *switchboard) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *switchboard) redis(f func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.away {
		return errAway
	}
	f()
	return nil
}

// Open is talk.Connections'.
func (s *switchboard) Open(_ context.Context, _ string, c talk.Connection) error {
	return s.redis(func() { s.online[c.User] = true })
}

// Close is talk.Connections'.
func (s *switchboard) Close(context.Context, string, talk.Connection, time.Duration) (int, error) {
	return 0, s.redis(func() {})
}

// Online is talk.Connections'.
func (s *switchboard) Online(_ context.Context, users []talk.UserID) (map[talk.UserID]bool, error) {
	found := map[talk.UserID]bool{}
	s.mu.Lock()
	late := s.late > 0
	s.late = max(0, s.late-1)
	s.mu.Unlock()
	if late {
		return nil, errAway
	}
	return found, s.redis(func() {
		for _, user := range users {
			found[user] = s.online[user]
		}
	})
}

// Connected is talk.Connections'.
func (s *switchboard) Connected(ctx context.Context, users []talk.UserID) (map[talk.UserID]bool, error) {
	return s.Online(ctx, users)
}

// Leaving is talk.Connections': nobody knows when anybody went.
func (s *switchboard) Leaving(ctx context.Context, users []talk.UserID) (map[talk.UserID]time.Duration, error) {
	online, err := s.Online(ctx, users)
	left := map[talk.UserID]time.Duration{}
	for user, there := range online {
		if !there {
			left[user] = 0
		}
	}
	return left, err
}

// Expire is talk.Connections'.
func (s *switchboard) Expire(context.Context, int) ([]talk.UserID, error) { return nil, nil }

// Report is talk.Connections'.
func (s *switchboard) Report(_ context.Context, shard int, node string, _ []string, own []talk.Connection) (bool, error) {
	return true, s.redis(func() {
		people := slices.DeleteFunc(s.reported[node], func(user talk.UserID) bool { return talk.PresenceShard(user) == shard })
		for _, conn := range own {
			people = append(people, conn.User)
		}
		s.reported[node] = people
	})
}

// Retire is both's.
func (s *switchboard) Retire(context.Context, string) error { return nil }

// Bury implements [talk.Nodes].
func (s *switchboard) Bury(context.Context, string) error { return nil }

// Count is talk.Connections'.
func (s *switchboard) Count(context.Context) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.online), nil
}

// Renew is talk.Nodes'.
func (s *switchboard) Renew(_ context.Context, node string, begins bool) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if begins {
		s.begun = append(s.begun, node)
	}
	if s.swept && !begins {
		s.swept = false
		return nil, talk.ErrNodeSwept
	}
	return []string{node}, nil
}

// SweepNodes is talk.Nodes'.
func (s *switchboard) SweepNodes(context.Context) ([]talk.DeadNode, error) { return nil, nil }

// LostSeats is talk.Nodes'.
func (s *switchboard) LostSeats(context.Context, time.Time, int) ([]talk.LostSeat, error) {
	return nil, nil
}

// SeatedPeople is talk.Nodes'.
func (s *switchboard) SeatedPeople(context.Context, talk.UserID, time.Time, int) ([]talk.UserID, error) {
	return nil, nil
}

// Saw is talk.Nodes'.
func (s *switchboard) Saw(context.Context, []talk.UserID, time.Time) error { return nil }

// Whereabouts is talk.Nodes'.
func (s *switchboard) Whereabouts(_ context.Context, users []talk.UserID) ([]talk.Whereabouts, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []talk.Whereabouts
	for _, user := range users {
		found = append(found, talk.Whereabouts{UserID: user, Seq: 1, RoomID: s.rooms[user]})
	}
	return found, nil
}

// presence is one node's, not yet running.
func (s *switchboard) presence(restart func()) *live.Presence {
	p := live.NewPresence(live.PresenceConfig{
		Node: "node", Nodes: s, Clock: time.Now, Log: slog.New(slog.DiscardHandler), Grace: time.Minute, Restart: restart,
	})
	p.Use(s)
	return p
}

func running(t *testing.T, p *live.Presence) {
	t.Helper()
	if err := p.Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { p.Run(ctx) })
	t.Cleanup(func() { stop(); run.Wait() })
}

// heardOf waits for the next changes that a watch tells.
func heardOf(t *testing.T, w *live.PresenceWatch) []talk.Presence {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		if err := w.Wait(ctx); err != nil {
			t.Fatal("nothing was told: ", err)
		}
		if changes := w.Take(); len(changes) > 0 {
			return changes
		}
	}
}

const (
	ada = talk.UserID("ada")
	bob = talk.UserID("bob")
)

// P2: while Redis is away, who is connected to this node is online, in a
// snapshot and in what follows it.
func TestP2_who_is_here_is_online_without_redis(t *testing.T) {
	t.Parallel()
	s := newSwitchboard()
	s.away = true
	p := s.presence(nil)
	p.Attach(t.Context(), ada, "session")
	first, w, err := p.Watch(t.Context(), []talk.UserID{ada, bob})
	if err != nil || len(first) != 2 || !first[0].Online || !first[0].Stale || first[1].Online {
		t.Fatalf("%v, %v", first, err)
	}
	defer w.Close()
	p.Follow(talk.Event{Topic: talk.UserTopic(ada), Seq: 2, Fact: talk.Moved{RoomID: "room"}})
	if changes := heardOf(t, w); len(changes) != 1 || !changes[0].Online || changes[0].RoomID != "room" {
		t.Errorf("she moves, and it is told that %v", changes)
	}
}

// P2, P4: a node that has just started is asked by somebody who watches, while
// Redis misses a time-out: who is online is not said to be offline.
func TestP4_a_watch_begins_with_what_is_known(t *testing.T) {
	t.Parallel()
	s := newSwitchboard()
	s.online[ada], s.away = true, true
	p := s.presence(nil)
	time.AfterFunc(50*time.Millisecond, func() { s.set(func() { s.away = false }) })
	first, w, err := p.Watch(t.Context(), []talk.UserID{ada, bob})
	if err != nil || len(first) != 2 || !first[0].Online || first[0].Stale || first[1].Online || first[1].Stale {
		t.Fatalf("%v, %v", first, err)
	}
	w.Close()
	s.set(func() { s.away = true })
	if first, w, err = p.Watch(t.Context(), []talk.UserID{ada}); err != nil || !first[0].Online || !first[0].Stale {
		t.Fatalf("while Redis is away: %v, %v", first, err)
	}
	p.Flipped(ada, false)
	w.Close()
	if first, w, err = p.Watch(t.Context(), []talk.UserID{ada}); err != nil || first[0].Online {
		t.Fatalf("once it was heard that she went: %v, %v", first, err)
	}
	w.Close()
}

// P2: of whom was seen online before Redis went away that is said again, as
// stale.
func TestP2_what_was_known_is_said_without_redis(t *testing.T) {
	t.Parallel()
	s := newSwitchboard()
	s.online[ada] = true
	p := s.presence(nil)
	for _, away := range []bool{false, true} {
		s.set(func() { s.away = away })
		all, err := p.Of(t.Context(), []talk.UserID{ada, bob})
		if err != nil || !all[0].Online || all[0].Stale != away || all[1].Online {
			t.Errorf("away %v: %v, %v", away, all, err)
		}
	}
	p.Flipped(ada, false)
	if all, err := p.Of(t.Context(), []talk.UserID{ada}); err != nil || all[0].Online {
		t.Errorf("she went: %v, %v", all, err)
	}
}

// E3, P3: a flip that Redis lost without a word is found within ten seconds.
func TestE3_P3_a_lost_flip_is_found(t *testing.T) {
	t.Parallel()
	s := newSwitchboard()
	p := s.presence(nil)
	running(t, p)
	first, w, err := p.Watch(t.Context(), []talk.UserID{ada})
	if err != nil || first[0].Online {
		t.Fatalf("%v, %v", first, err)
	}
	defer w.Close()
	for _, online := range []bool{true, false} { // the first is found by what a node looks at when it begins
		s.set(func() { s.online[ada] = online })
		began := time.Now()
		if changes := heardOf(t, w); changes[0].Online != online {
			t.Errorf("told %v", changes)
		}
		t.Logf("found after %v", time.Since(began))
	}
}

// P2: a node that counted as dead and wakes keeps those whose grace is not
// over connected until they are back, and does not bring back those of whom
// everybody has heard that they are gone.
func TestP2_a_node_that_wakes_keeps_whose_grace_is_not_over(t *testing.T) {
	t.Parallel()
	s := newSwitchboard()
	restarted := make(chan struct{})
	p := s.presence(func() { close(restarted) })
	running(t, p)
	p.Attach(t.Context(), ada, "session")
	detach := p.Attach(t.Context(), bob, "session")
	s.set(func() { s.online[bob], s.swept = false, true })
	select {
	case <-restarted:
	case <-time.After(20 * time.Second):
		t.Fatal("it does not notice that it was swept")
	}
	again := func() (people []talk.UserID, begun int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.reported["node.1"], len(s.begun)
	}
	deadline := time.After(20 * time.Second)
	for people, begun := again(); !slices.Equal(people, []talk.UserID{ada}) || begun != 2; people, begun = again() {
		select {
		case <-deadline:
			t.Fatalf("it has %v, and began %d times", people, begun)
		case <-time.After(10 * time.Millisecond):
		}
	}
	detach(live.Parting{}) // the end of bob's stream is nothing new
	if p.Own() != 1 {
		t.Errorf("it has %d connections", p.Own())
	}
}

// P1: a node that wakes while Redis is late says of nobody that they are here
// before it knows who is gone: everybody has heard of those.
func TestP1_a_node_that_wakes_says_nothing_before_it_knows(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := newSwitchboard()
		p := s.presence(func() {})
		if err := p.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { p.Run(ctx) })
		p.Attach(ctx, ada, "session")
		p.Attach(ctx, bob, "session")
		time.Sleep(5 * time.Second)
		s.set(func() { s.online[bob], s.swept, s.late = false, true, 2 })
		for range 100 {
			time.Sleep(100 * time.Millisecond)
			s.set(func() {
				if slices.Contains(s.reported["node.1"], bob) {
					t.Fatalf("it brings back %v", s.reported["node.1"])
				}
			})
		}
		s.set(func() {
			if !slices.Equal(s.reported["node.1"], []talk.UserID{ada}) || len(s.begun) != 2 {
				t.Errorf("it has %v, and began %d times", s.reported["node.1"], len(s.begun))
			}
		})
		stop()
		run.Wait()
	})
}

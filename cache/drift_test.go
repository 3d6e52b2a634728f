package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc/test/bufconn"

	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

const (
	driftGrace = 30 * time.Second
	driftDead  = 10 * time.Second
	// Within that all is told: a node is dead, swept, and the grace of its people over.
	driftQuiet = driftGrace + 2*driftDead + 10*time.Second
	driftNodes = 3
	driftUsers = 40
)

// townHall is the database's list of nodes, in memory. Nobody sits anywhere.
type townHall struct {
	talk.Nodes

	mu   sync.Mutex
	seen map[string]time.Time
	dead map[string]time.Time // swept, and when they were seen last
}

// Renew is talk.Nodes'.
func (h *townHall) Renew(_ context.Context, node string, begins bool) (alive []string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, known := h.seen[node]; !known && !begins {
		return nil, talk.ErrNodeSwept
	}
	h.seen[node] = time.Now()
	for name, seen := range h.seen {
		if time.Since(seen) < driftDead {
			alive = append(alive, name)
		}
	}
	slices.Sort(alive)
	return alive, nil
}

// SweepNodes is talk.Nodes'.
func (h *townHall) SweepNodes(context.Context) (dead []talk.DeadNode, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, seen := range h.seen {
		if time.Since(seen) >= driftDead {
			h.dead[name] = seen
			delete(h.seen, name)
		}
	}
	for name, seen := range h.dead {
		dead = append(dead, talk.DeadNode{Name: name, SeenAt: seen})
	}
	return dead, nil
}

// Bury is talk.Nodes'.
func (h *townHall) Bury(_ context.Context, node string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.dead, node)
	return nil
}

// Retire is talk.Nodes'.
func (h *townHall) Retire(_ context.Context, node string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.seen, node)
	return nil
}

// LostSeats is talk.Nodes'.
func (h *townHall) LostSeats(context.Context, time.Time, int) ([]talk.LostSeat, error) {
	return nil, nil
}

// SeatedPeople is talk.Nodes'.
func (h *townHall) SeatedPeople(context.Context, talk.UserID, time.Time, int) ([]talk.UserID, error) {
	return nil, nil
}

// SeatedOf is talk.Nodes'.
func (h *townHall) SeatedOf(context.Context, []talk.UserID) ([]talk.UserID, error) { return nil, nil }

// Saw is talk.Nodes'.
func (h *townHall) Saw(context.Context, []talk.UserID, time.Time) error { return nil }

// nobody is a database without accounts: who goes has no seat to leave.
type nobody struct{ talk.Store }

// Change is talk.Store's.
func (nobody) Change(context.Context, talk.Scope, func(*talk.State) error) (talk.Told, error) {
	return talk.Told{}, talk.ErrUserNotFound
}

// cut is a list of nodes that a process which was killed does not reach.
type cut struct {
	*townHall

	off chan struct{}
}

var errKilled = errors.New("the process is gone")

func (c cut) killed() bool {
	select {
	case <-c.off:
		return true
	default:
		return false
	}
}

// Renew is talk.Nodes'.
func (c cut) Renew(ctx context.Context, node string, begins bool) ([]string, error) {
	if c.killed() {
		return nil, errKilled
	}
	return c.townHall.Renew(ctx, node, begins)
}

// Retire is talk.Nodes'.
func (c cut) Retire(ctx context.Context, node string) error {
	if c.killed() {
		return errKilled
	}
	return c.townHall.Retire(ctx, node)
}

// wires are the connections to a Redis within the process. They can break, and
// be broken for a while.
type wires struct {
	redis *miniredis.Miniredis

	mu   sync.Mutex
	down bool
	ends []net.Conn
}

// dial connects by buffers: miniredis's own connections in memory have none,
// and a pipeline locks up on them.
func (w *wires) dial(context.Context, string, string) (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.down {
		return nil, errAwayNow
	}
	far, err := w.redis.Dial()
	if err != nil {
		return nil, err
	}
	listener := bufconn.Listen(1 << 20)
	defer listener.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		defer close(accepted)
		if conn, err := listener.Accept(); err == nil {
			accepted <- conn
		}
	}()
	near, err := listener.Dial()
	if err != nil {
		return nil, err
	}
	relay, ok := <-accepted
	if !ok {
		return nil, errAwayNow
	}
	w.ends = append(w.ends, relay, far)
	for _, way := range [][2]net.Conn{{relay, far}, {far, relay}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // until either end is closed
			_, _ = way[0].Close(), way[1].Close()
		}()
	}
	return near, nil
}

var errAwayNow = errors.New("redis is away")

// away breaks all connections; until it is back there are no new ones.
func (w *wires) away(is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down = is
	for _, end := range w.ends {
		_ = end.Close()
	}
	w.ends = nil
}

// hamlet is a few nodes of people who come and go, by a clock that jumps.
type hamlet struct {
	*testing.T

	ctx   context.Context
	hall  *townHall
	wires *wires
	turn  *rand.Rand
	made  int
	nodes []*driftNode
	open  map[talk.UserID][]*driftTab
}

type driftNode struct {
	presence *live.Presence
	redis    *Redis
	kill     chan struct{}
	stop     func() // and waits
}

type driftTab struct {
	node  *driftNode
	close func(live.Parting)
}

func (h *hamlet) start() {
	config := Config{URL: "redis://127.0.0.1:1", Near: -1, Log: slog.New(slog.DiscardHandler)}.withDefaults()
	options, err := config.options()
	check(h, err)
	options.Dialer = h.wires.dial
	quiet.Do(func() { redis.SetLogger(logger{}) })
	r, err := newRedis(redis.NewUniversalClient(options), nil, config)
	check(h, err)
	h.made++
	n := &driftNode{redis: r, kill: make(chan struct{})}
	n.presence = live.NewPresence(live.PresenceConfig{
		Node: fmt.Sprint("node", h.made), Nodes: cut{h.hall, n.kill}, Clock: time.Now, Grace: driftGrace,
		Seats: &talk.Seats{Outbox: talk.NewOutbox(nobody{}, nil, time.Now, slog.New(slog.DiscardHandler))},
		Log:   slog.New(slog.DiscardHandler), Restart: func() { h.Error("a node that lives was taken for dead") },
	})
	n.presence.Use(NewConnections(r, nil))
	ctx, cancel := context.WithCancel(h.ctx)
	var run sync.WaitGroup
	run.Go(func() { check(h, r.Run(ctx)) })
	check(h, n.presence.Begin(ctx))
	run.Go(func() { n.presence.Run(ctx) })
	n.stop = func() {
		cancel()
		run.Wait()
		_ = r.Close() // where it was killed it is closed already
	}
	h.nodes = append(h.nodes, n)
}

// end ends a node: at leisure its people are sent away first; a killed one says
// nothing any more.
func (h *hamlet) end(n *driftNode, killed bool) {
	h.nodes = slices.DeleteFunc(h.nodes, func(other *driftNode) bool { return other == n })
	if killed {
		close(n.kill)
		check(h, n.redis.Close())
	}
	for user, tabs := range h.open {
		h.open[user] = slices.DeleteFunc(tabs, func(tab *driftTab) bool {
			if tab.node == n && !killed {
				tab.close(live.Parting{})
			}
			return tab.node == n
		})
	}
	n.stop()
}

// step has somebody come, go, or neither.
func (h *hamlet) step(user talk.UserID) {
	tabs := h.open[user]
	switch {
	case len(tabs) < 3 && h.turn.IntN(20) == 0:
		n := h.nodes[h.turn.IntN(len(h.nodes))]
		h.open[user] = append(tabs, &driftTab{n, n.presence.Attach(h.ctx, user, "")})
	case len(tabs) > 0 && h.turn.IntN(25) == 0:
		tabs[0].close(live.Parting{AtOnce: h.turn.IntN(5) == 0})
		h.open[user] = tabs[1:]
	}
}

// trouble is one of what happens to servers.
func (h *hamlet) trouble() string {
	n := h.nodes[h.turn.IntN(len(h.nodes))]
	switch what := []string{"killed", "restarted", "flushed", "cut", "away"}[h.turn.IntN(5)]; what {
	case "killed", "restarted":
		h.end(n, what == "killed")
		h.start()
		return what
	case "flushed":
		h.wires.redis.FlushAll()
		return what
	case "cut": // every connection breaks, and can be made again
		h.wires.away(true)
		h.wires.away(false)
		return what
	default:
		h.wires.away(true)
		time.AfterFunc(time.Duration(1+h.turn.IntN(40))*time.Second, func() { h.wires.away(false) })
		return what
	}
}

// counted checks that every node counts the people who are connected, and
// names them.
func (h *hamlet) counted(after time.Duration) {
	want, conns := []talk.UserID{}, 0
	for user, tabs := range h.open {
		if len(tabs) > 0 {
			want = append(want, user)
		}
		conns += len(tabs)
	}
	slices.Sort(want)
	own := 0
	for _, n := range h.nodes {
		own += n.presence.Own()
		if got := n.presence.Count(h.ctx); got != len(want) {
			h.Errorf("after %v: %d are online, and %d are connected", after, got, len(want))
		}
		online, err := NewConnections(n.redis, nil).Online(h.ctx, slices.Sorted(maps.Keys(h.open)))
		check(h, err)
		var got []talk.UserID
		for user, there := range online {
			if there {
				got = append(got, user)
			}
		}
		slices.Sort(got)
		if len(online) != len(h.open) || !slices.Equal(got, want) {
			h.Errorf("after %v: of %d are known %d; online %v, connected %v", after, len(h.open), len(online), got, want)
		}
	}
	if own != conns {
		h.Errorf("after %v: the nodes have %d connections of %d", after, own, conns)
	}
}

// P1: the online count drifts by nothing from the connections that are open,
// over an hour by a driven clock in which nodes are killed and restarted, and
// Redis is emptied, cut off and away.
func TestP1_the_count_does_not_drift_in_an_hour(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	lasts := testenv.Effort(10*time.Minute, time.Hour)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		mini := miniredis.NewMiniRedis()
		mini.ClockTTL(true)
		h := &hamlet{
			T: t, ctx: ctx, hall: &townHall{seen: map[string]time.Time{}, dead: map[string]time.Time{}},
			wires: &wires{redis: mini}, turn: rand.New(rand.NewPCG(seed, 0)), open: map[talk.UserID][]*driftTab{},
		}
		for n := range driftUsers {
			h.open[talk.UserID(fmt.Sprint("user", n))] = nil
		}
		users := slices.Sorted(maps.Keys(h.open))
		for range driftNodes {
			h.start()
		}
		troubles, counts := map[string]int{}, 0
		for began := time.Now(); time.Since(began) < lasts; {
			for range 3 { // troubles, and then it is quiet
				for range 20 + h.turn.IntN(20) {
					time.Sleep(time.Second) // synctest's clock, as below
					for _, user := range users {
						h.step(user)
					}
				}
				troubles[h.trouble()]++
			}
			time.Sleep(driftQuiet + 40*time.Second)
			h.counted(time.Since(began).Round(time.Second))
			counts++
		}
		t.Logf("seed %d: counted %d times in %v, over %v", seed, counts, lasts, troubles)
		for _, n := range slices.Clone(h.nodes) {
			h.end(n, false)
		}
		cancel()
		h.wires.away(true)
		mini.Close()
	})
}

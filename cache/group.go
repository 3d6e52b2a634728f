package cache

import (
	"context"
	"sync"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// loadTimeout bounds a load that nobody's deadline bounds.
const loadTimeout = 5 * time.Second

// group lets callers in this process share loads, strictly: a caller shares
// only a load that began after it came. Who comes while a key is being loaded
// waits for the next load of it, which starts when that one ends and serves
// all who wait. (A plain single flight lets a late reader join an early load
// and so see what was true before a write that it knows of.) A caller that
// gives up does not disturb the others; a load that all gave up is cancelled.
type group[T any] struct {
	// load returns the value of each key, or an error for all that it has none for.
	load  func(ctx context.Context, keys []talk.Key, since time.Time) (map[talk.Key]T, error)
	spawn func(func()) // who runs loads, and waits for them in the end

	mu    sync.Mutex
	lines map[talk.Key]*line[T]
}

// line is the load of a key that runs, and the one that waits behind it.
type line[T any] struct{ running, next *flight[T] }

// flight is one load of one key.
type flight[T any] struct {
	ctx     context.Context // of the first who wants it, for its values
	since   time.Time       // when that one came
	waiters int
	trip    *trip
	done    chan struct{}
	value   T
	err     error
}

// trip is one call of load, for the flights of one or several keys.
type trip struct {
	ctx     context.Context
	cancel  context.CancelFunc
	keys    []talk.Key
	since   time.Time
	waiters int
}

func newGroup[T any](load func(context.Context, []talk.Key, time.Time) (map[talk.Key]T, error)) *group[T] {
	return &group[T]{load: load, spawn: func(f func()) { go f() }, lines: map[talk.Key]*line[T]{}}
}

// do returns the value of each key, for a caller who came at a moment before.
// Values are shared: nobody changes them.
func (g *group[T]) do(ctx context.Context, keys []talk.Key, since time.Time) (map[talk.Key]T, error) {
	flights, mine := g.board(ctx, keys, since)
	if mine != nil {
		g.depart(mine)
	}
	values := make(map[talk.Key]T, len(keys))
	var err error
	for i, f := range flights {
		select {
		case <-f.done:
		case <-ctx.Done():
			g.leave(flights[i:])
			return nil, context.Cause(ctx)
		}
		if f.err != nil {
			err = f.err
			continue
		}
		values[keys[i]] = f.value
	}
	return values, err
}

// board finds a flight for each key, and returns the trip that the caller is
// to make, if any.
func (g *group[T]) board(ctx context.Context, keys []talk.Key, since time.Time) ([]*flight[T], *trip) {
	flights := make([]*flight[T], len(keys))
	var mine []talk.Key
	g.mu.Lock()
	defer g.mu.Unlock()
	for i, key := range keys {
		l := g.lines[key]
		switch {
		case l == nil:
			flights[i] = newFlight[T](ctx, since)
			g.lines[key] = &line[T]{running: flights[i]}
			mine = append(mine, key)
		case l.next == nil:
			l.next = newFlight[T](ctx, since)
			flights[i] = l.next
		default:
			flights[i] = l.next
		}
		flights[i].waiters++
	}
	return flights, g.start(mine)
}

func newFlight[T any](ctx context.Context, since time.Time) *flight[T] {
	return &flight[T]{ctx: ctx, since: since, done: make(chan struct{})}
}

// start makes one trip for the running flights of keys. The lock is held.
func (g *group[T]) start(keys []talk.Key) *trip {
	if len(keys) == 0 {
		return nil
	}
	first := g.lines[keys[0]].running
	t := &trip{keys: keys, since: first.since}
	t.ctx, t.cancel = context.WithTimeout(context.WithoutCancel(first.ctx), loadTimeout)
	for _, key := range keys {
		f := g.lines[key].running
		f.trip = t
		t.waiters += f.waiters
		if f.since.Before(t.since) {
			t.since = f.since
		}
	}
	return t
}

// depart makes a trip, so that its callers can give up.
func (g *group[T]) depart(t *trip) { g.spawn(func() { g.fly(t) }) }

// fly loads, hands the values out, and sends off those who waited.
func (g *group[T]) fly(t *trip) {
	var values map[talk.Key]T
	err := errPanicked // stays where load panics, so that nobody waits for ever
	defer func() { g.land(t, values, err) }()
	values, err = g.load(t.ctx, t.keys, t.since)
}

func (g *group[T]) land(t *trip, values map[talk.Key]T, err error) {
	t.cancel()
	g.mu.Lock()
	defer g.mu.Unlock()
	var again []talk.Key
	for _, key := range t.keys {
		l := g.lines[key]
		f := l.running
		var ok bool
		if f.value, ok = values[key]; !ok {
			f.err = err
		}
		close(f.done)
		if l.next == nil || l.next.waiters == 0 {
			delete(g.lines, key)
			continue
		}
		l.running, l.next = l.next, nil
		again = append(again, key)
	}
	if next := g.start(again); next != nil {
		g.depart(next)
	}
}

// leave gives up waiting for flights.
func (g *group[T]) leave(flights []*flight[T]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range flights {
		f.waiters--
		if f.trip == nil {
			continue
		}
		if f.trip.waiters--; f.trip.waiters == 0 {
			f.trip.cancel()
		}
	}
}

package cache

import (
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/free2talk/free2talk/server/talk"
)

const (
	nearTTL      = time.Minute // varied by a tenth: bounds what no rule foresaw
	nearAlone    = time.Second // how long a load from the truth is served where invalidations are not heard
	nearStripes  = 1 << 10
	nearTick     = 100 * time.Millisecond // how exactly an entry's end is kept; whether it may be served is asked of a clock that is exact
	nearOverhead = 420                    // bytes of an entry beside its value: the key, the table's and the policy's part
	// DefaultNear is how many bytes a process keeps near where nothing is said.
	DefaultNear = 64 << 20
)

// near is what a process keeps of rooms and people in its own memory, so that
// reading them again costs no trip.
//
// Two rules keep it right. An entry is served only while the invalidations of
// all nodes are heard: the last of this node's own heartbeats that came back on
// the same connection was sent less than a second ago. Messages of a
// connection come in their order, so whatever was forgotten over a second ago
// is not here; and a connection that breaks ends the epoch, and with it
// everything, as does a heartbeat that was lost on its way. And an entry is kept only where neither its epoch nor its key's
// invalidations moved since before it was asked for, so that what a slow
// reader brings home is not put over what a writer has taken away.
//
// Where invalidations are not heard, an entry is served for a second after the
// load from the truth that it comes from began, unless this process forgot it.
type near struct {
	entries *otter.Cache[nearKey, *nearEntry] // nil where nothing is kept
	ends    *otter.CoarseClock                // likewise
	base    time.Time
	until   atomic.Int64 // since base: how long the last heartbeat holds
	epoch   atomic.Uint64
	seed    maphash.Seed
	stripes [nearStripes]stripe

	used, wasted, dropped atomic.Int64 // of what was fetched before anybody asked
}

// nearKey is a talk.Key in two parts, so that asking for one makes none.
type nearKey struct {
	kind byte
	name string
}

// stripe is the keys of one hash: how often one of them was forgotten.
type stripe struct {
	mu    sync.Mutex
	moves uint64
}

// stamp is when something was asked for, in terms of what happened to it.
type stamp struct {
	epoch, moves uint64
}

// unheard is the epoch of what nobody would be told of.
const unheard = 0

type nearEntry struct {
	value  any // a *found[T]
	weight uint32
	epoch  uint64
	began  int64 // since base: the load from the truth; 0 of what Redis had
	loaded time.Time
	ahead  atomic.Bool // nobody has asked for it yet
}

// newNear keeps at most so many bytes; none where that is below zero.
func newNear(most int64) (*near, error) {
	n := &near{base: time.Now().Add(-time.Hour), seed: maphash.MakeSeed()}
	n.epoch.Store(1)
	if most < 0 {
		return n, nil
	}
	if most == 0 {
		most = DefaultNear
	}
	var err error
	n.ends = otter.NewCoarseClock(nearTick)
	n.entries, err = otter.New(&otter.Options[nearKey, *nearEntry]{
		Clock:            n.ends,
		MaximumWeight:    uint64(most),
		Weigher:          func(_ nearKey, e *nearEntry) uint32 { return e.weight },
		ExpiryCalculator: otter.ExpiryWritingFunc(expiry),
		OnAtomicDeletion: func(e otter.DeletionEvent[nearKey, *nearEntry]) {
			if e.Value.ahead.Load() {
				n.wasted.Add(1)
			}
		},
	})
	return n, err
}

func expiry(e otter.Entry[nearKey, *nearEntry]) time.Duration {
	if e.Value.weight == nearOverhead { // an absence
		return absence()
	}
	return jitter(nearTTL)
}

func (n *near) now() int64 { return int64(time.Since(n.base)) }

// get returns what is kept of a key, where it may be served.
func (n *near) get(key nearKey) *nearEntry {
	if n.entries == nil {
		return nil
	}
	e, ok := n.entries.GetIfPresent(key)
	if !ok {
		return nil
	}
	now := n.now()
	if !n.heard(e, now) && (e.began == 0 || now-e.began >= int64(nearAlone)) {
		return nil
	}
	if e.ahead.Load() && e.ahead.CompareAndSwap(true, false) {
		n.used.Add(1)
	}
	return e
}

// has reports whether a key is kept, whatever it is worth. It is no use of it.
func (n *near) has(key nearKey) bool {
	_, ok := n.entries.GetEntryQuietly(key)
	return ok
}

// heard reports whether this node would know, had the entry been forgotten
// over a second ago. The epoch is read last, since it is raised first: see heardSince.
func (n *near) heard(e *nearEntry, now int64) bool {
	return now < n.until.Load() && e.epoch == n.epoch.Load()
}

// stamp is taken before a key is asked for anywhere else.
func (n *near) stamp(key nearKey) stamp {
	if n.entries == nil {
		return stamp{}
	}
	s := n.stripe(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	return stamp{n.epoch.Load(), s.moves}
}

// put keeps an entry, unless its key may have been forgotten since the stamp.
func (n *near) put(key nearKey, since stamp, e *nearEntry) {
	if n.entries == nil {
		return
	}
	s := n.stripe(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if since.epoch == n.epoch.Load() && since.moves == s.moves {
		n.entries.Set(key, e)
	}
}

// forget drops keys, and what is on its way home of them.
func (n *near) forget(keys ...talk.Key) {
	if n.entries == nil {
		return
	}
	for _, key := range keys {
		kind, name := key.Split()
		if row := rowOf(kind); row >= 0 {
			n.drop(nearKey{kindOf(row), name})
		}
	}
}

func (n *near) drop(key nearKey) {
	s := n.stripe(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moves++
	n.entries.Invalidate(key)
}

// forgetAll drops everything: something was forgotten that was not heard.
func (n *near) forgetAll() {
	n.epoch.Add(1)
	if n.entries != nil {
		n.entries.InvalidateAll()
	}
}

// heardSince notes that all that was told before a moment has been heard, of
// what is still believed. Where the last heartbeat did not hold until this one
// was sent, nothing is that came before.
func (n *near) heardSince(sent time.Time) {
	until := int64(sent.Add(beatLasts).Sub(n.base))
	for {
		was := n.until.Load()
		if was >= until {
			return
		}
		if was > 0 && until-was > int64(beatLasts) {
			n.forgetAll()
		}
		if n.until.CompareAndSwap(was, until) {
			return
		}
	}
}

// deaf is called where invalidations may have been missed.
func (n *near) deaf() {
	n.until.Store(0)
	n.forgetAll()
}

// close ends what goes on behind the entries.
func (n *near) close() {
	if n.entries != nil {
		n.entries.StopAllGoroutines()
		n.ends.Stop()
	}
}

func (n *near) stripe(key nearKey) *stripe {
	return &n.stripes[maphash.String(n.seed, key.name)%nearStripes]
}

// stats are how much is kept, and what came of what was fetched ahead.
func (n *near) stats() (entries int, bytes uint64) {
	if n.entries == nil {
		return 0, 0
	}
	return n.entries.EstimatedSize(), n.entries.WeightedSize()
}

// weigh is an entry's size, with what does not belong to its value.
func weigh(value int) uint32 { return uint32(min(value+nearOverhead, math.MaxUint32)) }

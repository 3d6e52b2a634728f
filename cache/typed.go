package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/server/talk"
)

// Codec writes and reads the values of one type. Decode refuses what Encode
// has not written; what it returns may be made of parts of the payload.
type Codec[T any] interface {
	Encode(value T) ([]byte, error)
	Decode(payload string) (T, error)
	// Weigh is about how many bytes a value takes in memory, with everything that
	// may be made of it.
	Weigh(value T) int
}

// Load reads values from the truth. A key that is not in the map names
// nothing.
type Load[T any] func(ctx context.Context, keys []talk.Key) (map[talk.Key]T, error)

// Typed keeps values of one type, each under its own key, and loads what it
// does not have. What it returns is shared between callers and never changed.
//
// It never returns a value that was untrue when the call began: see the
// protocol in the documentation of this package.
type Typed[T any] struct {
	redis *Redis
	row   keyRow
	kind  byte
	codec Codec[T]
	load  Load[T]
	group *group[found[T]]
	stats *stats
	proof proof
}

// found is a value, or that there is none.
type found[T any] struct {
	value T
	ok    bool
}

// NewTyped keeps what the table of keys calls name; it panics where the table
// has no such row.
func NewTyped[T any](r *Redis, name string, codec Codec[T], load Load[T]) *Typed[T] {
	row := rowOf(name)
	if row < 0 {
		panic(fmt.Sprintf("cache: no entries are called %q", name))
	}
	t := &Typed[T]{
		redis: r, row: table[row], kind: kindOf(row), codec: codec, load: load,
		stats: r.metrics.stats(name), proof: proof{each: proveEach, after: beatLasts},
	}
	t.group = newGroup(t.fetch)
	t.group.spawn = r.work.Go
	return t
}

// Get returns the value of key, and whether there is one. An error is the
// load's, or the end of ctx.
func (t *Typed[T]) Get(ctx context.Context, key talk.Key) (T, bool, error) {
	_, name := key.Split()
	if f := t.nearby(ctx, name); f != nil {
		return f.value, f.ok, nil
	}
	return t.far(ctx, key, name)
}

// Named is Get of the key that is made of the name, and makes it only where
// the value is not near.
func (t *Typed[T]) Named(ctx context.Context, name string) (T, bool, error) {
	if f := t.nearby(ctx, name); f != nil {
		return f.value, f.ok, nil
	}
	return t.far(ctx, talk.Key(t.row.name+":"+name), name)
}

// far finds the value of a key in Redis, or loads it.
func (t *Typed[T]) far(ctx context.Context, key talk.Key, name string) (T, bool, error) {
	since := time.Now()
	if f, ok := t.look(ctx, key, name); ok {
		return f.value, f.ok, nil
	}
	values, err := t.group.do(ctx, []talk.Key{key}, since)
	f := values[key]
	return f.value, f.ok, err
}

// nearby returns what this process keeps of a key, or nil.
func (t *Typed[T]) nearby(ctx context.Context, name string) *found[T] {
	e := t.redis.near.get(nearKey{t.kind, name})
	if e == nil {
		return nil
	}
	f := e.value.(*found[T])
	if f.ok {
		t.stats.near.count(ctx)
	} else {
		t.stats.nearNegative.count(ctx)
	}
	t.proveNear(name, e)
	return f
}

// GetAll returns the values of keys, each named once, of those that there
// are. It takes one round trip where Redis has them all, and one load and two
// trips more for those that it does not have.
func (t *Typed[T]) GetAll(ctx context.Context, keys []talk.Key) (map[talk.Key]T, error) {
	values := make(map[talk.Key]T, len(keys))
	far := make([]talk.Key, 0, len(keys))
	for _, key := range keys {
		_, name := key.Split()
		switch f := t.nearby(ctx, name); {
		case f == nil:
			far = append(far, key)
		case f.ok:
			values[key] = f.value
		}
	}
	if len(far) == 0 {
		return values, nil
	}
	since := time.Now()
	if far = t.lookAll(ctx, far, values); len(far) == 0 {
		return values, nil
	}
	all, err := t.group.do(ctx, far, since)
	if err != nil {
		return nil, err
	}
	for key, f := range all {
		if f.ok {
			values[key] = f.value
		}
	}
	return values, nil
}

// Exists reports whether Redis holds a value of key now. It loads nothing.
func (t *Typed[T]) Exists(ctx context.Context, key talk.Key) (bool, error) {
	n, err := t.redis.holds(ctx, t.redis.cache.do, key)
	return n == 1, err
}

// Invalidate makes the next reads of keys load them again: see [Redis.Forget].
func (t *Typed[T]) Invalidate(ctx context.Context, keys ...talk.Key) error {
	return t.redis.Forget(ctx, keys...)
}

// fetch loads what Redis does not have. Callers of this process wait for it in
// the group; since is when the first of them came. It waits a little for what
// somebody else loads, and then reads it from the truth.
func (t *Typed[T]) fetch(ctx context.Context, keys []talk.Key, since time.Time) (map[talk.Key]found[T], error) {
	f := &fetch[T]{Typed: t, ctx: ctx, since: since, values: make(map[talk.Key]found[T], len(keys)), stamps: t.stamps(keys)}
	return f.values, f.finish(f.ask(f.bypass(keys)))
}

// finish loads what this trip has the leases of.
func (f *fetch[T]) finish(waiting []talk.Key) error {
	patience := time.Now().Add(mostLeaseLag)
	for pause := firstPause; ; pause *= 2 {
		if err := f.fill(); err != nil {
			return err
		}
		if len(waiting) == 0 {
			break
		}
		if time.Now().After(patience) {
			f.stats.wait.add(f.ctx, len(waiting))
			f.through = append(f.through, waiting...)
			break
		}
		if err := sleep(f.ctx, jitter(pause)); err != nil {
			return err
		}
		waiting = f.ask(f.bypass(waiting))
	}
	return f.readThrough()
}

const firstPause = 2 * time.Millisecond

// fetch is one trip for some keys, and what has come of it so far.
type fetch[T any] struct {
	*Typed[T]

	ctx     context.Context
	since   time.Time // when the first who wants it came
	values  map[talk.Key]found[T]
	stamps  map[talk.Key]stamp  // of before anything was asked
	leases  map[talk.Key]string // that this trip holds
	through []talk.Key          // to be loaded and not stored
}

// bypass returns the keys that Redis may be asked for. Who has already waited
// through one time-out is not made to wait through another.
func (f *fetch[T]) bypass(keys []talk.Key) (ask []talk.Key) {
	r := f.redis
	if !r.Usable() || r.cache.breaker.failedSince(f.since) {
		f.stats.err.add(f.ctx, len(keys))
		f.through = append(f.through, keys...)
		return nil
	}
	if r.dirty.size.Load() == 0 {
		return keys
	}
	for _, key := range keys {
		if r.dirty.has(key) {
			f.stats.err.count(f.ctx)
			f.through = append(f.through, key)
		} else {
			ask = append(ask, key)
		}
	}
	return ask
}

// ask takes one round trip that tells, of each key, that somebody else loads
// it, or its value by now, or that there is none; or else it leaves us the
// lease. It returns the keys that somebody else loads.
func (f *fetch[T]) ask(keys []talk.Key) (waiting []talk.Key) {
	if len(keys) == 0 {
		return nil
	}
	leases := make([]string, len(keys))
	calls := make([]*call, len(keys))
	for i, key := range keys {
		leases[i] = newLease(f.redis.history)
		calls[i] = command("set", f.redis.keys.entry(key), leases[i], "nx", "get", "px", jitter(leaseTTL).Milliseconds()).ifSpace()
	}
	_ = f.redis.cache.do(f.ctx, calls...) // each call knows
	for i, key := range keys {
		if f.sort(key, leases[i], calls[i]) {
			waiting = append(waiting, key)
		}
	}
	return waiting
}

// sort puts one answer where it belongs, and reports whether somebody else
// has the lease.
func (f *fetch[T]) sort(key talk.Key, lease string, c *call) (waiting bool) {
	switch err := c.err(); {
	case errors.Is(err, redis.Nil):
		if f.leases == nil {
			f.leases = map[talk.Key]string{}
		}
		f.leases[key] = lease
		f.stats.miss.count(f.ctx)
		return false
	case errors.Is(err, errAway), isFull(err):
		f.stats.err.count(f.ctx)
		f.through = append(f.through, key)
		return false
	case err != nil: // WRONGTYPE and the like
		f.discard(key, "type")
		return false
	}
	entry, _ := c.reply.Text()
	if isLease(entry) {
		return true
	}
	value, why := f.found(f.ctx, key, entry, f.stamps[key])
	if why != "" {
		f.discard(key, why)
		return false
	}
	f.values[key] = value
	return false
}

// discard treats an entry that cannot be read as a miss: the next reader
// finds nothing there.
func (f *fetch[T]) discard(key talk.Key, why string) {
	f.stats.miss.count(f.ctx)
	f.stats.unreadable(f.ctx, why)
	_ = f.redis.cache.do(f.ctx, command("unlink", f.redis.keys.entry(key)))
	f.through = append(f.through, key)
}

// fill loads what this trip has the leases of, and stores it where they still
// stand.
func (f *fetch[T]) fill() error {
	if len(f.leases) == 0 {
		return nil
	}
	leases := f.leases
	f.leases = nil
	keys := make([]talk.Key, 0, len(leases))
	for key := range leases {
		keys = append(keys, key)
	}
	began := time.Now()
	loaded, err := f.read(keys)
	if err == nil {
		for _, key := range keys {
			f.keep(f.ctx, key, f.values[key], loading{began: began, ours: true}, f.stamps[key])
		}
	}
	calls := make([]*call, 0, len(leases))
	for _, key := range keys {
		calls = append(calls, f.store(key, leases[key], loaded, err))
	}
	_ = f.redis.cache.do(f.ctx, calls...) // losing a key is always safe
	for _, c := range calls {
		if n, e := c.replied(); e == nil && n == 0 && c.script == scriptFill {
			f.stats.refused(f.ctx)
		}
	}
	return err
}

// store is the call that turns a lease into what was loaded, or gives it back
// where nothing was.
func (f *fetch[T]) store(key talk.Key, lease string, loaded map[talk.Key]T, err error) *call {
	name := f.redis.keys.entry(key)
	if err != nil {
		return scriptRelease.run(name, lease)
	}
	value, ok := loaded[key]
	if !ok {
		return scriptFill.run(name, lease, absent(lease), absence().Milliseconds()).ifSpace()
	}
	payload, e := f.codec.Encode(value)
	if e != nil {
		f.stats.unreadable(f.ctx, "encode")
		return scriptRelease.run(name, lease)
	}
	return scriptFill.run(name, lease, filled(lease, f.kind, payload), jitter(f.row.ttl).Milliseconds()).ifSpace()
}

// readThrough loads what Redis cannot be asked for, or takes no lease for, as
// where its memory is full. It stores nothing there, and keeps it near: that needs
// no lease, since this process hears of what is forgotten or keeps it for a second.
func (f *fetch[T]) readThrough() error {
	if len(f.through) == 0 {
		return nil
	}
	began := time.Now()
	if _, err := f.read(f.through); err != nil {
		return err
	}
	alone := !f.redis.Usable()
	for _, key := range f.through {
		f.keep(f.ctx, key, f.values[key], loading{began: began, ours: true, alone: alone}, f.stamps[key])
	}
	return nil
}

// read loads keys into values.
func (f *fetch[T]) read(keys []talk.Key) (map[talk.Key]T, error) {
	end, err := f.redis.loads.begin(f.ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	began := time.Now()
	loaded, err := f.load(f.ctx, keys)
	f.stats.loaded(f.ctx, time.Since(began))
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		value, ok := loaded[key]
		f.values[key] = found[T]{value, ok}
	}
	return loaded, nil
}

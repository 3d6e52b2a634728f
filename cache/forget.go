package cache

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

const (
	mostDirty    = 100_000 // keys; beyond, only telling again makes the cache right
	mostRecent   = 200_000
	recentLasts  = time.Minute // a failover loses less than this
	forgetAtOnce = 1000
	flushAtOnce  = 5000 // between two heartbeats
)

// dirty is what this process knows to be wrong in Redis, and what it has
// unlinked lately.
type dirty struct {
	mu     sync.Mutex
	count  uint64
	marks  map[talk.Key]uint64 // not unlinked; the number tells a later failure from an earlier
	recent minute
	older  minute    // recent, one minute before
	turn   time.Time // when recent began

	size atomic.Int64 // of marks, for those who only want to know that there are none
}

// minute is what was unlinked in one.
type minute struct {
	keys  map[talk.Key]struct{}
	flood bool // they were too many to remember
}

func newMinute() minute { return minute{keys: map[talk.Key]struct{}{}} }

func newDirty() *dirty {
	return &dirty{marks: map[talk.Key]uint64{}, recent: newMinute()}
}

func (d *dirty) has(key talk.Key) bool {
	if d.size.Load() == 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	_, ok := d.marks[key]
	return ok
}

// mark notes keys that could not be unlinked; false where they are too many.
func (d *dirty) mark(keys []talk.Key) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.marks)+len(keys) > mostDirty {
		return false
	}
	d.count++
	for _, key := range keys {
		d.marks[key] = d.count
	}
	d.size.Store(int64(len(d.marks)))
	return true
}

func (d *dirty) drop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.marks)
	d.size.Store(0)
}

// marked returns what is dirty and the mark of the latest.
func (d *dirty) marked() (keys []talk.Key, upTo uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key := range d.marks {
		keys = append(keys, key)
	}
	return keys, d.count
}

// unmark notes that keys were unlinked after the mark upTo was set.
func (d *dirty) unmark(keys []talk.Key, upTo uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, key := range keys {
		if d.marks[key] <= upTo {
			delete(d.marks, key)
		}
	}
	d.size.Store(int64(len(d.marks)))
}

// remember notes keys that were unlinked now.
func (d *dirty) remember(keys []talk.Key, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.turn) > recentLasts {
		d.older, d.recent, d.turn = d.recent, newMinute(), now
	}
	if len(d.recent.keys)+len(keys) > mostRecent {
		d.recent.flood = true
		return
	}
	for _, key := range keys {
		d.recent.keys[key] = struct{}{}
	}
}

// lately returns what was unlinked in the last minute, and whether it was too
// much to remember.
func (d *dirty) lately() (keys []talk.Key, flood bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, part := range []minute{d.recent, d.older} {
		for key := range part.keys {
			keys = append(keys, key)
		}
		flood = flood || part.flood
	}
	return keys, flood
}

// Forget unlinks the entries of keys, with any lease on them, and tells the
// nodes. Once it has returned nil, no read that begins is answered with what
// was loaded before. Where it returns an error, this process no longer reads
// the keys from Redis until they are unlinked, which it keeps trying; other
// nodes may read them until somebody tells them again. It does not end with
// ctx: the write is done.
func (r *Redis) Forget(ctx context.Context, keys ...talk.Key) error {
	var failed []talk.Key
	var first error
	for chunk := range slices.Chunk(keys, forgetAtOnce) {
		wrong, err := r.forget(ctx, chunk)
		failed = append(failed, wrong...)
		if first == nil {
			first = err
		}
	}
	r.dirty.remember(keys, time.Now())
	if first == nil {
		r.near.forget(keys...) // after Redis did: what is asked for from now on is new
		return nil
	}
	if !r.dirty.mark(failed) { // recovering tells them again, since their rows are not marked as told
		r.distrust()
		r.dirty.drop()
	}
	r.near.forget(keys...) // after they are marked: what is asked for from now on is read from the truth
	r.metrics.unforgotten(len(failed))
	return fmt.Errorf("forget %d keys: %w", len(failed), first)
}

// forget returns the keys that it could not unlink.
func (r *Redis) forget(ctx context.Context, keys []talk.Key) (failed []talk.Key, err error) {
	calls := make([]*call, len(keys))
	for i, key := range keys {
		calls[i] = scriptForget.run(r.keys.entry(key), r.keys.invalidations(), string(key))
	}
	_ = r.cache.do(ctx, calls...) // each call knows
	for i, c := range calls {
		if e := c.err(); e != nil {
			failed, err = append(failed, keys[i]), e
		}
	}
	return failed, err
}

// flush tries again to unlink what could not be.
func (r *Redis) flush(ctx context.Context) {
	keys, upTo := r.dirty.marked()
	keys = keys[:min(len(keys), flushAtOnce)]
	for chunk := range slices.Chunk(keys, forgetAtOnce) {
		failed, err := r.forget(ctx, chunk)
		done := slices.DeleteFunc(chunk, func(key talk.Key) bool { return slices.Contains(failed, key) })
		r.dirty.unmark(done, upTo)
		if err != nil {
			return
		}
	}
}

// forgetAgain unlinks once more what was unlinked in the last minute, and
// what is dirty.
func (r *Redis) forgetAgain(ctx context.Context) error {
	keys, flood := r.dirty.lately()
	if flood {
		_, err := r.invalidate(ctx, "*")
		return err
	}
	marked, upTo := r.dirty.marked()
	for chunk := range slices.Chunk(append(keys, marked...), forgetAtOnce) {
		if _, err := r.forget(ctx, chunk); err != nil {
			return fmt.Errorf("forget again: %w", err)
		}
	}
	r.dirty.unmark(marked, upTo)
	return nil
}

package cache

import (
	"context"
	"math/rand/v2"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// proveEach is how many hits there are for one that is compared with the truth.
const proveEach = 1000

// proof is a cache's watch over itself: some hits are compared with the truth
// behind the reader's back, one at a time.
type proof struct {
	each  int           // zero means none
	after time.Duration // an entry may lag a write for this long, until the write is told
	busy  atomic.Bool
}

// due draws whether a hit is compared.
func (p *proof) due() bool { return p.each > 0 && rand.Uint32()%uint32(p.each) == 0 }

// prove compares an entry that was just served, now and then.
func (t *Typed[T]) prove(key talk.Key, entry string) {
	if !t.proof.due() || !t.proof.busy.CompareAndSwap(false, true) {
		return
	}
	t.redis.work.Go(func() {
		defer t.proof.busy.Store(false)
		ctx, cancel := context.WithTimeout(t.redis.ended, loadTimeout)
		defer cancel()
		if t.stale(ctx, key, entry) {
			t.stats.wasStale(ctx, ofRedis)
			t.redis.config.Log.Error("a cached entry was stale", "key", string(key))
		}
	})
}

// stale reports whether entry is not what the truth says, and is still
// served when a write in between has long been told.
func (t *Typed[T]) stale(ctx context.Context, key talk.Key, entry string) bool {
	loaded, err := t.load(ctx, []talk.Key{key})
	if err != nil || t.same(loaded[key], entry) || sleep(ctx, t.proof.after) != nil {
		return false
	}
	c := command("get", t.redis.keys.entry(key))
	if t.redis.cache.do(ctx, c) != nil {
		return false
	}
	now, _ := c.reply.Text()
	return now == entry
}

// same compares by value, after the same way through the codec: encodings may
// differ where values do not.
func (t *Typed[T]) same(value T, entry string) bool {
	_, payload, err := split(entry, t.kind)
	return err == nil && t.sameAs(value, payload)
}

func (t *Typed[T]) sameAs(value T, payload string) bool {
	cached, err := t.codec.Decode(payload)
	if err != nil {
		return false
	}
	encoded, err := t.codec.Encode(value)
	if err != nil {
		return false
	}
	truth, err := t.codec.Decode(string(encoded))
	return err == nil && reflect.DeepEqual(cached, truth)
}

// proveNear compares what was just served from near, now and then.
func (t *Typed[T]) proveNear(name string, e *nearEntry) {
	if !t.proof.due() || !t.proof.busy.CompareAndSwap(false, true) {
		return
	}
	t.stats.aged(t.redis.ended, ofNear, age(e.loaded, time.Now()))
	t.redis.work.Go(func() {
		defer t.proof.busy.Store(false)
		ctx, cancel := context.WithTimeout(t.redis.ended, loadTimeout)
		defer cancel()
		if t.staleNear(ctx, name, e) {
			t.stats.wasStale(ctx, ofNear)
			t.redis.config.Log.Error("an entry that was near was stale", "key", t.row.name+":"+name)
		}
	})
}

// staleNear reports whether e is not what the truth says, and is still served
// when a write in between has long been told.
func (t *Typed[T]) staleNear(ctx context.Context, name string, e *nearEntry) bool {
	key := talk.Key(t.row.name + ":" + name)
	loaded, err := t.load(ctx, []talk.Key{key})
	if err != nil {
		return false
	}
	value, ok := loaded[key]
	kept := e.value.(*found[T])
	if ok == kept.ok && (!ok || t.equal(value, kept.value)) || sleep(ctx, t.proof.after) != nil {
		return false
	}
	return t.redis.near.get(nearKey{t.kind, name}) == e
}

// equal compares two values by the same way through the codec.
func (t *Typed[T]) equal(a, b T) bool {
	payload, err := t.codec.Encode(b)
	return err == nil && t.sameAs(a, string(payload))
}

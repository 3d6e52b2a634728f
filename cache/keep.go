package cache

import (
	"context"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// stamps of keys that are about to be asked for.
func (t *Typed[T]) stamps(keys []talk.Key) map[talk.Key]stamp {
	if t.redis.near.entries == nil {
		return nil
	}
	stamps := make(map[talk.Key]stamp, len(keys))
	for _, key := range keys {
		_, name := key.Split()
		stamps[key] = t.redis.near.stamp(nearKey{t.kind, name})
	}
	return stamps
}

// loading is the load from the truth that a value comes from.
type loading struct {
	began time.Time
	ours  bool // by this process, just now
	alone bool // without Redis: nobody would tell of a change
}

// loadedBy is the load of what Redis had.
func loadedBy(entry string) loading { return loading{began: entryTime(entry)} }

// keep puts a value near that was asked for since a moment.
func (t *Typed[T]) keep(ctx context.Context, key talk.Key, value found[T], from loading, since stamp) {
	n := t.redis.near
	if n.entries == nil {
		return
	}
	_, name := key.Split()
	e := &nearEntry{value: &value, weight: nearOverhead, epoch: since.epoch, loaded: from.began}
	if value.ok {
		e.weight = weigh(t.codec.Weigh(value.value))
	}
	if from.ours {
		e.began = int64(from.began.Sub(n.base))
	}
	if from.alone {
		e.epoch = unheard
	}
	e.ahead.Store(ctx.Value(aheadKey{}) != nil)
	n.put(nearKey{t.kind, name}, since, e)
}

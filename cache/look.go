package cache

import (
	"context"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// Most of what is asked for is there. So Redis is first asked for that alone, by
// each caller for itself, and a lease is taken only where it was not.

// look finds what Redis has of a key, that there is no such thing included;
// false where it has neither, or cannot be asked.
func (t *Typed[T]) look(ctx context.Context, key talk.Key, name string) (value found[T], ok bool) {
	r := t.redis
	if !r.Usable() || r.dirty.has(key) {
		return value, false
	}
	since := r.near.stamp(nearKey{t.kind, name})
	c := command("get", r.keys.entry(key))
	if r.cache.do(ctx, c) != nil || c.err() != nil {
		return value, false
	}
	entry, _ := c.reply.Text()
	return t.seen(ctx, key, entry, since)
}

// lookAll is look for many keys, in one command where they are on one server.
// It puts the values that there are into values, and returns the keys that it
// did not find.
func (t *Typed[T]) lookAll(ctx context.Context, keys []talk.Key, values map[talk.Key]T) (rest []talk.Key) {
	ask, rest := t.askable(keys)
	if len(ask) == 0 {
		return rest
	}
	stamps := t.stamps(ask)
	for i, entry := range t.entries(ctx, ask) {
		value, ok := t.seen(ctx, ask[i], entry, stamps[ask[i]])
		switch {
		case !ok:
			rest = append(rest, ask[i])
		case value.ok:
			values[ask[i]] = value.value
		}
	}
	return rest
}

// askable parts keys that Redis may be asked for from the rest.
func (t *Typed[T]) askable(keys []talk.Key) (ask, rest []talk.Key) {
	r := t.redis
	if !r.Usable() {
		return nil, keys
	}
	if r.dirty.size.Load() == 0 {
		return keys, nil
	}
	for _, key := range keys {
		if r.dirty.has(key) {
			rest = append(rest, key)
		} else {
			ask = append(ask, key)
		}
	}
	return ask, rest
}

// entries are what Redis holds under keys, in their order; "" for nothing.
func (t *Typed[T]) entries(ctx context.Context, keys []talk.Key) []string {
	r := t.redis
	entries := make([]string, len(keys))
	if r.cache.apart.Load() {
		calls := make([]*call, len(keys))
		for i, key := range keys {
			calls[i] = command("get", r.keys.entry(key))
		}
		_ = r.cache.do(ctx, calls...) // each call knows
		for i, c := range calls {
			if c.err() == nil {
				entries[i], _ = c.reply.Text()
			}
		}
		return entries
	}
	args := make([]any, 1, 1+len(keys))
	args[0] = "mget"
	for _, key := range keys {
		args = append(args, r.keys.entry(key))
	}
	c := command(args...)
	switch err := r.cache.do(ctx, c); {
	case err == nil && r.cache.parts(c.err()):
		return t.entries(ctx, keys)
	case err != nil, c.err() != nil:
		return entries
	}
	answers, _ := c.reply.Slice()
	for i := range min(len(answers), len(entries)) {
		entries[i], _ = answers[i].(string)
	}
	return entries
}

// seen is what an entry says, where it says anything; else whoever loads it
// sees to it.
func (t *Typed[T]) seen(ctx context.Context, key talk.Key, entry string, since stamp) (value found[T], ok bool) {
	if entry == "" || isLease(entry) {
		return value, false
	}
	value, why := t.found(ctx, key, entry, since)
	return value, why == ""
}

// found is what an entry says, or why it cannot be read. It is counted, proved
// and kept near.
func (t *Typed[T]) found(ctx context.Context, key talk.Key, entry string, since stamp) (value found[T], why string) {
	tag, payload, err := split(entry, t.kind)
	switch {
	case err != nil:
		return value, "format"
	case !t.redis.history.has(entry):
		return value, "history"
	case tag == tagAbsent:
		t.stats.negative.count(ctx)
	default:
		if value.value, err = t.codec.Decode(payload); err != nil {
			return value, "codec"
		}
		value.ok = true
		t.stats.hit.count(ctx)
		t.stats.aged(ctx, ofRedis, age(entryTime(entry), time.Now()))
		t.prove(key, entry)
	}
	t.keep(ctx, key, value, loadedBy(entry), since)
	return value, ""
}

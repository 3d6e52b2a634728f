package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/server/talk"
)

const (
	scanCount   = 500             // keys a step, so that no step holds Redis up
	mostFound   = 100_000         // names held at once
	scanTimeout = 2 * time.Second // a step; nobody's request waits for it
)

// InvalidatePattern forgets every entry whose key matches a pattern of
// Redis's in the spelling of [talk.Key], such as "room:*". It walks all
// masters step by step beside their other work, which takes as long as there
// are keys, and returns how many entries it dropped. It is for
// administrators; nothing that a request does needs it.
func (r *Redis) InvalidatePattern(ctx context.Context, pattern string) (int, error) {
	type result struct {
		dropped int
		err     error
	}
	done := make(chan result, 1)
	r.work.Go(func() {
		dropped, err := r.invalidate(r.ended, pattern)
		done <- result{dropped, err}
	})
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case res := <-done:
		return res.dropped, res.err
	}
}

func (r *Redis) invalidate(ctx context.Context, pattern string) (int, error) {
	var dropped atomic.Int64
	defer r.near.forgetAll()
	err := r.eachMaster(ctx, func(ctx context.Context, master redis.UniversalClient) error {
		for _, row := range table {
			if !row.entry {
				continue
			}
			match, ok := r.keys.match(row.name, pattern)
			if !ok {
				continue
			}
			n, err := r.sweep(ctx, master, match)
			dropped.Add(n)
			if err != nil {
				return fmt.Errorf("invalidate %s: %w", pattern, err)
			}
		}
		return nil
	})
	if err == nil { // what Redis has lost may still be near to somebody
		err = r.cache.insist(ctx, command("publish", r.keys.invalidations(), everything))
	}
	return int(dropped.Load()), err
}

// Holds says of how many keys Redis holds a value now. It is for
// administrators: it waits for a Redis that misses time-outs.
func (r *Redis) Holds(ctx context.Context, keys ...talk.Key) (held int, err error) {
	for chunk := range slices.Chunk(keys, forgetAtOnce) {
		n, err := r.holds(ctx, r.cache.insist, chunk...)
		if held += n; err != nil {
			return held, fmt.Errorf("look for %d entries: %w", len(keys), err)
		}
	}
	return held, nil
}

func (r *Redis) holds(ctx context.Context, do func(context.Context, ...*call) error, keys ...talk.Key) (held int, err error) {
	calls := make([]*call, len(keys))
	for i, key := range keys {
		calls[i] = command("getrange", r.keys.entry(key), 0, entryMark-1)
	}
	if err := do(ctx, calls...); err != nil {
		return 0, err
	}
	for _, c := range calls {
		head, err := c.reply.Text()
		if errors.Is(c.err(), errAway) {
			return held, c.err()
		}
		if err == nil && r.history.has(head) && head[0] == tagValue { // what is of another type is no value
			held++
		}
	}
	return held, nil
}

// sweep unlinks what matches on one master. It walks before it unlinks, many
// keys at a time: the embedded server's walk misses keys where others vanish
// under it.
func (r *Redis) sweep(ctx context.Context, master redis.UniversalClient, match string) (dropped int64, err error) {
	var cursor uint64
	var names []string
	for {
		step, cancel := context.WithTimeout(ctx, scanTimeout)
		found, next, err := master.Scan(step, cursor, match, scanCount).Result()
		cancel()
		if err != nil {
			return dropped, err
		}
		names, cursor = append(names, found...), next
		if cursor != 0 && len(names) < mostFound {
			continue
		}
		n, err := r.drop(ctx, names)
		if dropped += n; err != nil || cursor == 0 {
			return dropped, err
		}
		names = names[:0]
	}
}

// drop forgets entries by their names in Redis, one by one, since each lies in
// a slot of its own.
func (r *Redis) drop(ctx context.Context, names []string) (dropped int64, err error) {
	for chunk := range slices.Chunk(names, forgetAtOnce) {
		calls := make([]*call, len(chunk))
		for i, name := range chunk {
			calls[i] = scriptForget.run(name, r.keys.invalidations(), string(r.keys.key(name)))
		}
		if err := r.cache.insist(ctx, calls...); err != nil {
			return dropped, err
		}
		for _, c := range calls {
			n, _ := c.replied()
			dropped += n
		}
	}
	return dropped, nil
}

// match is the pattern of Redis's keys for a pattern of talk.Key, and whether
// entries of that kind can match at all.
func (k keys) match(kind, pattern string) (string, bool) {
	want, name, both := strings.Cut(pattern, ":")
	if !both {
		want, name = pattern, "*"
	}
	if want != "*" && want != kind {
		return "", false
	}
	return escapeGlob(k.prefix) + kind + ":{" + name + "}", true
}

var globEscaper = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `\`, `\\`)

func escapeGlob(s string) string { return globEscaper.Replace(s) }

// key is what the entry of that name is known by; see keys.entry.
func (k keys) key(name string) talk.Key {
	kind, rest, _ := strings.Cut(strings.TrimPrefix(name, k.prefix), ":")
	return talk.Key(kind + ":" + strings.TrimSuffix(strings.TrimPrefix(rest, "{"), "}"))
}

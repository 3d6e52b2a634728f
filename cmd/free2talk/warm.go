package main

import (
	"context"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// The budget of warming: a node that starts without Redis, or beside a slow
// database, is ready nevertheless.
const (
	warmWait   = time.Second // for Redis to be used
	warmWithin = 3 * time.Second
	warmLook   = 5 * time.Millisecond
)

// warm reads what is asked for most, so that the first who come do not wait
// for it, and says so. Then the node is ready.
func (n *node) warm(ctx context.Context) {
	defer n.log.Info("ready")
	defer close(n.warmed)
	began := time.Now()
	if !n.cached(ctx) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, warmWithin)
	defer cancel()
	warmer := talk.Warmer{Reader: n.reader, List: func(_ context.Context, q talk.RoomQuery) (talk.RoomPage, error) { return n.lobby.List(q), nil }}
	rooms, people, err := warmer.Warm(ctx)
	took := time.Since(began)
	n.redis.Warmed(took)
	if err != nil {
		n.log.Warn("warmed in part", "rooms", len(rooms), "people", len(people), "took", took, "error", err)
		return
	}
	n.log.Info("warm", "open", n.lobby.Size(), "rooms", len(rooms), "people", len(people), "took", took)
}

// cached waits until what is read is kept.
func (n *node) cached(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, warmWait)
	defer cancel()
	look := time.NewTicker(warmLook)
	defer look.Stop()
	for !n.redis.Usable() || !n.redis.Hears() {
		select {
		case <-ctx.Done():
			return false
		case <-look.C:
		}
	}
	return true
}

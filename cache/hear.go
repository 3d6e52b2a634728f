package cache

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/server/talk"
)

// everything is told instead of a key where all of them are meant.
const everything = "*"

// hearing listens to what all nodes forget, and knows up to when it has heard
// all of it: by heartbeats that this node sends itself, through every master,
// and that come back on the connection that the invalidations come on.
type hearing struct {
	near         *near
	subscription *subscription
	channel      string // of the heartbeats

	mu     sync.Mutex
	rounds [roundsKept]round
	last   uint64
}

// roundsKept is how many heartbeats may be on their way at once.
const roundsKept = 8

// round is a heartbeat: one message through each master.
type round struct {
	number uint64
	sent   time.Time
	told   int // masters; 0 until all of them were
	heard  int
}

func newHearing(r *Redis) *hearing {
	var name [8]byte
	_, _ = rand.Read(name[:]) // never fails
	h := &hearing{near: r.near, channel: r.keys.heartbeats(hex.EncodeToString(name[:]))}
	h.subscription = r.subscribe(false, ears{
		message: h.message,
		up:      r.near.forgetAll, // what is under way was asked for while nothing was heard
		down:    r.near.deaf,
	}, r.keys.invalidations(), h.channel)
	return h
}

func (h *hearing) message(channel, payload string) {
	switch {
	case channel == h.channel:
		if number, err := strconv.ParseUint(payload, 10, 64); err == nil {
			h.count(number, func(r *round) { r.heard++ })
		}
	case payload == everything:
		h.near.forgetAll()
	default:
		h.near.forget(talk.Key(payload))
	}
}

// begin starts a heartbeat.
func (h *hearing) begin(sent time.Time) (number uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	h.rounds[h.last%roundsKept] = round{number: h.last, sent: sent}
	return h.last
}

// told says through how many masters the heartbeat went.
func (h *hearing) told(number uint64, masters int) {
	h.count(number, func(r *round) { r.told = masters })
}

func (h *hearing) count(number uint64, note func(*round)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &h.rounds[number%roundsKept]
	if r.number != number {
		return
	}
	note(r)
	if r.told > 0 && r.heard == r.told {
		h.near.heardSince(r.sent)
	}
}

// beat sends one heartbeat through a master, which answers soon or not at all.
func (h *hearing) beat(ctx context.Context, master redis.UniversalClient, number uint64, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return master.Publish(ctx, h.channel, strconv.FormatUint(number, 10)).Err()
}

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

	mu      sync.Mutex
	rounds  [roundsKept]round
	last    uint64
	settled uint64 // the last that was heard whole, or that began before the connection stood
}

// roundsKept is how many heartbeats may be on their way at once.
const roundsKept = 8

// round is a heartbeat: one message through each master.
type round struct {
	number uint64
	sent   time.Time
	told   int  // masters that took it; 0 until all were asked
	all    bool // of them did
	heard  int
}

// whole reports whether it came back through every master.
func (r *round) whole() bool { return r.all && r.told > 0 && r.heard == r.told }

func newHearing(r *Redis) *hearing {
	var name [8]byte
	_, _ = rand.Read(name[:]) // never fails
	h := &hearing{near: r.near, channel: r.keys.heartbeats(hex.EncodeToString(name[:]))}
	h.subscription = r.subscribe(false, ears{
		message: h.message,
		up:      h.up,
		down:    r.near.deaf,
	}, r.keys.invalidations(), h.channel)
	return h
}

// up ends what is under way, which was asked for while nothing was heard. What
// was told before says nothing about this connection.
func (h *hearing) up() {
	h.mu.Lock()
	h.settled = h.last
	h.mu.Unlock()
	h.near.forgetAll()
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

// told says how many masters took the heartbeat, and whether those were all.
func (h *hearing) told(number uint64, masters int, all bool) {
	h.count(number, func(r *round) { r.told, r.all = masters, all })
}

func (h *hearing) count(number uint64, note func(*round)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := &h.rounds[number%roundsKept]
	if r.number != number {
		return
	}
	note(r)
	if !r.whole() {
		return
	}
	if h.overtakes(number) {
		h.near.forgetAll()
	}
	h.near.heardSince(r.sent)
}

// overtakes settles the rounds before one that was heard whole, and reports
// whether one of them lost a message, and so perhaps an invalidation with it: the
// messages of a master come in their order, so it will not come any more. (Those
// whose place was taken are two seconds old: see [near.heardSince].)
func (h *hearing) overtakes(number uint64) (lost bool) {
	for _, r := range h.rounds {
		lost = lost || h.settled < r.number && r.number < number && r.heard < r.told
	}
	h.settled = max(h.settled, number)
	return lost
}

// beat sends one heartbeat through a master, which answers soon or not at all.
func (h *hearing) beat(ctx context.Context, master redis.UniversalClient, number uint64, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return master.Publish(ctx, h.channel, strconv.FormatUint(number, 10)).Err()
}

package live

import (
	"context"
	"crypto/rand"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// PresenceConfig is what a [Presence] is made of.
type PresenceConfig struct {
	Node  string // the name of this node; no other has it
	Nodes talk.Nodes
	Seats *talk.Seats
	Clock talk.Clock
	Log   *slog.Logger
	// Grace is how long somebody stays online, and keeps their seat, after their
	// last connection broke.
	Grace time.Duration
	// Unattended is how long a seat is kept for somebody who was never connected.
	// Zero means for ever.
	Unattended time.Duration
	// Restart is called where other nodes believe this one to be dead: its streams
	// must end, and come back.
	Restart func()
}

// Presence is who is there, as one node sees it and takes part in it: it counts
// its own connections, says that it lives, takes away what dead nodes held,
// and keeps the seats of those whose connections broke.
type Presence struct {
	PresenceConfig

	conns talk.Connections

	mu          sync.Mutex
	incarnation int
	own         [talk.PresenceShards]map[talk.Connection]struct{}
	doubtful    map[talk.Connection]struct{} // of own, since this node was swept: everybody may have heard that these people are gone
	watched     map[talk.UserID]*watched
	flips       uint64                   // that were heard of them
	left        map[talk.UserID]struct{} // last seen lately, and not yet written
	recent      map[talk.UserID]struct{} // known to be online, of those who were asked for
	absent      []absence                // to see whether they came back, the earliest first
	unheard     []unheard                // by Redis, the earliest first
	claims      [talk.PresenceShards]claims
	whole       [talk.PresenceShards]bool
	live        []string
	since       time.Time // unbroken renewals
	renewed     time.Time
	count       int
	unsure      chan struct{}
	walk        chan struct{}
}

// NewPresence makes the presence of one node. [Presence.Use] gives it Redis,
// [Presence.Begin] makes it one of those that live, and [Presence.Run] keeps it
// so.
func NewPresence(c PresenceConfig) *Presence {
	p := &Presence{
		PresenceConfig: c, watched: map[talk.UserID]*watched{}, left: map[talk.UserID]struct{}{},
		recent: map[talk.UserID]struct{}{},
		unsure: make(chan struct{}, 1), walk: make(chan struct{}, 1),
	}
	for shard := range p.own {
		p.own[shard] = map[talk.Connection]struct{}{}
	}
	return p
}

var _ talk.FlipListener = (*Presence)(nil)

// Use gives it the connections of all nodes. Call it before [Presence.Begin].
func (p *Presence) Use(conns talk.Connections) { p.conns = conns }

// settle forgets those of the doubtful connections whose people are not known
// to be online. It fails where Redis does not tell.
func (p *Presence) settle(ctx context.Context) error {
	p.mu.Lock()
	users := map[talk.UserID]struct{}{}
	for conn := range p.doubtful {
		users[conn.User] = struct{}{}
	}
	p.mu.Unlock()
	if len(users) == 0 {
		return nil
	}
	online, err := p.conns.Online(ctx, slices.Collect(maps.Keys(users)))
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.doubtful {
		if !online[conn.User] {
			delete(p.own[talk.PresenceShard(conn.User)], conn)
		}
	}
	p.doubtful = nil
	return nil
}

// name is what this node is called among those that live. It is another one
// after it was swept.
func (p *Presence) name() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.named()
}

// Name is what this node calls itself, for as long as it counts as alive.
func (p *Presence) Name() string { return p.name() }

// First reports whether this node is the first of those that live, by name:
// what one node does for all, this one does.
func (p *Presence) First() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.live) > 0 && p.live[0] == p.named()
}

// Certain reports whether every node has said lately whom it holds, as far as
// this one knows.
func (p *Presence) Certain() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !slices.Contains(p.whole[:], false)
}

func (p *Presence) named() string { return p.Node + "." + strconv.Itoa(p.incarnation) }

// Live is how many nodes live, this one included.
func (p *Presence) Live() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(1, len(p.live))
}

// Own is how many connections this node has.
func (p *Presence) Own() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, shard := range p.own {
		n += len(shard)
	}
	return n
}

const closeWithin = time.Second

// Parting is how a connection ended. The zero value: it broke.
type Parting struct {
	// AtOnce is that nobody is to wait for the user: their session has ended.
	AtOnce bool
	// Back is after how long the client was asked to come back; zero where it was
	// not. Until then nobody misses the user.
	Back time.Duration
}

// Attach makes somebody online until detach is called. Where Redis is away it
// hears of it as soon as it is back.
func (p *Presence) Attach(ctx context.Context, user talk.UserID, _ talk.SessionID) (detach func(Parting)) {
	conn := talk.Connection{User: user, ID: rand.Text()[:16]}
	shard := talk.PresenceShard(user)
	p.mu.Lock()
	p.own[shard][conn] = struct{}{}
	name := p.named()
	p.mu.Unlock()
	if err := p.conns.Open(ctx, name, conn); err != nil {
		p.Log.Debug("connection not noted yet", "error", err)
		p.unheardOf(unheard{conn: conn})
	}
	return func(how Parting) {
		u := unheard{conn: conn, closed: time.Now(), how: how}
		p.mu.Lock()
		_, mine := p.own[shard][conn] // else it was swept, with all that follows
		delete(p.own[shard], conn)
		name := p.named()
		if mine {
			p.closes(shard, u)
		}
		p.mu.Unlock()
		if mine {
			p.detach(name, u)
		}
	}
}

// detach has a context of its own: that of the call would keep the call, for as
// long as somebody is connected.
func (p *Presence) detach(name string, u unheard) {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	grace := p.Grace
	if u.how.AtOnce {
		grace = 0
	}
	switch left, err := p.conns.Close(ctx, name, u.conn, grace); {
	case err != nil:
		p.unheardOf(u)
	case left == 0: // or else others are
		p.parted(ctx, u)
	}
}

// parted follows when somebody's last connection has ended.
func (p *Presence) parted(ctx context.Context, u unheard) {
	user := u.conn.User
	p.gone([]talk.UserID{user})
	if u.how.AtOnce {
		p.note("seat not vacated", p.Seats.Vacate(ctx, user, p.isGone(user)))
		return
	}
	p.miss(absence{user, p.Clock().Add(-time.Since(u.closed)), u.closed.Add(p.unmissed(u.how.Back)), time.Now()})
}

// unmissed is how long somebody may be without a connection before others see
// it.
func (p *Presence) unmissed(back time.Duration) time.Duration {
	return min(back+holdAfter, p.Grace/2)
}

func (p *Presence) note(what string, err error) {
	if err != nil {
		p.Log.Warn("presence: "+what, "error", err)
	}
}

// gone notes that people were last seen now.
func (p *Presence) gone(users []talk.UserID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, user := range users {
		p.left[user] = struct{}{}
	}
}

// Seated is told by somebody's personal stream how they sit, when it begins to
// follow a room, and whenever their seat changes: a seat that is held for them
// is given back.
func (p *Presence) Seated(ctx context.Context, user talk.UserID, state talk.ParticipantState) {
	if state == talk.Reconnecting {
		p.note("seat not given back", p.Seats.Return(ctx, user))
	}
	p.note("seat not attended", p.Nodes.Attend(ctx, user))
}

// Of returns the presence of those of users who exist, in the order asked for.
func (p *Presence) Of(ctx context.Context, users []talk.UserID) ([]talk.Presence, error) {
	where, err := p.Nodes.Whereabouts(ctx, users)
	if err != nil {
		return nil, err
	}
	online, err := p.conns.Online(ctx, users)
	if err != nil {
		online = nil // what was last known, then
	}
	p.remember(online)
	known := map[talk.UserID]talk.Whereabouts{}
	for _, w := range where {
		known[w.UserID] = w
	}
	var all []talk.Presence
	for _, user := range users {
		if w, exists := known[user]; exists {
			all = append(all, p.presence(w, online))
		}
	}
	return all, nil
}

func (p *Presence) presence(w talk.Whereabouts, online map[talk.UserID]bool) talk.Presence {
	there, known := online[w.UserID]
	if !known {
		there = p.last(w.UserID)
	}
	presence := talk.Presence{UserID: w.UserID, Online: there, LastSeenAt: w.LastSeenAt, Stale: !known}
	if there {
		presence.RoomID, presence.LastSeenAt = w.RoomID, p.Clock()
	}
	return presence
}

// recentMost is how many people a node remembers to have been online, beside
// those who are watched and its own.
const recentMost = 50_000

// remember notes what was found out: it is what is said while Redis is away.
func (p *Presence) remember(online map[talk.UserID]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for user, there := range online {
		p.recall(user, there)
	}
}

// recall is remember of one. The lock is held.
func (p *Presence) recall(user talk.UserID, there bool) {
	delete(p.recent, user)
	if !there {
		return
	}
	if len(p.recent) >= recentMost {
		clear(p.recent)
	}
	p.recent[user] = struct{}{}
}

// last is whether somebody was online when this node last knew.
func (p *Presence) last(user talk.UserID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.watched[user]; w != nil && w.online {
		return true
	}
	_, recently := p.recent[user]
	return recently || p.here(user)
}

// here is whether somebody is connected to this node. The lock is held.
func (p *Presence) here(user talk.UserID) bool {
	for conn := range p.own[talk.PresenceShard(user)] {
		if conn.User == user {
			return true
		}
	}
	return false
}

// Count is how many are online; while Redis is away, as many as were.
func (p *Presence) Count(ctx context.Context) int {
	n, err := p.conns.Count(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.count = n
	}
	return p.count
}

// LastCount is what [Presence.Count] last returned.
func (p *Presence) LastCount() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// Page lists up to limit people who are online, after a place; done where
// there are no more. While Redis is away it lists whom this node is connected
// to.
func (p *Presence) Page(ctx context.Context, shard int, after talk.UserID, limit int) (users []talk.UserID, nextShard int, done bool) {
	for shard < talk.PresenceShards {
		part, err := p.conns.Page(ctx, shard, after, limit-len(users))
		if err != nil {
			part = p.ownPage(shard, after, limit-len(users))
		}
		users = append(users, part...)
		if len(users) == limit {
			return users, shard, false
		}
		shard, after = shard+1, ""
	}
	return users, shard, true
}

func (p *Presence) ownPage(shard int, after talk.UserID, limit int) []talk.UserID {
	p.mu.Lock()
	defer p.mu.Unlock()
	there := map[talk.UserID]struct{}{}
	for conn := range p.own[shard] {
		if conn.User > after {
			there[conn.User] = struct{}{}
		}
	}
	users := slices.Sorted(maps.Keys(there))
	return users[:min(limit, len(users))]
}

package live

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// watched is somebody whom watches of this node are about.
type watched struct {
	online  bool
	room    talk.RoomID
	seq     int64  // of their topic, as of room
	flip    uint64 // the last that was heard: a reading that began before it is not newer; see Presence.flips
	leaves  bool   // room was given up since they are gone, which is about to be heard
	watches map[*PresenceWatch]struct{}
}

// PresenceWatch hears who of some people comes, goes and moves. One goroutine
// takes from it.
type PresenceWatch struct {
	presence *Presence
	users    []talk.UserID

	mu      sync.Mutex
	changed map[talk.UserID]struct{}
	told    map[talk.UserID]talk.Presence // what the listener knows
	arrived chan struct{}
}

// Watch returns the presence of those of users who exist, in the order asked
// for, and a watch that hears of every change after that.
func (p *Presence) Watch(ctx context.Context, users []talk.UserID) ([]talk.Presence, *PresenceWatch, error) {
	w := &PresenceWatch{
		presence: p, users: users, arrived: make(chan struct{}, 1),
		changed: map[talk.UserID]struct{}{}, told: map[talk.UserID]talk.Presence{},
	}
	p.mu.Lock()
	for _, user := range users {
		if p.watched[user] == nil {
			p.watched[user] = &watched{watches: map[*PresenceWatch]struct{}{}}
		}
		p.watched[user].watches[w] = struct{}{}
	}
	p.mu.Unlock()
	where, online, err := p.surely(ctx, users)
	if err != nil {
		w.Close()
		return nil, nil, err
	}
	return w.first(where, online), w, nil
}

// first is what is known of the watched people who exist, by which changes are
// measured: what changes from now on is told.
func (w *PresenceWatch) first(where []talk.Whereabouts, online map[talk.UserID]bool) []talk.Presence {
	p := w.presence
	seen := map[talk.UserID]time.Time{}
	for _, found := range where {
		seen[found.UserID] = found.LastSeenAt
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []talk.Presence
	for _, user := range w.users {
		lastSeen, exists := seen[user]
		if !exists {
			continue
		}
		presence := p.watched[user].presence(user, p.Clock())
		if _, known := online[user]; !known {
			presence.Stale = true
		}
		if !presence.Online {
			presence.LastSeenAt = lastSeen
		}
		w.told[user] = presence
		all = append(all, presence)
	}
	return all
}

func (w *watched) presence(user talk.UserID, now time.Time) talk.Presence {
	presence := talk.Presence{UserID: user, Online: w.online, LastSeenAt: now}
	if w.online {
		presence.RoomID = w.room
	}
	return presence
}

// Close ends the watch.
func (w *PresenceWatch) Close() {
	p := w.presence
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, user := range w.users {
		if known := p.watched[user]; known != nil {
			delete(known.watches, w)
			if len(known.watches) == 0 {
				p.recall(user, known.online)
				delete(p.watched, user)
			}
		}
	}
}

// Wait returns once something may have changed since the last Take, or with
// the cause of ctx's end.
func (w *PresenceWatch) Wait(ctx context.Context) error {
	select {
	case <-w.arrived:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Take returns what has changed, as it is now. It does not wait.
func (w *PresenceWatch) Take() []talk.Presence {
	w.mu.Lock()
	users := make([]talk.UserID, 0, len(w.changed))
	for user := range w.changed {
		users = append(users, user)
	}
	clear(w.changed)
	w.mu.Unlock()
	slices.Sort(users)
	var all []talk.Presence
	for _, user := range users {
		now, known := w.presence.now(user)
		before, existed := w.told[user]
		if !known || !existed || before.Online == now.Online && (!now.Online || before.RoomID == now.RoomID) {
			continue
		}
		w.told[user] = now
		all = append(all, now)
	}
	return all
}

// now is somebody's presence as this node knows it.
func (p *Presence) now(user talk.UserID) (talk.Presence, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := p.watched[user]
	if w == nil {
		return talk.Presence{}, false
	}
	return w.presence(user, p.Clock()), true
}

// tell is called with the lock held.
func (w *watched) tell(user talk.UserID) {
	for watch := range w.watches {
		watch.mu.Lock()
		watch.changed[user] = struct{}{}
		watch.mu.Unlock()
		signal(watch.arrived)
	}
}

// Flipped says that somebody is online now, or offline.
func (p *Presence) Flipped(user talk.UserID, online bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !online {
		delete(p.recent, user)
	}
	if w := p.watched[user]; w != nil {
		p.flip(w, user, online)
	}
}

// flip notes that somebody who is watched flipped. The lock is held.
func (p *Presence) flip(w *watched, user talk.UserID, online bool) {
	p.flips++
	w.flip = p.flips
	if !online && w.leaves {
		w.room, w.leaves = "", false
	}
	if w.online != online {
		w.online = online
		w.tell(user)
	}
}

// lastFlip is the last flip that this node heard of anybody.
func (p *Presence) lastFlip() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.flips
}

// wentOffline tells what this node did itself, and will hear by Redis as well:
// what it does next may be heard sooner. Of whom it has heard since a flip it
// knows more already.
func (p *Presence) wentOffline(users []talk.UserID, since uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, user := range users {
		if w := p.watched[user]; w != nil && w.flip <= since {
			p.flip(w, user, false)
		}
	}
}

// Follow takes events: somebody's own say where they sit.
func (p *Presence) Follow(e talk.Event) {
	moved, ok := e.Fact.(talk.Moved)
	if !ok {
		return
	}
	user := talk.UserID(e.Topic[len("user:"):])
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.watched[user]; w != nil && e.Seq > w.seq {
		w.seq = e.Seq
		if moved.Gone && w.online {
			w.leaves = true
			time.AfterFunc(goneWaits, func() { p.gave(user, e.Seq) })
			return
		}
		w.room, w.leaves = moved.RoomID, false
		w.tell(user)
	}
}

// goneWaits is how long it is not told that somebody sits nowhere where that is
// because they are gone: that is told instead, and may come by another way.
const goneWaits = 2 * time.Second

// gave tells that somebody gave up their seat with an event, unless it was heard
// meanwhile that they are gone.
func (p *Presence) gave(user talk.UserID, seq int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w := p.watched[user]; w != nil && w.leaves && w.seq == seq {
		w.room, w.leaves = "", false
		w.tell(user)
	}
}

// Told takes what this node has committed.
func (p *Presence) Told(told talk.Told) {
	for _, e := range told.Events {
		p.Follow(e)
	}
}

// Unsure has everybody who is watched looked at again.
func (p *Presence) Unsure() { signal(p.unsure) }

func (p *Presence) watchedUsers() []talk.UserID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.watched))
}

// refresh looks at everybody who is watched again, and tries again where it
// cannot.
func (p *Presence) refresh(ctx context.Context) {
	for part := range slices.Chunk(p.watchedUsers(), seatsAtOnce) {
		if _, _, err := p.reread(ctx, part); err != nil {
			if ctx.Err() == nil {
				p.note("presence not read", err)
			}
			time.AfterFunc(healAgain, p.Unsure)
			return
		}
	}
}

// compare looks at who of those who are watched is online. Where they sit is
// told by the table, which loses nothing.
func (p *Presence) compare(ctx context.Context) {
	for part := range slices.Chunk(p.watchedUsers(), compareMost) {
		flips := p.flipsOf(part)
		online, err := p.conns.Online(ctx, part)
		if err != nil {
			return // Redis is away: everything is read again once it is back
		}
		p.learnAll(flips, online)
	}
}

// learnAll takes what was read of people, whose flips were these before.
func (p *Presence) learnAll(flips map[talk.UserID]uint64, online map[talk.UserID]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for user := range flips {
		if w := p.watched[user]; w != nil && p.learn(w, user, online, flips[user]) {
			w.tell(user)
		}
	}
}

// flipsOf is the last flip that was heard of each of those who are watched.
func (p *Presence) flipsOf(users []talk.UserID) map[talk.UserID]uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	flips := map[talk.UserID]uint64{}
	for _, user := range users {
		if w := p.watched[user]; w != nil {
			flips[user] = w.flip
		}
	}
	return flips
}

// learn takes what was read of somebody, unless a flip was heard since. Of whom
// nothing is known while Redis is away, this node knows whether they are here, or
// were online before it watched them; not since, as that is what flips tell.
// It reports whether that is news. The lock is held.
func (p *Presence) learn(w *watched, user talk.UserID, online map[talk.UserID]bool, flips uint64) bool {
	there, known := online[user]
	if _, recently := p.recent[user]; !known && (recently && w.flip == 0 || p.here(user)) {
		there, known = true, true
	}
	if !known || w.flip != flips || w.online == there {
		return false
	}
	w.online = there
	return true
}

const (
	askFor   = time.Second // that a watch which begins asks who is online
	askEvery = 100 * time.Millisecond
)

// surely is reread for a watch that begins. Where it cannot be told who is
// online it asks again for a while: of whom this node has not seen either it
// would be said that they are offline, just as a node has started, or Redis, or
// this process, has stood still for a moment.
func (p *Presence) surely(ctx context.Context, users []talk.UserID) ([]talk.Whereabouts, map[talk.UserID]bool, error) {
	where, online, err := p.reread(ctx, users)
	if err != nil || p.known(where, online) {
		return where, online, err
	}
	patient := context.WithValue(ctx, talk.LossesKey{}, (*talk.Losses)(nil)) // this call has waited in vain, and waits again
	for end := time.Now().Add(askFor); time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		case <-time.After(askEvery):
		}
		flips := p.flipsOf(users)
		if again, err := p.conns.Online(patient, users); err == nil && p.known(where, again) {
			p.learnAll(flips, again)
			return where, again, nil
		}
	}
	return where, online, nil
}

// known is whether it is told of all of them who is online, or this node has
// seen them so.
func (p *Presence) known(where []talk.Whereabouts, online map[talk.UserID]bool) bool {
	return !slices.ContainsFunc(where, func(found talk.Whereabouts) bool {
		_, told := online[found.UserID]
		return !told && !p.last(found.UserID)
	})
}

// reread brings what is known of people up to date, and returns what was read.
// Who cannot be read keeps what was known.
func (p *Presence) reread(ctx context.Context, users []talk.UserID) ([]talk.Whereabouts, map[talk.UserID]bool, error) {
	flips := p.flipsOf(users)
	where, err := p.Nodes.Whereabouts(ctx, users)
	if err != nil {
		return nil, nil, err
	}
	online, err := p.conns.Online(ctx, users)
	if err != nil {
		online = nil // flips are heard, or everything is read again, once Redis is back
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, found := range where {
		w := p.watched[found.UserID]
		if w == nil {
			continue
		}
		flipped := p.learn(w, found.UserID, online, flips[found.UserID])
		moved := found.Seq > w.seq && w.room != found.RoomID
		if found.Seq > w.seq {
			w.seq, w.room, w.leaves = found.Seq, found.RoomID, false
		}
		if flipped || moved {
			w.tell(found.UserID)
		}
	}
	return where, online, nil
}

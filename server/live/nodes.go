package live

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// Timing of presence. A node that is silent for ten seconds is dead (see
// [talk.Nodes]); so its people are offline at most one renewal and one sweep
// after what is left of their grace.
const (
	renewEvery  = 2500 * time.Millisecond
	expireEvery = 500 * time.Millisecond
	holdEvery   = 200 * time.Millisecond
	seatsEvery  = time.Second
	sweepEvery  = time.Second
	walkEvery   = time.Minute
	sawEvery    = 10 * time.Second
	tellEvery   = 10 * time.Second // those who are watched are compared with Redis, which may lose a flip and say nothing
	sweepAfter  = 10 * time.Second // of unbroken renewals
	stepWithin  = 5 * time.Second
	walkWithin  = 50 * time.Second
	seatsAtOnce = 100
	seatsLater  = 1500 * time.Millisecond // first offline, then up: otherwise others would hear that they sit nowhere, and then that they are gone
	seatsLatest = 10 * time.Second        // after the grace, whether they went offline or not
	seatsBeside = 4                       // changes under way at once
)

// Begin makes this node one of those that live.
func (p *Presence) Begin(ctx context.Context) error {
	live, err := p.Nodes.Renew(ctx, p.name(), true)
	if err == nil {
		p.alive(live)
		p.report(ctx)
	}
	return err
}

// Run keeps it alive, and does its part for all others, until ctx ends.
func (p *Presence) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, chore := range []struct {
		every, within time.Duration
		early         <-chan struct{}
		do            func(context.Context)
	}{
		{renewEvery, stepWithin, nil, p.renew},
		{expireEvery, stepWithin, nil, p.expire},
		{holdEvery, stepWithin, nil, p.holdSeats},
		{holdEvery, stepWithin, nil, p.catchUp},
		{seatsEvery, stepWithin, nil, p.expireSeats},
		{sweepEvery, stepWithin, nil, p.sweep},
		{walkEvery, walkWithin, p.walk, p.walkSeats},
		{sawEvery, stepWithin, nil, p.saw},
		{tellEvery, stepWithin, nil, p.compare},
		{time.Hour, walkWithin, p.unsure, p.refresh},
	} {
		all.Go(func() { p.every(ctx, chore.every, chore.within, chore.early, chore.do) })
	}
	all.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	p.leave(last)
}

// leave takes this node off the list of those that live. Where Redis may still
// have connections of it, it stays there: others find it silent and take away
// what it held, which nobody would otherwise.
func (p *Presence) leave(ctx context.Context) {
	p.saw(ctx)
	p.catchUp(ctx)
	if err := p.conns.Retire(ctx, p.name()); err != nil {
		p.Log.Info("presence: what this node held is left for others to take away", "error", err)
		return
	}
	p.note("node not retired", p.Nodes.Retire(ctx, p.name()))
}

func (p *Presence) every(ctx context.Context, d, within time.Duration, early <-chan struct{}, do func(context.Context)) {
	tick := time.NewTicker(d)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-early:
		}
		step, cancel := context.WithTimeout(ctx, within)
		do(step)
		cancel()
	}
}

func (p *Presence) alive(live []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.renewed.IsZero() || now.Sub(p.renewed) > 2*renewEvery {
		p.since = now
	}
	p.renewed, p.live = now, live
}

// renew says that this node lives, and what it holds.
func (p *Presence) renew(ctx context.Context) {
	live, err := p.Nodes.Renew(ctx, p.name(), false)
	switch {
	case errors.Is(err, talk.ErrNodeSwept):
		p.reincarnate(ctx)
	case err != nil:
		if ctx.Err() == nil {
			p.note("node not renewed", err)
		}
	default:
		p.alive(live)
		p.report(ctx)
	}
}

// reincarnate begins again under another name: others have taken away all that
// this node held. Its streams end, and whoever comes back is somebody new. Until
// then those whose grace is not over are connected, as before; of the others
// everybody has heard that they are gone, and nobody is to hear it twice: this
// node says of nobody that they are here before it knows which.
func (p *Presence) reincarnate(ctx context.Context) {
	p.mu.Lock()
	p.incarnation++
	p.renewed = time.Time{}
	name := p.named()
	p.doubtful = map[talk.Connection]struct{}{}
	for _, shard := range p.own {
		maps.Copy(p.doubtful, shard)
	}
	p.mu.Unlock()
	p.Log.Warn("this node was silent and counts as dead: it begins again", "node", name)
	p.Restart()
	p.note("not known who is gone", p.settle(ctx)) // before this node is one of those whose report a shard needs to be whole; or the report asks
	live, err := p.Nodes.Renew(ctx, name, true)
	p.note("node not renewed", err)
	if err == nil {
		p.alive(live)
		p.report(ctx)
	}
}

// report tells Redis what this node holds, shard by shard.
func (p *Presence) report(ctx context.Context) {
	if err := p.settle(ctx); err != nil {
		for shard := range talk.PresenceShards {
			p.becomes(shard, false)
		}
		return
	}
	for shard := range talk.PresenceShards {
		p.mu.Lock()
		name, live := p.named(), p.live
		own := make([]talk.Connection, 0, len(p.own[shard]))
		for conn := range p.own[shard] {
			own = append(own, conn)
		}
		p.claim(shard)
		p.mu.Unlock()
		whole, err := p.conns.Report(ctx, shard, name, live, own)
		p.claimed(shard)
		if errors.Is(err, talk.ErrNodeSwept) {
			p.reincarnate(ctx)
			return
		}
		p.becomes(shard, whole && err == nil)
	}
	p.Count(ctx)
}

// becomes notes whether a shard is whole. Where it is whole again, what this
// node believed of it is looked at again.
func (p *Presence) becomes(shard int, whole bool) {
	p.mu.Lock()
	again := whole && !p.whole[shard]
	p.whole[shard] = whole
	p.mu.Unlock()
	if again {
		p.Unsure()
		signal(p.walk)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// expire takes people offline whose grace is over. Every node does; each of
// them is found once.
func (p *Presence) expire(ctx context.Context) {
	first := rand.IntN(talk.PresenceShards)
	for i := range talk.PresenceShards {
		for more := true; more; {
			before := p.lastFlip()
			users, err := p.conns.Expire(ctx, (first+i)%talk.PresenceShards)
			if err != nil {
				return // Redis is away: nobody expires
			}
			p.wentOffline(users, before) // before their seats are vacated: others hear that they are gone, not that they sit nowhere
			if more = len(users) > 0; more {
				p.vacate(ctx, users)
			}
		}
	}
}

func (p *Presence) vacate(ctx context.Context, users []talk.UserID) {
	seated, err := p.Nodes.SeatedOf(ctx, users)
	p.note("seats not found", err)
	p.beside("seats not vacated", seated, func(user talk.UserID) error { return p.Seats.Vacate(ctx, user, p.isGone(user)) })
}

// isGone is whether somebody is known to have no connection, asked when it is
// called.
func (p *Presence) isGone(user talk.UserID) func(context.Context) bool {
	return func(ctx context.Context) bool {
		connected, err := p.conns.Connected(ctx, []talk.UserID{user})
		there, known := connected[user]
		return err == nil && known && !there
	}
}

// beside does something for many people, a few at once. What fails is logged
// once for all of them, and returned.
func (p *Presence) beside(what string, users []talk.UserID, do func(talk.UserID) error) (failed []talk.UserID) {
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		first error
	)
	slots := make(chan struct{}, seatsBeside)
	for _, user := range users {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if err := do(user); err != nil {
				mu.Lock()
				defer mu.Unlock()
				first, failed = cmp.Or(first, err), append(failed, user)
			}
		})
	}
	all.Wait()
	if len(failed) > 0 {
		p.Log.Warn("presence: "+what, "people", len(failed), "of", len(users), "error", first)
	}
	return failed
}

// expireSeats frees the seats that have been held for as long as the grace;
// who has a connection after all gets theirs back.
func (p *Presence) expireSeats(ctx context.Context) {
	seats, err := p.Nodes.LostSeats(ctx, p.Clock().Add(-p.Grace-seatsLater), seatsAtOnce)
	if err != nil || len(seats) == 0 {
		return
	}
	since := map[talk.UserID]time.Time{}
	users := make([]talk.UserID, len(seats))
	for i, seat := range seats {
		users[i], since[seat.UserID] = seat.UserID, seat.Since
	}
	connected, err := p.conns.Connected(ctx, users)
	if err != nil {
		return
	}
	online, err := p.conns.Online(ctx, users)
	if err != nil {
		return
	}
	p.beside("seats not settled", users, func(user talk.UserID) error {
		switch there, known := connected[user]; {
		case !known:
			return nil
		case there:
			return p.Seats.Return(ctx, user)
		case online[user] && p.Clock().Sub(since[user]) < p.Grace+seatsLatest:
			return nil // nobody has been told yet that they are gone
		default:
			return p.Seats.Expire(ctx, user, since[user], p.isGone(user))
		}
	})
}

// sweep takes away what dead nodes held. A node does so only after ten seconds
// of its own unbroken renewals: an outage of the database declares nobody dead.
func (p *Presence) sweep(ctx context.Context) {
	p.mu.Lock()
	steady := !p.since.IsZero() && time.Since(p.since) >= sweepAfter && time.Since(p.renewed) < 2*renewEvery
	p.mu.Unlock()
	if !steady {
		return
	}
	dead, err := p.Nodes.SweepNodes(ctx)
	p.note("nodes not swept", err)
	for _, node := range dead {
		if err := p.bury(ctx, node); err != nil {
			p.Log.Warn("presence: node not swept", "node", node.Name, "error", err)
			continue
		}
		p.note("node not buried", p.Nodes.Bury(ctx, node.Name))
	}
}

func (p *Presence) bury(ctx context.Context, node talk.DeadNode) error {
	for shard := range talk.PresenceShards {
		for more := true; more; {
			left := node.SeenAt.Add(p.Grace).Sub(p.Clock())
			var last []talk.UserID
			var err error
			if last, more, err = p.conns.Sweep(ctx, shard, node.Name, left); err != nil {
				return err
			}
			p.lose(ctx, last, node.SeenAt)
		}
	}
	return nil
}

// lose holds the seats of people who have been without a connection since a
// time.
func (p *Presence) lose(ctx context.Context, users []talk.UserID, since time.Time) {
	if len(users) == 0 {
		return
	}
	p.note("last seen not written", p.Nodes.Saw(ctx, users, since))
	seated, err := p.Nodes.SeatedOf(ctx, users)
	p.note("seats not found", err)
	p.beside("seats not held", seated, func(user talk.UserID) error { return p.Seats.Lose(ctx, user, since) })
}

// walkSeats misses whoever sits somewhere without a connection and was not
// noticed: perhaps only for a moment, on the way from one node to another, so
// they are looked at again. One node does, on whole shards.
func (p *Presence) walkSeats(ctx context.Context) {
	if !p.First() {
		return
	}
	now := p.Clock()
	before := time.Unix(0, 0)
	if p.Unattended > 0 {
		before = now.Add(-p.Unattended)
	}
	for after := talk.UserID(""); ; {
		users, err := p.Nodes.SeatedPeople(ctx, after, before, seatsAtOnce)
		var connected map[talk.UserID]bool
		if err == nil {
			connected, err = p.conns.Connected(ctx, users)
		}
		asked := time.Now()
		if err != nil {
			time.AfterFunc(seatsEvery, func() { signal(p.walk) }) // nobody else looks at them, and the next walk is in a minute
			return
		}
		if len(users) == 0 {
			return
		}
		for _, user := range users {
			if there, known := connected[user]; known && !there {
				p.miss(absence{user, now, asked.Add(p.unmissed(0)), asked})
			}
		}
		after = users[len(users)-1]
	}
}

// saw writes when people were last there.
func (p *Presence) saw(ctx context.Context) {
	p.mu.Lock()
	users := make([]talk.UserID, 0, len(p.left))
	for user := range p.left {
		users = append(users, user)
	}
	clear(p.left)
	p.mu.Unlock()
	if err := p.Nodes.Saw(ctx, users, p.Clock()); err != nil {
		p.gone(users)
	}
}

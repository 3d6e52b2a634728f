package live

import (
	"context"
	"errors"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// unheard is a connection of which Redis has to hear again: it was opened or
// closed while Redis did not answer, or it was closed while this node said what
// it has.
type unheard struct {
	conn   talk.Connection
	closed time.Time // zero where it was opened
	how    Parting   // it closed
	heard  bool      // that it closed; this node's claims may have opened it again
}

const (
	unheardMost = 10_000         // of more, the next report tells
	unheardLeft = 2 * renewEvery // of the grace at least: who came back by another node, unheard too, is not gone
)

// unheardOf notes what Redis has to hear again. Otherwise it would learn with
// the next report, which does not know since when somebody is gone.
func (p *Presence) unheardOf(all ...unheard) {
	p.mu.Lock()
	defer p.mu.Unlock()
	room := max(0, unheardMost-len(p.unheard))
	p.unheard = append(p.unheard, all[:min(room, len(all))]...)
}

// claims are what this node is just telling Redis that it has, of a shard. What
// closes meanwhile Redis may hear of in the wrong order, and believe that it is
// open.
type claims struct {
	underWay int
	closed   []unheard
}

// claim is called, with the lock held, when what this node has was looked at, and
// claimed once Redis has heard of it.
func (p *Presence) claim(shard int) { p.claims[shard].underWay++ }

// claimed has Redis hear again of what closed meanwhile.
func (p *Presence) claimed(shard int) {
	p.mu.Lock()
	c := &p.claims[shard]
	var closed []unheard
	if c.underWay--; c.underWay == 0 {
		closed, c.closed = c.closed, nil
	}
	p.mu.Unlock()
	p.unheardOf(closed...)
}

// closes notes that a connection closes while something is claimed. The lock is
// held.
func (p *Presence) closes(shard int, u unheard) {
	if c := &p.claims[shard]; c.underWay > 0 {
		u.heard = true
		c.closed = append(c.closed, u)
	}
}

// catchUp says again what Redis did not hear, in order.
func (p *Presence) catchUp(ctx context.Context) {
	p.mu.Lock()
	all := p.unheard
	p.unheard = nil
	p.mu.Unlock()
	for i, u := range all {
		if err := p.sayAgain(ctx, u); err != nil { // it is away still
			p.mu.Lock()
			p.unheard = append(all[i:len(all):len(all)], p.unheard...)
			p.mu.Unlock()
			return
		}
	}
}

func (p *Presence) sayAgain(ctx context.Context, u unheard) error {
	if u.closed.IsZero() {
		return p.openAgain(ctx, u.conn)
	}
	if time.Since(u.closed) > closeWithin {
		u.how.AtOnce = false // Redis was away: they may be back by another node, of which it has not heard either
	}
	left, err := p.conns.Close(ctx, p.name(), u.conn, p.graceLeft(u))
	if err == nil && (left == 0 || left < 0 && !u.heard) { // less than none: it was heard, and only the answer was lost
		p.parted(ctx, u)
	}
	return unlessSwept(err)
}

func (p *Presence) openAgain(ctx context.Context, conn talk.Connection) error {
	shard := talk.PresenceShard(conn.User)
	p.mu.Lock()
	_, open := p.own[shard][conn]
	name := p.named()
	p.claim(shard)
	p.mu.Unlock()
	defer p.claimed(shard)
	if !open {
		return nil // closed since
	}
	return unlessSwept(p.conns.Open(ctx, name, conn))
}

// graceLeft is what is left of the grace of whoever parted a while ago.
func (p *Presence) graceLeft(u unheard) time.Duration {
	if u.how.AtOnce {
		return 0
	}
	return max(p.Grace-time.Since(u.closed), min(p.Grace, unheardLeft))
}

// unlessSwept is err, unless it says that this node was swept: then it begins again
// with its next renewal, and says all that it holds.
func unlessSwept(err error) error {
	if errors.Is(err, talk.ErrNodeSwept) {
		return nil
	}
	return err
}

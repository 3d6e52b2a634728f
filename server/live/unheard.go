package live

import (
	"context"
	"errors"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// unheard is a connection that was opened or closed while Redis did not answer.
type unheard struct {
	conn   talk.Connection
	closed time.Time     // zero where it was opened
	back   time.Duration // see [Parting]
}

const (
	unheardMost = 10_000         // of more, the next report tells
	unheardLeft = 2 * renewEvery // of the grace at least: who came back by another node, unheard too, is not gone
)

// unheardOf notes what Redis has to hear again. Otherwise it would learn with
// the next report, which does not know since when somebody is gone.
func (p *Presence) unheardOf(u unheard) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.unheard) < unheardMost {
		p.unheard = append(p.unheard, u)
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
	p.mu.Lock()
	_, open := p.own[talk.PresenceShard(u.conn.User)][u.conn]
	name := p.named()
	p.mu.Unlock()
	switch {
	case open && u.closed.IsZero():
		return unlessSwept(p.conns.Open(ctx, name, u.conn))
	case u.closed.IsZero():
		return nil // closed since
	}
	left, err := p.conns.Close(ctx, name, u.conn, max(p.Grace-time.Since(u.closed), min(p.Grace, unheardLeft)))
	if err == nil && left <= 0 { // less than none: it was heard, and only the answer was lost
		p.absentSince(u.conn.User, u.closed, u.back)
	}
	return unlessSwept(err)
}

// unlessSwept is err, unless it says that this node was swept: then it begins again
// with its next renewal, and says all that it holds.
func unlessSwept(err error) error {
	if errors.Is(err, talk.ErrNodeSwept) {
		return nil
	}
	return err
}

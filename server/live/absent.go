package live

import (
	"context"
	"slices"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// holdAfter is how long somebody may be without a connection before others
// see that they are reconnecting: counted from when they were to be back, where
// their node sent them away.
const holdAfter = 3 * time.Second

// absence is that somebody's last connection broke at a time.
type absence struct {
	user  talk.UserID
	since time.Time
	due   time.Time // when others are to see it, by this process' clock
	known time.Time // a moment, by the same, at which Redis knew that they were gone
}

// ended is whether they have been back since then, where what is left of their
// grace says when they went last. Then that is another absence, which whoever
// noticed it looks at when it is due.
func (a absence) ended(left, grace time.Duration, now time.Time) bool {
	return grace-left < now.Sub(a.known)-clocksApart
}

// clocksApart is by how much Redis' clock may go otherwise than ours meanwhile.
const clocksApart = 500 * time.Millisecond

// miss notes absences: see [Presence.holdSeats].
func (p *Presence) miss(absent ...absence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.absent = append(p.absent, absent...)
}

// missed takes up to a hundred of those who are due.
func (p *Presence) missed() (due []absence) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.absent = slices.DeleteFunc(p.absent, func(a absence) bool {
		is := len(due) < seatsAtOnce && !a.due.After(now)
		if is {
			due = append(due, a)
		}
		return is
	})
	return due
}

// holdSeats shows those as reconnecting who are still without a connection. When
// a network breaks there are many of them, and they are asked for together.
func (p *Presence) holdSeats(ctx context.Context) {
	for {
		due := p.missed()
		if len(due) == 0 {
			return
		}
		since, users := map[talk.UserID]absence{}, make([]talk.UserID, 0, len(due))
		for _, a := range due {
			last, twice := since[a.user]
			if !twice {
				users = append(users, a.user)
			}
			if !twice || last.known.Before(a.known) { // one that could not be dealt with before may come after a later one
				since[a.user] = a
			}
		}
		now := time.Now() // before the question: what is left is less from then on
		leaving, err := p.conns.Leaving(ctx, users)
		if err != nil {
			p.again(due) // the walk comes by only once a minute
			continue
		}
		users = slices.DeleteFunc(users, func(user talk.UserID) bool {
			left, gone := leaving[user]
			return !gone || since[user].ended(left, p.Grace, now)
		})
		seated, err := p.Nodes.SeatedOf(ctx, users)
		if err != nil {
			p.note("seats not found", err)
			p.again(due)
			return
		}
		failed := p.beside("seats not held", seated, func(user talk.UserID) error { return p.Seats.Lose(ctx, user, since[user].since) })
		for _, user := range failed {
			p.again([]absence{since[user]})
		}
		if len(failed) > 0 {
			return // and again after a while, rather than at once
		}
	}
}

// again has absences looked at once more, unless their grace is over: then the
// walk finds them.
func (p *Presence) again(absent []absence) {
	for _, a := range absent {
		if p.Clock().Sub(a.since) < p.Grace {
			a.due = time.Now().Add(seatsEvery)
			p.miss(a)
		}
	}
}

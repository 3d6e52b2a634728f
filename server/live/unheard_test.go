package live_test

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

// ledger is a switchboard that notes what it is told of connections.
type ledger struct {
	*switchboard
	talk.Store

	open      map[talk.Connection]bool
	graces    []time.Duration // of those that closed
	reporting func()          // is called once, before the next report that says something is heard
}

// Change is talk.Store's: nobody sits anywhere.
func (l *ledger) Change(context.Context, talk.Scope, func(*talk.State) error) (talk.Told, error) {
	return talk.Told{}, talk.ErrUserNotFound
}

// Report is talk.Connections'.
func (l *ledger) Report(_ context.Context, _ int, _ string, _ []string, own []talk.Connection) (bool, error) {
	var meanwhile func()
	if len(own) > 0 {
		l.set(func() { meanwhile, l.reporting = l.reporting, nil })
	}
	if meanwhile != nil {
		meanwhile()
	}
	return true, l.redis(func() {
		for _, c := range own {
			l.open[c] = true
		}
	})
}

// Open is talk.Connections'.
func (l *ledger) Open(_ context.Context, _ string, c talk.Connection) error {
	return l.redis(func() { l.open[c] = true })
}

// Close is talk.Connections'.
func (l *ledger) Close(_ context.Context, _ string, c talk.Connection, grace time.Duration) (int, error) {
	return 0, l.redis(func() {
		delete(l.open, c)
		l.graces = append(l.graces, grace)
	})
}

// attended returns a ledger, and a presence on it that runs until the test ends.
func attended(t *testing.T) (*ledger, *live.Presence) {
	t.Helper()
	l := &ledger{switchboard: newSwitchboard(), open: map[talk.Connection]bool{}}
	p := live.NewPresence(live.PresenceConfig{
		Node: "n", Nodes: l, Clock: time.Now, Grace: 30 * time.Second, Restart: func() {}, Log: slog.New(slog.DiscardHandler),
		Seats: &talk.Seats{Outbox: talk.NewOutbox(l, nil, time.Now, slog.New(slog.DiscardHandler))},
	})
	p.Use(l)
	ctx, stop := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { p.Run(ctx) })
	t.Cleanup(func() {
		stop()
		run.Wait()
	})
	return l, p
}

// P1: what Redis did not hear it hears once it is back, at once, and somebody
// who is gone has of their grace what is left of it.
func TestP1_what_redis_did_not_hear_is_said_again(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, p := attended(t)
		gone := p.Attach(t.Context(), ada, "")
		l.set(func() { l.away = true })
		gone(live.Parting{})
		p.Attach(t.Context(), bob, "")
		fleeting := p.Attach(t.Context(), bob, "")
		fleeting(live.Parting{})
		time.Sleep(10 * time.Second) // synctest's clock, as below
		l.set(func() {
			if len(l.open) != 1 {
				t.Errorf("Redis is away and knows of %d connections", len(l.open))
			}
			l.away = false
		})
		time.Sleep(300 * time.Millisecond)
		l.set(func() {
			if len(l.open) != 1 || len(l.graces) != 2 {
				t.Fatalf("it knows of %v open and %d closed", l.open, len(l.graces))
			}
			for c := range l.open {
				if c.User != bob {
					t.Errorf("%s is there", c.User)
				}
			}
			for _, grace := range l.graces {
				if grace < 19*time.Second || grace > 20*time.Second {
					t.Errorf("a grace of %v is left of 30 s after 10", grace)
				}
			}
		})
	})
}

// P1: who logs out while Redis does not answer is gone once it does; after a
// while they may be back by another node, and are given time to say so.
func TestP1_a_logout_that_redis_did_not_hear(t *testing.T) {
	t.Parallel()
	for away, least := range map[time.Duration]time.Duration{100 * time.Millisecond: 0, 3 * time.Second: 5 * time.Second} {
		t.Run(away.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, p := attended(t)
				gone := p.Attach(t.Context(), ada, "")
				l.set(func() { l.away = true })
				gone(live.Parting{AtOnce: true})
				time.Sleep(away)
				l.set(func() { l.away = false })
				time.Sleep(300 * time.Millisecond)
				l.set(func() {
					if len(l.open) != 0 || len(l.graces) != 1 || l.graces[0] < least || (least == 0) != (l.graces[0] == 0) {
						t.Errorf("Redis knows of %v open, and heard of a close with %v", l.open, l.graces)
					}
				})
			})
		})
	}
}

// P1: a connection that closes while its node says what it has is closed in the
// end, and who logged out is gone at once.
func TestP1_what_closes_during_a_report_is_closed(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]live.Parting{"broken": {}, "logged out": {AtOnce: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				l, p := attended(t)
				gone := p.Attach(t.Context(), ada, "")
				l.set(func() { l.reporting = func() { gone(how) } })
				time.Sleep(4 * time.Second)
				l.set(func() {
					if len(l.open) != 0 {
						t.Errorf("Redis believes that %v are open", l.open)
					}
					last := l.graces[len(l.graces)-1]
					if how.AtOnce != (last == 0) || last > 30*time.Second {
						t.Errorf("of whom it heard with a grace of %v", last)
					}
				})
			})
		})
	}
}

// SeatedOf is talk.Nodes': nobody sits anywhere.
func (l *ledger) SeatedOf(context.Context, []talk.UserID) ([]talk.UserID, error) { return nil, nil }

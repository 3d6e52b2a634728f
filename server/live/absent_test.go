package live_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

// doorway is a switchboard that notes who is asked for as no longer there.
type doorway struct {
	*switchboard

	fails  int // so many times
	asked  int
	missed map[talk.UserID]int
	seated []talk.UserID
	went   map[talk.UserID]time.Time // when they last did
}

// Close is talk.Connections': nothing is left.
func (d *doorway) Close(_ context.Context, _ string, c talk.Connection, _ time.Duration) (int, error) {
	return 0, d.redis(func() {
		d.online[c.User] = false
		if d.went != nil {
			d.went[c.User] = time.Now()
		}
	})
}

// Leaving is talk.Connections'.
func (d *doorway) Leaving(ctx context.Context, users []talk.UserID) (map[talk.UserID]time.Duration, error) {
	left, err := d.switchboard.Leaving(ctx, users)
	d.mu.Lock()
	defer d.mu.Unlock()
	for user := range left {
		if when, known := d.went[user]; known {
			left[user] = 15*time.Second - time.Since(when)
		}
	}
	return left, err
}

// SeatedOf is talk.Nodes'.
func (d *doorway) SeatedOf(_ context.Context, users []talk.UserID) ([]talk.UserID, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if d.fails > 0 {
		d.fails--
		return nil, errors.New("the database is away")
	}
	for _, user := range users {
		d.missed[user]++
	}
	return nil, nil
}

// When a network breaks, many people are gone at once: they are asked for
// together, nobody is forgotten where that fails, and who is back is left alone.
func TestManyWhoAreGoneAtOnceAreMissedTogether(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const people, back = 1750, 250
		d := &doorway{switchboard: newSwitchboard(), fails: 1, missed: map[talk.UserID]int{}}
		var log bytes.Buffer
		p := live.NewPresence(live.PresenceConfig{
			Node: "n", Nodes: d, Clock: time.Now, Grace: 15 * time.Second, Restart: func() {},
			Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		p.Use(d)
		ctx, stop := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { p.Run(ctx) })
		var detach []func(live.Parting)
		for n := range people {
			detach = append(detach, p.Attach(ctx, talk.UserID(fmt.Sprint("user", n)), ""))
		}
		for _, gone := range detach {
			gone(live.Parting{})
		}
		for n := range back {
			p.Attach(ctx, talk.UserID(fmt.Sprint("user", n)), "")
		}
		time.Sleep(2 * time.Second) // synctest's clock, as below
		synctest.Wait()
		d.set(func() {
			if d.asked != 0 {
				t.Error("somebody is missed too soon")
			}
		})
		time.Sleep(4 * time.Second)
		stop()
		run.Wait()
		if len(d.missed) != people-back {
			t.Errorf("%d people are missed, want %d", len(d.missed), people-back)
		}
		for user, times := range d.missed {
			if times != 1 {
				t.Errorf("%s is missed %d times", user, times)
			}
		}
		if d.asked > people/100+2 {
			t.Errorf("%d questions", d.asked)
		}
		if lines := bytes.Count(log.Bytes(), []byte("\n")); lines != 1 {
			t.Errorf("%d lines of log:\n%s", lines, log.String())
		}
	})
}

// P2: Redis misses a time-out just as others were to see that somebody is gone:
// they see it a moment later.
func TestP2_who_is_gone_is_missed_when_redis_answers_again(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &doorway{switchboard: newSwitchboard(), missed: map[talk.UserID]int{}}
		p := present(t, d)
		p.Attach(t.Context(), ada, "")(live.Parting{})
		time.Sleep(2 * time.Second) // synctest's clock, as below
		d.set(func() { d.away = true })
		time.Sleep(1500 * time.Millisecond)
		d.set(func() { d.away = false })
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		d.set(func() {
			if d.missed[ada] != 1 {
				t.Errorf("she is missed %d times", d.missed[ada])
			}
		})
	})
}

// SeatedPeople is talk.Nodes': all who sit somewhere.
func (d *doorway) SeatedPeople(_ context.Context, after talk.UserID, _ time.Time, _ int) ([]talk.UserID, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if after != "" {
		return nil, nil
	}
	return d.seated, nil
}

// present runs a presence on d until the test is over.
func present(t *testing.T, d *doorway) *live.Presence {
	t.Helper()
	p := live.NewPresence(live.PresenceConfig{
		Node: "n", Nodes: d, Clock: time.Now, Grace: 15 * time.Second, Restart: func() {}, Log: slog.New(slog.DiscardHandler),
	})
	p.Use(d)
	ctx, stop := context.WithCancel(t.Context())
	if err := p.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	var run sync.WaitGroup
	run.Go(func() { p.Run(ctx) })
	t.Cleanup(func() { stop(); run.Wait() })
	return p
}

// who says who was missed, and how often.
func (d *doorway) who() map[talk.UserID]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.missed)
}

// Who was sent away is not missed before they were to be back.
func TestWhoWasSentAwayIsNotMissedBeforeTheyAreDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &doorway{switchboard: newSwitchboard(), missed: map[talk.UserID]int{}}
		p := present(t, d)
		for _, user := range []talk.UserID{ada, bob} {
			p.Attach(t.Context(), user, "")(live.Parting{Back: 2 * time.Second})
		}
		time.Sleep(4500 * time.Millisecond) // synctest's clock, as below
		p.Attach(t.Context(), bob, "")
		synctest.Wait()
		if missed := d.who(); len(missed) != 0 {
			t.Errorf("missed too soon: %v", missed)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if missed := d.who(); len(missed) != 1 || missed[ada] != 1 {
			t.Errorf("missed: %v, want ada, once", missed)
		}
	})
}

// A node that begins walks past the seats at once. Who is on the way from the
// node that ended to another has no connection just then, and is not missed.
func TestTheWalkDoesNotMissWhoIsOnTheWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &doorway{switchboard: newSwitchboard(), missed: map[talk.UserID]int{}, seated: []talk.UserID{ada, bob}}
		p := present(t, d)
		time.Sleep(2 * time.Second) // synctest's clock, as below
		p.Attach(t.Context(), bob, "")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if missed := d.who(); len(missed) != 1 || missed[ada] != 1 {
			t.Errorf("missed: %v, want ada, once", missed)
		}
	})
}

// A walk that Redis is too late for goes by again soon, not in a minute.
func TestAWalkThatFailedIsMadeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &doorway{switchboard: newSwitchboard(), missed: map[talk.UserID]int{}, seated: []talk.UserID{ada}}
		d.late = 2
		present(t, d)
		time.Sleep(8 * time.Second) // synctest's clock
		synctest.Wait()
		if missed := d.who(); missed[ada] != 1 || d.late != 0 {
			t.Errorf("missed: %v, want ada, once", missed)
		}
	})
}

// Somebody's connection breaks, they are back at once, and are sent away just
// before they would have been missed the first time: they have only just gone.
func TestWhoCameBackIsNotMissedForTheTimeBefore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &doorway{switchboard: newSwitchboard(), missed: map[talk.UserID]int{}, went: map[talk.UserID]time.Time{}}
		p := present(t, d)
		back := map[talk.UserID]func(live.Parting){}
		for _, user := range []talk.UserID{ada, bob} {
			p.Attach(t.Context(), user, "")(live.Parting{})
			time.Sleep(100 * time.Millisecond) // synctest's clock, as below
			back[user] = p.Attach(t.Context(), user, "")
		}
		time.Sleep(2700 * time.Millisecond)
		for _, user := range []talk.UserID{ada, bob} {
			back[user](live.Parting{Back: time.Second})
		}
		time.Sleep(1500 * time.Millisecond)
		p.Attach(t.Context(), bob, "")
		synctest.Wait()
		if missed := d.who(); len(missed) != 0 {
			t.Errorf("missed too soon: %v", missed)
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if missed := d.who(); len(missed) != 1 || missed[ada] != 1 {
			t.Errorf("missed: %v, want ada, once", missed)
		}
	})
}

// The database is away as somebody is to be missed, for the first time and
// again; meanwhile they were back for a moment. They are missed for the second
// time, though the first comes up after it.
func TestAnOldAbsenceDoesNotHideALaterOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := &doorway{switchboard: newSwitchboard(), fails: 4, missed: map[talk.UserID]int{}, went: map[talk.UserID]time.Time{}}
		p := present(t, d)
		p.Attach(t.Context(), ada, "")(live.Parting{})
		time.Sleep(3900 * time.Millisecond) // synctest's clock, as below: so both are due at seven seconds
		p.Attach(t.Context(), ada, "")(live.Parting{})
		time.Sleep(8 * time.Second)
		synctest.Wait()
		if missed := d.who(); missed[ada] != 1 {
			t.Errorf("missed: %v, want ada, once", missed)
		}
	})
}

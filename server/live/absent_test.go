package live_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
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
}

// Close is talk.Connections': nothing is left.
func (d *doorway) Close(_ context.Context, _ string, c talk.Connection, _ time.Duration) (int, error) {
	return 0, d.redis(func() { d.online[c.User] = false })
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
		var detach []func(bool)
		for n := range people {
			detach = append(detach, p.Attach(ctx, talk.UserID(fmt.Sprint("user", n)), ""))
		}
		for _, gone := range detach {
			gone(false)
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

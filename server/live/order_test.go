package live_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

// exit is a switchboard out of which ada goes.
type exit struct {
	*switchboard
	talk.Store

	due     bool            // her grace is over, and no node has found that yet
	lost    []talk.LostSeat // hers
	seated  func()          // called when somebody asks whether she sits somewhere
	vacated atomic.Int32
}

func newExit() *exit { return &exit{switchboard: newSwitchboard(), seated: func() {}} }

// Expire is talk.Connections'.
func (e *exit) Expire(context.Context, int) (gone []talk.UserID, err error) {
	return gone, e.redis(func() {
		if e.due {
			e.due, gone = false, []talk.UserID{ada}
			e.online[ada] = false
		}
	})
}

// Connected is talk.Connections': she has no connection.
func (e *exit) Connected(context.Context, []talk.UserID) (map[talk.UserID]bool, error) {
	return map[talk.UserID]bool{ada: false}, nil
}

// LostSeats is talk.Nodes'.
func (e *exit) LostSeats(_ context.Context, before time.Time, _ int) (lost []talk.LostSeat, err error) {
	e.set(func() {
		for _, seat := range e.lost {
			if seat.Since.Before(before) {
				lost = append(lost, seat)
			}
		}
	})
	return lost, nil
}

// SeatedOf is talk.Nodes'.
func (e *exit) SeatedOf(context.Context, []talk.UserID) ([]talk.UserID, error) {
	e.seated()
	return nil, nil
}

// Change is talk.Store's: seats are given up by it.
func (e *exit) Change(context.Context, talk.Scope, func(*talk.State) error) (talk.Told, error) {
	e.vacated.Add(1)
	e.set(func() { e.lost = nil })
	return talk.Told{}, talk.ErrUserNotFound
}

func (e *exit) presence(grace time.Duration) *live.Presence {
	p := live.NewPresence(live.PresenceConfig{
		Node: "n", Nodes: e, Clock: time.Now, Grace: grace, Restart: func() {}, Log: slog.New(slog.DiscardHandler),
		Seats: &talk.Seats{Outbox: talk.NewOutbox(e, nil, time.Now, slog.New(slog.DiscardHandler))},
	})
	p.Use(e)
	return p
}

// P2: who goes offline is told to be gone before their seat is given up, also
// where what Redis says of it is heard late, or never.
func TestP2_the_node_that_takes_somebody_offline_knows_it_first(t *testing.T) {
	t.Parallel()
	e := newExit()
	e.online[ada] = true
	p := e.presence(time.Minute)
	first, w, err := p.Watch(t.Context(), []talk.UserID{ada})
	if err != nil || !first[0].Online {
		t.Fatalf("%v, %v", first, err)
	}
	defer w.Close()
	known := make(chan []talk.Presence, 1)
	e.seated = func() { known <- w.Take() }
	e.due = true
	running(t, p)
	if told := <-known; len(told) != 1 || told[0].Online {
		t.Errorf("her seat is about to be given up, and what was told is %v", told)
	}
	if changes := w.Take(); len(changes) != 0 {
		t.Errorf("and then %v", changes)
	}
}

// P2: a seat is not given up while its person is online for everybody, unless
// that takes far too long.
func TestP2_a_seat_is_given_up_by_who_is_offline(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]struct {
		until   time.Duration // she is online for so long after the grace
		vacated time.Duration // her seat is given up so long after the grace, at the latest
	}{
		"offline soon":  {4 * time.Second, 6 * time.Second},
		"never offline": {time.Hour, 12 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const grace = 15 * time.Second
				e := newExit()
				e.online[ada] = true
				e.lost = []talk.LostSeat{{UserID: ada, Since: time.Now()}}
				running(t, e.presence(grace))
				time.Sleep(grace + min(wait.until, 8*time.Second)) // synctest's clock, as below
				synctest.Wait()
				if e.vacated.Load() != 0 {
					t.Error("she is online, and her seat is given up")
				}
				e.set(func() { e.online[ada] = wait.until == time.Hour })
				time.Sleep(wait.vacated - min(wait.until, 8*time.Second))
				synctest.Wait()
				if e.vacated.Load() != 1 {
					t.Errorf("her seat was given up %d times", e.vacated.Load())
				}
			})
		})
	}
}

// P2: likewise where the node that took somebody offline is another one, and
// what it says comes in the other order. What does not come is not waited for.
func TestP2_gone_is_one_event_in_either_order(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newExit()
		e.online[ada], e.rooms[ada] = true, "room"
		p := e.presence(time.Minute)
		_, w, err := p.Watch(t.Context(), []talk.UserID{ada})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		p.Follow(talk.Event{Topic: talk.UserTopic(ada), Seq: 2, Fact: talk.Moved{Gone: true}})
		time.Sleep(time.Second) // synctest's clock, as below
		if changes := w.Take(); len(changes) != 0 {
			t.Errorf("she is not gone yet, and it is told that %v", changes)
		}
		p.Flipped(ada, false)
		if changes := w.Take(); len(changes) != 1 || changes[0].Online {
			t.Errorf("she went, and it is told that %v", changes)
		}
		p.Flipped(ada, true)
		p.Follow(talk.Event{Topic: talk.UserTopic(ada), Seq: 3, Fact: talk.Moved{RoomID: "room"}})
		w.Take()
		p.Follow(talk.Event{Topic: talk.UserTopic(ada), Seq: 4, Fact: talk.Moved{Gone: true}})
		time.Sleep(5 * time.Second)
		if changes := w.Take(); len(changes) != 1 || !changes[0].Online || changes[0].RoomID != "" {
			t.Errorf("she has come back to no room, and it is told that %v", changes)
		}
	})
}

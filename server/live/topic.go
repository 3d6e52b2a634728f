package live

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// topic is one stream of events that this node listens to.
type topic struct {
	hub       *Hub
	name      talk.Topic
	listeners int           // guarded by the hub's lock
	ready     chan struct{} // closed once seq is known, or failed is set
	failed    error

	mu      sync.Mutex
	begun   bool
	ended   bool
	seq     int64 // of the last event that was delivered
	known   int64 // the history has events up to here
	waiting map[int64]talk.Event
	ears    map[*Ear]struct{}
	timer   *time.Timer // a gap is open, or a heal is under way
}

func newTopic(h *Hub, name talk.Topic) *topic {
	return &topic{
		hub: h, name: name, ready: make(chan struct{}),
		waiting: map[int64]talk.Event{}, ears: map[*Ear]struct{}{},
	}
}

// begin finds out where the topic stands. What is offered meanwhile waits.
func (t *topic) begin() {
	ctx, cancel := context.WithTimeout(context.Background(), healWithin)
	defer cancel()
	t.awaitBus(ctx)
	seqs, err := t.hub.history.TopicSeqs(ctx, []talk.Topic{t.name})
	if err != nil {
		t.failed = err
		t.hub.forget(t)
		close(t.ready)
		return
	}
	t.mu.Lock()
	t.begun, t.seq, t.known = true, seqs[t.name], seqs[t.name]
	for seq := range t.waiting {
		if seq <= t.seq {
			delete(t.waiting, seq)
		}
	}
	t.deliver()
	t.mu.Unlock()
	close(t.ready)
}

// awaitBus gives a new subscription a moment. Where it takes longer, or Redis
// is away, the topic is compared once it is confirmed, and until then what
// the table says each second is all there is.
func (t *topic) awaitBus(ctx context.Context) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(confirmWaits)
	for !t.hub.bus.Hears(t.name) {
		select {
		case <-tick.C:
		case <-late:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (t *topic) add(e *Ear) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ears[e] = struct{}{}
}

func (t *topic) drop(e *Ear) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.ears, e)
}

func (t *topic) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	if t.timer != nil {
		t.timer.Stop()
	}
}

func (t *topic) offer(e talk.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.Seq <= t.seq && t.begun || t.ended {
		return
	}
	t.waiting[e.Seq] = e
	if t.begun {
		t.deliver()
	}
}

// behind notes that the history has events up to seq.
func (t *topic) behind(seq int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.known = max(t.known, seq)
	if t.begun {
		t.deliver()
	}
}

// deliver hands on what is next in order. Called with the lock held.
func (t *topic) deliver() {
	for {
		e, ok := t.waiting[t.seq+1]
		if !ok {
			break
		}
		delete(t.waiting, e.Seq)
		t.seq = e.Seq
		t.hub.metrics.delivered(len(t.ears))
		told := &Told{Event: e}
		for ear := range t.ears {
			ear.listener.push(told)
		}
	}
	if (len(t.waiting) > 0 || t.known > t.seq) && t.timer == nil && !t.ended {
		t.wait(gapWaits)
	}
}

// wait has the gap healed after d, where it is still there.
func (t *topic) wait(d time.Duration) {
	if len(t.waiting) > mostWaiting {
		clear(t.waiting) // the table has them
		d = 0
	}
	t.timer = time.AfterFunc(d, t.heal)
}

// heal reads what did not come.
func (t *topic) heal() {
	t.mu.Lock()
	after, gap := t.seq, len(t.waiting) > 0 || t.known > t.seq
	if !gap || t.ended {
		t.timer = nil
		t.mu.Unlock()
		return
	}
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), healWithin)
	defer cancel()
	events, err := t.hub.history.TopicEvents(ctx, t.name, after, mostWaiting)
	var seqs map[talk.Topic]int64
	if err == nil && (len(events) == 0 || events[0].Seq != after+1) {
		seqs, err = t.hub.history.TopicSeqs(ctx, []talk.Topic{t.name})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.timer = nil
	switch {
	case t.ended:
	case err != nil:
		t.hub.log.Warn("topic not healed", "topic", string(t.name), "error", fmt.Sprint(err))
		t.wait(healAgain)
	case seqs != nil:
		t.reset(max(seqs[t.name], after))
	default:
		t.healed(events)
	}
}

func (t *topic) healed(events []talk.Event) {
	for _, e := range events {
		if e.Seq <= t.seq {
			continue
		}
		t.waiting[e.Seq] = e
		t.hub.metrics.healed()
	}
	t.deliver()
}

// reset goes on after what is lost for good: listeners get the state instead.
func (t *topic) reset(seq int64) {
	if seq > t.seq {
		for ear := range t.ears {
			ear.listener.push(&Told{Event: talk.Event{Topic: t.name, Seq: seq}})
		}
		t.seq = seq
	}
	t.known = t.seq
	for waits := range t.waiting {
		if waits <= t.seq {
			delete(t.waiting, waits)
		}
	}
	t.deliver()
}

package live

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/free2talk/free2talk/server/talk"
)

// Timing of the hub.
const (
	gapWaits     = 50 * time.Millisecond // for another node's event, before the table is asked
	healAgain    = 500 * time.Millisecond
	healWithin   = 2 * time.Second
	confirmWaits = 100 * time.Millisecond // for a new subscription; what comes later is compared then
	compareEvery = 10 * time.Second
	compareMost  = 500 // topics of one query
	mostWaiting  = 1000
)

// Hub brings the events of topics to who listens in this node: each once, in
// the order of their seq, without a gap. Events are offered to it from
// wherever they come, any number of times and in any order; what does not come
// it reads from the history.
type Hub struct {
	history talk.History
	bus     talk.Bus
	log     *slog.Logger
	metrics *hubMetrics

	mu     sync.Mutex
	topics map[talk.Topic]*topic
	doubts map[talk.Topic]struct{} // topics to be compared with the history
	doubt  chan struct{}           // there are some
	woken  func()                  // the table has something new
}

var _ talk.BusListener = (*Hub)(nil)

// NewHub makes the hub of one node; meter may be nil. [Hub.Use] gives it a bus,
// and [Hub.Run] keeps it whole.
func NewHub(history talk.History, log *slog.Logger, meter metric.Meter) (*Hub, error) {
	h := &Hub{
		history: history, log: log,
		topics: map[talk.Topic]*topic{}, doubts: map[talk.Topic]struct{}{}, doubt: make(chan struct{}, 1),
		woken: func() {}, bus: noBus{},
	}
	var err error
	h.metrics, err = newHubMetrics(meter, h)
	return h, err
}

// Use gives the hub the bus that it listens to, and what to call where the bus
// says that the table has something new. Call it before anybody listens.
func (h *Hub) Use(bus talk.Bus, woken func()) { h.bus, h.woken = bus, woken }

// noBus is for a node without others.
type noBus struct{}

func (noBus) Publish(context.Context, []talk.Event) error { return nil }
func (noBus) Listen(talk.Topic)                           {}
func (noBus) Drop(talk.Topic)                             {}
func (noBus) Hears(talk.Topic) bool                       { return true }

// Offer takes an event from wherever it comes.
func (h *Hub) Offer(e talk.Event) {
	h.mu.Lock()
	t := h.topics[e.Topic]
	h.mu.Unlock()
	if t != nil && e.Fact != nil {
		t.offer(e)
	}
}

// Told takes what this node has committed.
func (h *Hub) Told(told talk.Told) {
	for _, e := range told.Events {
		h.Offer(e)
	}
}

// Woken says that some node has committed something.
func (h *Hub) Woken() { h.woken() }

// Lost does nothing: the table is read each second whatever the bus does.
func (h *Hub) Lost() {}

// Confirmed compares a topic: what was published before is not heard.
func (h *Hub) Confirmed(name talk.Topic) { h.suspect(name) }

// Regained compares all topics.
func (h *Hub) Regained() { h.CompareAll() }

// CompareAll has every topic compared with the history soon.
func (h *Hub) CompareAll() {
	h.mu.Lock()
	for name := range h.topics {
		h.doubts[name] = struct{}{}
	}
	h.mu.Unlock()
	h.signal()
}

func (h *Hub) suspect(name talk.Topic) {
	h.mu.Lock()
	if _, listened := h.topics[name]; listened {
		h.doubts[name] = struct{}{}
	}
	h.mu.Unlock()
	h.signal()
}

func (h *Hub) signal() {
	select {
	case h.doubt <- struct{}{}:
	default:
	}
}

// Run compares what is in doubt, and every ten seconds everything, until ctx
// ends: a bus may lose a message and say nothing.
func (h *Hub) Run(ctx context.Context) {
	all := time.NewTicker(compareEvery)
	defer all.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-all.C:
			h.CompareAll()
		case <-h.doubt:
			h.settle(ctx)
		}
	}
}

// settle compares the topics in doubt, and keeps the doubt where it cannot.
func (h *Hub) settle(ctx context.Context) {
	for {
		names := h.takeDoubts()
		if len(names) == 0 {
			return
		}
		short, cancel := context.WithTimeout(ctx, healWithin)
		seqs, err := h.history.TopicSeqs(short, names)
		cancel()
		if err != nil {
			h.keepDoubts(ctx, names, err)
			return
		}
		for _, name := range names {
			if t := h.topic(name); t != nil {
				t.behind(seqs[name])
			}
		}
	}
}

func (h *Hub) takeDoubts() []talk.Topic {
	h.mu.Lock()
	defer h.mu.Unlock()
	var names []talk.Topic
	for name := range h.doubts {
		if len(names) == compareMost {
			break
		}
		delete(h.doubts, name)
		names = append(names, name)
	}
	return names
}

func (h *Hub) keepDoubts(ctx context.Context, names []talk.Topic, err error) {
	if ctx.Err() != nil {
		return
	}
	h.log.Warn("topics not compared", "topics", len(names), "error", err)
	h.mu.Lock()
	for _, name := range names {
		h.doubts[name] = struct{}{}
	}
	h.mu.Unlock()
	time.AfterFunc(healAgain, h.signal)
}

func (h *Hub) topic(name talk.Topic) *topic {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.topics[name]
}

// Listen brings the events of a topic to l, beginning with one that was not
// committed when Listen was called, at the latest. Whoever reads the topic's
// state from the database after Listen has returned, and drops the events that
// the state includes, has missed none.
func (h *Hub) Listen(ctx context.Context, name talk.Topic, l *Listener) (*Ear, error) {
	ear := &Ear{hub: h, listener: l}
	h.mu.Lock()
	t, known := h.topics[name]
	if !known {
		t = newTopic(h, name)
		h.topics[name] = t
		h.bus.Listen(name) // under the lock: in the order of the topics' lives
	}
	t.listeners++
	ear.topic = t
	h.mu.Unlock()
	t.add(ear)
	if !known {
		go t.begin() //nolint:gosec // it outlives the listener that caused it: others share it
	}
	select {
	case <-t.ready:
	case <-ctx.Done():
		ear.Close()
		return nil, context.Cause(ctx)
	}
	if t.failed != nil {
		ear.Close()
		return nil, t.failed
	}
	return ear, nil
}

// Ear is one listener's place at one topic.
type Ear struct {
	hub      *Hub
	topic    *topic
	listener *Listener
	closed   sync.Once
}

// Close ends what [Hub.Listen] began.
func (e *Ear) Close() { e.closed.Do(e.close) }

func (e *Ear) close() {
	e.topic.drop(e)
	h := e.hub
	h.mu.Lock()
	e.topic.listeners--
	last := e.topic.listeners == 0 && h.topics[e.topic.name] == e.topic
	if last {
		delete(h.topics, e.topic.name)
		delete(h.doubts, e.topic.name)
		h.bus.Drop(e.topic.name)
	}
	h.mu.Unlock()
	if last {
		e.topic.end()
	}
}

// forget takes a topic off that could not begin: who comes next tries again.
func (h *Hub) forget(t *topic) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.topics[t.name] == t {
		delete(h.topics, t.name)
		delete(h.doubts, t.name)
		h.bus.Drop(t.name)
	}
}

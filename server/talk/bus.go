package talk

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Bus carries events between nodes, quickly and without a promise: what it
// loses is found in the [History].
type Bus interface {
	// Publish tells events to the nodes that listen to their topics, and wakes all
	// nodes that read the table.
	Publish(ctx context.Context, events []Event) error
	// Listen asks for the events of a topic. It does not wait: see
	// [BusListener.Confirmed].
	Listen(topic Topic)
	// Drop ends what Listen began.
	Drop(topic Topic)
	// Hears reports whether what is published on the topic from now on arrives.
	Hears(topic Topic) bool
}

// BusListener hears of what the bus carries. Its methods must not wait.
type BusListener interface {
	// Offer takes an event of a topic that is listened to; events may come twice,
	// late, or not at all.
	Offer(e Event)
	// Woken says that some node has committed something.
	Woken()
	// Confirmed says that a topic is heard from now on.
	Confirmed(topic Topic)
	// Regained says that the bus is heard again after it was not: whatever was
	// published meanwhile is lost.
	Regained()
	// Lost says that the bus, or a part of it, is not heard any more.
	Lost()
}

// travelling is an event as it travels.
type travelling struct {
	Topic Topic           `json:"topic"`
	Seq   int64           `json:"seq"`
	At    time.Time       `json:"at"`
	Kind  string          `json:"kind"`
	Fact  json.RawMessage `json:"fact"`
}

// EncodeEvent spells an event for a bus.
func EncodeEvent(e Event) ([]byte, error) {
	fact, err := json.Marshal(e.Fact)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", e.Fact.Kind(), err)
	}
	return json.Marshal(travelling{Topic: e.Topic, Seq: e.Seq, At: e.At, Kind: e.Fact.Kind(), Fact: fact})
}

// DecodeEvent reads what [EncodeEvent] wrote.
func DecodeEvent(b []byte) (Event, error) {
	var s travelling
	if err := json.Unmarshal(b, &s); err != nil {
		return Event{}, err
	}
	fact, err := DecodeFact(s.Kind, s.Fact)
	return Event{Topic: s.Topic, Seq: s.Seq, At: s.At, Fact: fact}, err
}

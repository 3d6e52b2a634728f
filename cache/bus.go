package cache

import (
	"context"
	"encoding/hex"
	"hash/fnv"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/server/talk"
)

// busShards is over how many slots of a Cluster the topics are spread: as many
// connections a node has for them. Anywhere else there is one.
const busShards = 16

// Bus carries events between nodes by Pub/Sub, sharded on a Cluster. It
// implements [talk.Bus].
type Bus struct {
	redis    *Redis
	listener talk.BusListener
	sharded  bool
	wakes    *subscription // the channel that wakes who reads the table; the only one where nothing is sharded
	shards   []*subscription
	up       atomic.Int32 // subscriptions that stand
}

var _ talk.Bus = (*Bus)(nil)

// NewBus makes the bus of one node. Nothing is heard before [Bus.Run].
func NewBus(r *Redis, listener talk.BusListener) *Bus {
	b := &Bus{redis: r, listener: listener}
	_, b.sharded = r.client.(*redis.ClusterClient)
	b.wakes = r.subscribe(false, b.ears(), r.keys.wakes())
	if b.sharded {
		for shard := range busShards {
			b.shards = append(b.shards, r.subscribe(true, b.ears(), r.keys.busShard(shard)))
		}
	}
	return b
}

func (b *Bus) subscriptions() []*subscription {
	return append([]*subscription{b.wakes}, b.shards...)
}

func (b *Bus) ears() ears {
	return ears{
		message:   b.message,
		confirmed: func(channel string) { b.listener.Confirmed(b.redis.keys.topicOf(channel)) },
		up: func() {
			b.redis.bus.breaker.report(false)
			if int(b.up.Add(1)) == len(b.shards)+1 {
				b.redis.config.Log.Debug("the bus is heard", "servers", b.redis.servers)
			}
			b.listener.Regained()
		},
		down: func() {
			b.up.Add(-1)
			b.listener.Lost()
		},
	}
}

// Run keeps the subscriptions until ctx ends.
func (b *Bus) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, s := range b.subscriptions() {
		all.Go(func() { s.run(ctx) })
	}
	all.Wait()
}

// Whole reports whether every subscription stands.
func (b *Bus) Whole() bool { return int(b.up.Load()) == len(b.shards)+1 }

// Publish tells events to the nodes that listen, and wakes all nodes.
func (b *Bus) Publish(ctx context.Context, events []talk.Event) error {
	calls := make([]*call, 0, len(events)+1)
	verb := "publish"
	if b.sharded {
		verb = "spublish"
	}
	for _, e := range events {
		if e.Topic == "" || e.Fact == nil {
			continue
		}
		payload, err := talk.EncodeEvent(e)
		if err != nil {
			return err
		}
		calls = append(calls, command(verb, b.redis.keys.topic(e.Topic), payload))
	}
	if len(calls) == 0 {
		return nil
	}
	err := b.redis.bus.do(ctx, append(calls, command("publish", b.redis.keys.wakes(), ""))...)
	if err == nil {
		b.redis.metrics.published.Add(ctx, int64(len(calls)))
	}
	return err
}

// Listen asks for the events of a topic.
func (b *Bus) Listen(topic talk.Topic) { b.of(topic).add(b.redis.keys.topic(topic)) }

// Drop ends what Listen began.
func (b *Bus) Drop(topic talk.Topic) { b.of(topic).remove(b.redis.keys.topic(topic)) }

// Hears reports whether what is published on the topic from now on arrives.
func (b *Bus) Hears(topic talk.Topic) bool { return b.of(topic).heard(b.redis.keys.topic(topic)) }

func (b *Bus) of(topic talk.Topic) *subscription {
	if !b.sharded {
		return b.wakes
	}
	return b.shards[busShard(topic)]
}

func (b *Bus) message(channel, payload string) {
	if channel == b.redis.keys.wakes() {
		b.listener.Woken()
		return
	}
	e, err := talk.DecodeEvent([]byte(payload))
	if err != nil {
		b.redis.config.Log.Warn("an event that cannot be read", "channel", channel, "error", err)
		return // it leaves a gap, which is healed from the table
	}
	b.listener.Offer(e)
}

func busShard(topic talk.Topic) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(topic)) // never fails
	return int(h.Sum32() % busShards)
}

// --- channels ---

// wakes is told of every commit.
func (k keys) wakes() string { return k.prefix + "events" }

// busShard is a channel that nobody publishes on: it keeps a connection to the
// shard's slot where nothing is listened to.
func (k keys) busShard(shard int) string { return k.prefix + "events:{" + strconv.Itoa(shard) + "}" }

// topic carries the history: a node that does not know yet that it is another one
// may tell of what was never committed there, with numbers that are given again.
func (k keys) topic(topic talk.Topic) string {
	return k.busShard(busShard(topic)) + ":" + hex.EncodeToString([]byte(k.history)) + ":" + string(topic)
}

func (k keys) topicOf(channel string) talk.Topic {
	_, topic, _ := strings.Cut(channel, "}:")
	_, topic, _ = strings.Cut(topic, ":")
	return talk.Topic(topic)
}

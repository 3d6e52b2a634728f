package cache

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	pingEvery   = time.Second      // on each subscription
	silentFor   = 3 * time.Second  // without a word, not even the answer to a ping: the connection is given up
	confirmIn   = 3 * time.Second  // bounds a resubscription
	rejoinLeast = 50 * time.Millisecond
	rejoinMost  = time.Second
	namesAtOnce = 500 // channels of one command
)

// ears is what a subscription tells its owner. The calls come one after the
// other, from the goroutine that reads: they must not wait.
type ears struct {
	message   func(channel, payload string)
	up        func()               // every channel that was there is confirmed, on a new connection: whatever was told since down is lost
	down      func()               // nothing is heard; called once for each up, and first of all
	confirmed func(channel string) // one that was added later
}

// subscription is one Pub/Sub connection, kept up. It pings, so that a line
// that says nothing is noticed, and it makes a new connection itself, since
// go-redis's own would not say that messages were lost.
type subscription struct {
	redis   *Redis
	sharded bool
	base    []string // subscribed to always; at least one
	ears    ears

	mu       sync.Mutex
	pubsub   *redis.PubSub       // nil while there is none
	channels map[string]bool     // added ones: whether they are confirmed
	pending  map[string]struct{} // asked for on this connection and not yet confirmed
	isUp     bool
}

// subscribe makes a subscription; nothing happens before [subscription.run].
// All channels of a sharded one must be of one slot.
func (r *Redis) subscribe(sharded bool, e ears, base ...string) *subscription {
	if e.confirmed == nil {
		e.confirmed = func(string) {}
	}
	return &subscription{redis: r, sharded: sharded, base: base, ears: e, channels: map[string]bool{}}
}

// add subscribes to one more channel. It does not wait: see ears.confirmed.
// Where there is no connection it is part of the next one.
func (s *subscription) add(channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.channels[channel]; known {
		return
	}
	s.channels[channel] = false
	if s.pubsub != nil {
		s.pending[channel] = struct{}{}
		s.ask(s.pubsub, channel)
	}
}

// remove ends what add began.
func (s *subscription) remove(channel string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.channels, channel)
	if s.pubsub == nil {
		return
	}
	delete(s.pending, channel)
	ctx, cancel := context.WithTimeout(s.redis.ended, s.redis.config.Timeout)
	defer cancel()
	if s.sharded {
		_ = s.pubsub.SUnsubscribe(ctx, channel) // a broken connection is noticed by who reads
		return
	}
	_ = s.pubsub.Unsubscribe(ctx, channel)
}

// heard reports whether a channel is subscribed to and confirmed.
func (s *subscription) heard(channel string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isUp && s.channels[channel]
}

// up reports whether the connection stands.
func (s *subscription) up() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isUp
}

// run keeps the subscription until ctx ends.
func (s *subscription) run(ctx context.Context) {
	wait := rejoinLeast
	for ctx.Err() == nil {
		began := time.Now()
		s.session(ctx)
		if time.Since(began) > rejoinMost {
			wait = rejoinLeast
		}
		select {
		case <-ctx.Done():
		case <-time.After(jitter(wait)):
		}
		wait = min(2*wait, rejoinMost)
	}
}

// session is the life of one connection.
func (s *subscription) session(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pubsub := s.open(ctx)
	var pings sync.WaitGroup
	pings.Go(func() { s.ping(ctx, pubsub) })
	s.read(ctx, pubsub)
	cancel()
	s.close(pubsub)
	pings.Wait()
}

// open makes a connection and asks for everything that is wanted.
func (s *subscription) open(ctx context.Context) *redis.PubSub {
	pubsub := s.redis.client.Subscribe(ctx) // makes its connection at the first channel
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pubsub, s.pending = pubsub, map[string]struct{}{}
	wanted := slices.Clone(s.base)
	for channel := range s.channels {
		s.channels[channel] = false
		wanted = append(wanted, channel)
	}
	for _, channel := range wanted {
		s.pending[channel] = struct{}{}
	}
	for chunk := range slices.Chunk(wanted, namesAtOnce) {
		s.ask(pubsub, chunk...)
	}
	return pubsub
}

// ask sends a command; a connection on which that fails is noticed by who reads.
func (s *subscription) ask(pubsub *redis.PubSub, channels ...string) {
	ctx, cancel := context.WithTimeout(s.redis.ended, s.redis.config.dialTimeout()+s.redis.config.Timeout)
	defer cancel()
	if s.sharded {
		_ = pubsub.SSubscribe(ctx, channels...)
		return
	}
	_ = pubsub.Subscribe(ctx, channels...)
}

func (s *subscription) close(pubsub *redis.PubSub) {
	s.mu.Lock()
	was := s.isUp
	s.pubsub, s.isUp = nil, false
	for channel := range s.channels {
		s.channels[channel] = false
	}
	s.mu.Unlock()
	_ = pubsub.Close()
	if was {
		s.ears.down()
	}
}

func (s *subscription) ping(ctx context.Context, pubsub *redis.PubSub) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			short, cancel := context.WithTimeout(ctx, s.redis.config.Timeout)
			_ = pubsub.Ping(short) // who reads notices
			cancel()
		}
	}
}

// read hears until the connection breaks or falls silent.
func (s *subscription) read(ctx context.Context, pubsub *redis.PubSub) {
	late := time.Now().Add(confirmIn)
	for ctx.Err() == nil {
		got, err := pubsub.ReceiveTimeout(ctx, silentFor)
		if err != nil {
			s.failed(ctx, err)
			return
		}
		switch m := got.(type) {
		case *redis.Message:
			s.ears.message(m.Channel, m.Payload)
		case *redis.Subscription:
			if !s.confirm(m) {
				return
			}
		}
		if !s.up() && time.Now().After(late) {
			return
		}
	}
}

func (s *subscription) failed(ctx context.Context, err error) {
	if ctx.Err() == nil && !errors.Is(err, redis.ErrClosed) {
		s.redis.config.Log.Debug("subscription broke", "channel", s.base[0], "error", err)
	}
}

// confirm notes that a channel is heard. A confirmation that nobody waits for
// means that go-redis has made another connection behind our back, or that a
// Cluster moved the slot: then messages were lost, and false starts anew.
func (s *subscription) confirm(m *redis.Subscription) bool {
	if m.Kind == "unsubscribe" || m.Kind == "sunsubscribe" {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, wanted := s.channels[m.Channel]
		_, asked := s.pending[m.Channel]
		return !slices.Contains(s.base, m.Channel) && (!wanted || asked)
	}
	s.mu.Lock()
	if _, asked := s.pending[m.Channel]; !asked {
		_, wanted := s.channels[m.Channel]
		s.mu.Unlock()
		return !wanted && !slices.Contains(s.base, m.Channel) // removed meanwhile
	}
	delete(s.pending, m.Channel)
	if _, wanted := s.channels[m.Channel]; wanted {
		s.channels[m.Channel] = true
	}
	rises := !s.isUp && len(s.pending) == 0
	s.isUp = s.isUp || rises
	was := s.isUp && !rises
	s.mu.Unlock()
	switch {
	case rises:
		s.ears.up()
	case was:
		s.ears.confirmed(m.Channel)
	}
	return true
}

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
	pingEvery   = time.Second     // on each subscription
	silentFor   = 3 * time.Second // without a word, not even the answer to a ping: the connection is given up
	confirmIn   = 3 * time.Second // bounds a resubscription
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

	mu     sync.Mutex
	wanted map[string]struct{}
	asked  map[string]channelState // on this connection, base ones too; nil while there is none
	first  int                     // of those that it began with: not confirmed yet
	isUp   bool
	change chan struct{} // wanted is not asked
}

// channelState is what the server was asked of a channel. There is never a
// second question before the first is answered, so that an answer always
// belongs to what was asked last.
type channelState int

const (
	joining  channelState = iota + 1 // one that was added
	founding                         // one that the connection began with
	joined
	parting
)

// subscribe makes a subscription; nothing happens before [subscription.run].
// All channels of a sharded one must be of one slot.
func (r *Redis) subscribe(sharded bool, e ears, base ...string) *subscription {
	if e.confirmed == nil {
		e.confirmed = func(string) {}
	}
	return &subscription{
		redis: r, sharded: sharded, base: base, ears: e,
		wanted: map[string]struct{}{}, change: make(chan struct{}, 1),
	}
}

// add subscribes to one more channel. It does not wait: see ears.confirmed.
func (s *subscription) add(channel string) {
	s.mu.Lock()
	s.wanted[channel] = struct{}{}
	s.mu.Unlock()
	s.changed()
}

// remove ends what add began. It does not wait.
func (s *subscription) remove(channel string) {
	s.mu.Lock()
	delete(s.wanted, channel)
	s.mu.Unlock()
	s.changed()
}

func (s *subscription) changed() {
	select {
	case s.change <- struct{}{}:
	default:
	}
}

// heard reports whether a channel is subscribed to and confirmed.
func (s *subscription) heard(channel string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isUp && s.asked[channel] == joined
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
	pubsub := s.redis.client.Subscribe(ctx)                       // makes its connection at the first channel
	defer context.AfterFunc(ctx, func() { _ = pubsub.Close() })() // a read does not end with its context
	s.begin()
	s.ask(ctx, pubsub, founding)
	var writes sync.WaitGroup
	writes.Go(func() { s.write(ctx, pubsub) })
	s.read(ctx, pubsub)
	cancel()
	_ = pubsub.Close()
	writes.Wait()
	s.end()
}

func (s *subscription) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.first = map[string]channelState{}, 0
}

func (s *subscription) end() {
	s.mu.Lock()
	was := s.isUp
	s.asked, s.isUp = nil, false
	s.mu.Unlock()
	if was {
		s.ears.down()
	}
}

// write pings, and asks for what is wanted, until ctx ends. That a ping
// failed is noticed by who reads.
func (s *subscription) write(ctx context.Context, pubsub *redis.PubSub) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.change:
			s.ask(ctx, pubsub, joining)
		case <-tick.C:
			short, cancel := context.WithTimeout(ctx, s.redis.config.Timeout)
			_ = pubsub.Ping(short)
			cancel()
		}
	}
}

// ask subscribes to what is wanted, and to nothing else. What it begins is
// in the state as until it is confirmed.
func (s *subscription) ask(ctx context.Context, pubsub *redis.PubSub, as channelState) {
	begin, end := s.difference(as)
	short, cancel := context.WithTimeout(ctx, s.redis.config.dialTimeout()+s.redis.config.Timeout)
	defer cancel()
	subscribe, unsubscribe := pubsub.Subscribe, pubsub.Unsubscribe
	if s.sharded {
		subscribe, unsubscribe = pubsub.SSubscribe, pubsub.SUnsubscribe
	}
	var errs []error
	for chunk := range slices.Chunk(end, namesAtOnce) {
		errs = append(errs, unsubscribe(short, chunk...))
	}
	for chunk := range slices.Chunk(begin, namesAtOnce) {
		errs = append(errs, subscribe(short, chunk...))
	}
	if err := errors.Join(errs...); err != nil {
		s.failed(ctx, err)
		_ = pubsub.Close() // the question may never be answered: who reads begins anew
	}
}

func (s *subscription) difference(as channelState) (begin, end []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for channel, state := range s.asked {
		if _, wanted := s.wanted[channel]; !wanted && state == joined && !slices.Contains(s.base, channel) {
			s.asked[channel] = parting
			end = append(end, channel)
		}
	}
	for _, channel := range s.base { // first: the first channel chooses the server of a Cluster
		if s.asked[channel] == 0 {
			s.asked[channel] = as
			begin = append(begin, channel)
		}
	}
	for channel := range s.wanted {
		if s.asked[channel] == 0 {
			s.asked[channel] = as
			begin = append(begin, channel)
		}
	}
	if as == founding {
		s.first = len(begin)
	}
	return begin, end
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

// confirm notes an answer. One that nobody waits for means that go-redis has
// made another connection behind our back, or that a Cluster moved the slot:
// then messages were lost, and false starts anew.
func (s *subscription) confirm(m *redis.Subscription) bool {
	s.mu.Lock()
	state, was := s.asked[m.Channel], s.isUp
	_, wanted := s.wanted[m.Channel]
	left := m.Kind == "unsubscribe" || m.Kind == "sunsubscribe"
	expected := left == (state == parting) && state != joined && state != 0
	switch {
	case !expected:
	case left:
		delete(s.asked, m.Channel)
	default:
		s.asked[m.Channel] = joined
	}
	if expected && state == founding {
		s.first--
		s.isUp = s.first == 0
	}
	rises := s.isUp && !was
	s.mu.Unlock()
	if !expected {
		return false
	}
	if wanted == left { // another mind meanwhile
		s.changed()
	}
	switch {
	case rises:
		s.ears.up()
	case was && !left:
		s.ears.confirmed(m.Channel)
	}
	return true
}

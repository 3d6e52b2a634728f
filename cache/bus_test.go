package cache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// listenerOf counts what a bus says.
type listenerOf struct {
	mu              sync.Mutex
	heard           map[talk.Topic]int
	regained, lost  atomic.Int64
	woken, confirms atomic.Int64
}

func (l *listenerOf) Offer(e talk.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard[e.Topic]++
}
func (l *listenerOf) Woken()               { l.woken.Add(1) }
func (l *listenerOf) Confirmed(talk.Topic) { l.confirms.Add(1) }
func (l *listenerOf) Regained()            { l.regained.Add(1) }
func (l *listenerOf) Lost()                { l.lost.Add(1) }

func (l *listenerOf) count(topic talk.Topic) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard[topic]
}

func (c corner) bus(t *testing.T) (*Bus, *listenerOf) {
	l := &listenerOf{heard: map[talk.Topic]int{}}
	b := NewBus(c.open(t), l)
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() { b.Run(ctx) })
	t.Cleanup(func() { cancel(); run.Wait() })
	return b, l
}

func someTopic(n int) talk.Topic { return talk.Topic(fmt.Sprintf("room:%d", n)) }

// Topics that come and go faster than the server answers leave the connection
// as it is, and what is listened to in the end is heard.
func TestE2_a_bus_hears_topics_that_come_and_go(t *testing.T) {
	everywhere(t, func(t *testing.T, where corner) {
		b, l := where.bus(t)
		await(t, "the bus", b.Whole)
		chance := rand.New(rand.NewPCG(1, 2))
		listened := map[talk.Topic]bool{}
		for range 3000 {
			topic := someTopic(chance.IntN(5))
			if listened[topic] = !listened[topic]; listened[topic] {
				b.Listen(topic)
			} else {
				b.Drop(topic)
			}
			if chance.IntN(10) == 0 {
				<-time.After(time.Duration(chance.IntN(500)) * time.Microsecond)
			}
		}
		for topic, is := range listened {
			if !is {
				await(t, "the end of "+string(topic), func() bool { return !b.Hears(topic) })
				continue
			}
			await(t, string(topic), func() bool { return b.Hears(topic) })
			check(t, b.Publish(t.Context(), []talk.Event{{Topic: topic, Seq: 1, Fact: talk.Moved{}}}))
			await(t, "an event of "+string(topic), func() bool { return l.count(topic) == 1 })
		}
		if n := l.lost.Load(); n != 0 {
			t.Errorf("the connection was given up %d times", n)
		}
	})
}

// A bus comes up while topics come and go all the time.
func TestE2_a_bus_comes_up_among_newcomers(t *testing.T) {
	_, where := own(t)
	l := &listenerOf{heard: map[talk.Topic]int{}}
	b := NewBus(where.open(t), l)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for part := range 4 {
		all.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				b.Listen(someTopic(part<<32 + n))
				b.Drop(someTopic(part<<32 + n - 20))
				<-time.After(50 * time.Microsecond)
			}
		})
	}
	all.Go(func() { b.Run(ctx) })
	await(t, "the bus", b.Whole)
	cancel()
	all.Wait()
	if n := l.regained.Load(); n != 1 {
		t.Errorf("it came up %d times", n)
	}
}

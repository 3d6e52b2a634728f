package live_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

const room = talk.Topic("room:1")

// book is a history in memory, of one topic.
type book struct {
	talk.History

	mu     sync.Mutex
	events []talk.Event
	floor  int64 // deleted up to here
	reads  int
	fail   error
}

func (b *book) write(n int) (fresh []talk.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range n {
		e := talk.Event{Topic: room, Seq: int64(len(b.events)) + 1, Fact: talk.Moved{}}
		b.events = append(b.events, e)
		fresh = append(fresh, e)
	}
	return fresh
}

// TopicSeqs is talk.History's.
func (b *book) TopicSeqs(context.Context, []talk.Topic) (map[talk.Topic]int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return map[talk.Topic]int64{room: int64(len(b.events))}, b.fail
}

// TopicEvents is talk.History's.
func (b *book) TopicEvents(_ context.Context, _ talk.Topic, after int64, limit int) ([]talk.Event, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reads++
	if b.fail != nil {
		return nil, b.fail
	}
	from := max(after, b.floor)
	events := b.events[min(int(from), len(b.events)):]
	return slices.Clone(events[:min(limit, len(events))]), nil
}

func newHub(t *testing.T, b *book) *live.Hub {
	t.Helper()
	hub, err := live.NewHub(b, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { hub.Run(ctx) })
	t.Cleanup(func() {
		stop()
		run.Wait()
	})
	return hub
}

// hear takes from l until it has heard n events, or fails.
func hear(t *testing.T, l *live.Listener, n int) (seqs []int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for len(seqs) < n {
		if err := l.Wait(ctx); err != nil {
			t.Fatalf("heard %v, want %d: %v", seqs, n, err)
		}
		told, kept := l.Take(nil)
		if !kept {
			t.Fatal("the queue overflowed")
		}
		for _, e := range told {
			seqs = append(seqs, e.Seq)
		}
	}
	return seqs
}

func upTo(first, last int64) (seqs []int64) {
	for seq := first; seq <= last; seq++ {
		seqs = append(seqs, seq)
	}
	return seqs
}

func listen(t *testing.T, hub *live.Hub) (*live.Listener, *live.Ear) {
	t.Helper()
	l := live.NewListener()
	ear, err := hub.Listen(t.Context(), room, l)
	if err != nil {
		t.Fatal(err)
	}
	return l, ear
}

// E1: whatever comes, in whichever order and however often, each event is
// heard once and in order; what never comes is read from the table.
func TestE1_events_come_once_and_in_order(t *testing.T) {
	t.Parallel()
	b := &book{}
	b.write(7) // before anybody listens
	hub := newHub(t, b)
	l, ear := listen(t, hub)
	defer ear.Close()
	offered := b.write(200)
	var all sync.WaitGroup
	for range 4 {
		shuffled := slices.Clone(offered)
		rand.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		all.Go(func() {
			for _, e := range shuffled[:180] { // some are lost on each way, and perhaps on all
				hub.Offer(e)
			}
		})
	}
	all.Wait()
	hub.Offer(offered[199])
	if got := hear(t, l, 200); !slices.Equal(got, upTo(8, 207)) {
		t.Errorf("heard %v", got)
	}
}

// E2: what no bus carries is found by comparing, and a table that fails is
// asked again.
func TestE2_what_is_lost_is_healed(t *testing.T) {
	t.Parallel()
	b := &book{}
	hub := newHub(t, b)
	l, ear := listen(t, hub)
	defer ear.Close()
	fresh := b.write(5)
	b.mu.Lock()
	b.fail = errors.New("the database is away")
	b.mu.Unlock()
	hub.Offer(fresh[4])
	hub.CompareAll()
	for reads := 0; reads == 0; {
		b.mu.Lock()
		reads = b.reads
		b.mu.Unlock()
	}
	b.mu.Lock()
	b.fail = nil
	b.mu.Unlock()
	if got := hear(t, l, 5); !slices.Equal(got, upTo(1, 5)) {
		t.Errorf("heard %v", got)
	}
	b.write(3)
	hub.Regained()
	if got := hear(t, l, 3); !slices.Equal(got, upTo(6, 8)) {
		t.Errorf("after the bus was away: %v", got)
	}
}

// E2: what the history has deleted is said to be lost, and it goes on after it.
func TestE2_what_is_lost_for_good_is_said(t *testing.T) {
	t.Parallel()
	b := &book{}
	hub := newHub(t, b)
	l, ear := listen(t, hub)
	defer ear.Close()
	b.write(10)
	b.mu.Lock()
	b.floor = 6
	b.mu.Unlock()
	hub.CompareAll()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := l.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	told, _ := l.Take(nil)
	if len(told) != 1 || told[0].Fact != nil || told[0].Seq != 10 {
		t.Errorf("told %v", told)
	}
	hub.Offer(b.write(1)[0])
	if got := hear(t, l, 1); !slices.Equal(got, []int64{11}) {
		t.Errorf("then %v", got)
	}
}

// Listeners come and go while events do; each hears a row without a gap from
// when it came.
func TestListenersComeAndGo(t *testing.T) {
	t.Parallel()
	b := &book{}
	hub := newHub(t, b)
	ctx, stop := context.WithCancel(t.Context())
	var writer, readers sync.WaitGroup
	writer.Go(func() {
		pace := time.NewTicker(time.Millisecond) // slower than a listener is
		defer pace.Stop()
		for ctx.Err() == nil {
			<-pace.C
			for _, e := range b.write(1 + rand.IntN(3)) {
				if rand.IntN(10) > 0 {
					hub.Offer(e)
				}
			}
			hub.CompareAll()
		}
	})
	for range 8 {
		readers.Go(func() {
			for range 20 {
				l, ear := listen(t, hub)
				seqs := hear(t, l, 10)
				ear.Close()
				if !slices.Equal(seqs, upTo(seqs[0], seqs[0]+int64(len(seqs))-1)) {
					t.Errorf("heard %v", seqs)
				}
			}
		})
	}
	readers.Wait()
	stop()
	writer.Wait()
}

// A listener that never takes is cut off, and holds up nobody.
func TestSlowListenersAreCutOff(t *testing.T) {
	t.Parallel()
	b := &book{}
	hub := newHub(t, b)
	slow, slowEar := listen(t, hub)
	defer slowEar.Close()
	quick, quickEar := listen(t, hub)
	defer quickEar.Close()
	for range 30 {
		for _, e := range b.write(10) {
			hub.Offer(e)
		}
		hear(t, quick, 10)
	}
	if told, kept := slow.Take(nil); kept || len(told) != 0 {
		t.Errorf("%d events wait for a listener that did not keep up, kept %v", len(told), kept)
	}
}

// Who waits hears of the end of the waiting, and of what arrives, whichever
// context they wait with.
func TestAListenerWaitsForWhatComesOrTheEnd(t *testing.T) {
	t.Parallel()
	hub, err := live.NewHub(emptyHistory{}, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	l := live.NewListener()
	ear, err := hub.Listen(t.Context(), "room:1", l)
	if err != nil {
		t.Fatal(err)
	}
	defer ear.Close()
	cause := errors.New("the end")
	for seq := range int64(2000) {
		ctx, end := context.WithCancelCause(t.Context())
		go end(cause)
		go hub.Offer(talk.Event{Topic: "room:1", Seq: seq + 1, Fact: talk.Moved{}})
		taken := 0
		for ; ; taken += take(t, l) {
			if err := l.Wait(ctx); err != nil {
				if !errors.Is(err, cause) {
					t.Fatal(err)
				}
				break
			}
		}
		for taken == 0 { // it is still to come, and is heard of with another context
			if err := l.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			taken += take(t, l)
		}
	}
}

func take(t *testing.T, l *live.Listener) int {
	t.Helper()
	all, kept := l.Take(nil)
	if !kept {
		t.Fatal("too many")
	}
	return len(all)
}

// emptyHistory is of topics of which nothing is written.
type emptyHistory struct{ talk.History }

// TopicSeqs is talk.History's.
func (emptyHistory) TopicSeqs(_ context.Context, names []talk.Topic) (map[talk.Topic]int64, error) {
	return map[talk.Topic]int64{}, nil
}

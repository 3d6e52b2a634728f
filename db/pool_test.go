package db

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

func TestAPoolThatMovesLetsEverybodyThrough(t *testing.T) {
	t.Parallel()
	pool := newTurns(4) // three places
	var all sync.WaitGroup
	var mu sync.Mutex
	inside, most, done := 0, 0, 0
	for range 300 { // far longer, all together, than a pool that is stuck is waited for
		all.Go(func() {
			give, err := pool.take(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			inside++
			most = max(most, inside)
			mu.Unlock()
			<-time.After(10 * time.Millisecond)
			mu.Lock()
			inside--
			done++
			mu.Unlock()
			give()
		})
	}
	all.Wait()
	if most != 3 || done != 300 {
		t.Errorf("%d at once, %d in all", most, done)
	}
}

func TestAPoolThatIsStuckSaysSo(t *testing.T) {
	t.Parallel()
	pool := newTurns(2)
	give, err := pool.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		began := time.Now()
		if _, err := pool.take(t.Context()); !errors.Is(err, talk.ErrBusy) {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > 5*stuckAfter {
			t.Errorf("it took %v", took)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pool.take(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended call: %v", err)
	}
	if _, err := pool.take(aside(t.Context())); err != nil {
		t.Errorf("what goes on behind the calls: %v", err)
	}
	give()
	if _, err := pool.take(t.Context()); err != nil {
		t.Errorf("after it came back: %v", err)
	}
}

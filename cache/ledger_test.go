package cache

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// A node's own log is exact: against a list of everything ever given, no
// window holds more than the limit, and nothing that fits is refused.
func TestALedgerIsExact(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	l, limit := newLedger(), limitOf(7, time.Second)
	start := time.Now()
	type given struct {
		at   time.Duration
		cost int
	}
	var all []given
	var now time.Duration
	for step := range 20_000 {
		now += time.Duration(random.IntN(200)) * time.Millisecond
		cost := 1 + random.IntN(4)
		held := 0
		for _, g := range all[max(0, len(all)-20):] {
			if now-g.at < limit.Window {
				held += g.cost
			}
		}
		a := l.account("k", limit.Window, start.Add(now))
		v := a.fits(limit, limit.Places, cost, start.Add(now))
		equal(t, fmt.Sprint("step ", step, ": allowed"), v.Allowed, held+cost <= limit.Places)
		equal(t, "left", v.Left, limit.Places-held)
		if v.Allowed {
			l.add(a, start.Add(now), place{cost: cost})
			all = append(all, given{now, cost})
			continue
		}
		// It says when: not a moment before, and then at once.
		early, then := start.Add(now+v.Reset-time.Nanosecond), start.Add(now+v.Reset)
		equal(t, "a moment before", a.fits(limit, limit.Places, cost, early).Reset, time.Nanosecond)
		equal(t, "then", l.account("k", limit.Window, then).fits(limit, limit.Places, cost, then).Allowed, true)
		now += v.Reset
	}
}

func TestARefusalIsRememberedByItsCost(t *testing.T) {
	t.Parallel()
	l, limit := newLedger(), limitOf(10, time.Hour)
	now := time.Now()
	a := l.account("k", limit.Window, now)
	a.refuse(4, 3, now.Add(time.Minute), now)
	for cost, allowed := range map[int]bool{1: true, 3: true, 4: false, 9: false} {
		equal(t, fmt.Sprint("cost ", cost), a.verdict(limit, 10, cost, now).Allowed, allowed)
	}
	a.refuse(6, 3, now.Add(time.Hour), now) // says less than is known
	equal(t, "reset", a.verdict(limit, 10, 4, now).Reset, time.Minute)
	a.refuse(1, 0, now.Add(time.Second), now)
	equal(t, "the cheapest", a.verdict(limit, 10, 1, now).Allowed, false)
	equal(t, "afterwards", a.verdict(limit, 10, 1, now.Add(time.Second)).Allowed, true)
}

func TestAPendingAttemptAges(t *testing.T) {
	t.Parallel()
	l, limit := newLedger(), failuresOf(1, time.Minute)
	now := time.Now()
	l.account("k", limit.Window, now).begin(1, now)
	for after, want := range map[time.Duration]state{
		0: full, patience: full, patience + time.Second: refused, limit.Window + time.Second: begun,
	} {
		fresh := newLedger()
		a := fresh.account("k", limit.Window, now)
		a.begin(1, now)
		a = fresh.account("k", limit.Window, now.Add(after))
		_, s := a.beginning(limit, 1, now.Add(after))
		equal(t, fmt.Sprint("after ", after), s, want)
	}
}

// Within a node, who came first gets the next place.
func TestTheLineIsInOrder(t *testing.T) {
	t.Parallel()
	l := NewLimiter(embedded(t).open(t), nil)
	limit := failuresOf(1, time.Hour)
	first, _, err := l.Begin(t.Context(), limit, "k")
	check(t, err)
	got := make(chan int)
	name := l.redis.keys.limit(limit, "k")
	attempts := make([]talk.Attempt, 5)
	for i := range attempts {
		go func() {
			a, _, err := l.Begin(t.Context(), limit, "k")
			if err != nil {
				t.Error(err)
			}
			attempts[i] = a
			got <- i
		}()
		await(t, "a place in the line", func() bool {
			l.ledger.mu.Lock()
			defer l.ledger.mu.Unlock()
			return len(l.ledger.accounts[name].line) == i+1
		})
	}
	first.End(t.Context(), false)
	for want := range attempts {
		equal(t, "next", <-got, want)
		attempts[want].End(t.Context(), false)
	}
}

package cache

import (
	"container/list"
	"sync"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

const (
	mostAccounts = 1 << 16 // keys that a node remembers
	mostPlaces   = 1 << 20 // places that it remembers of them, some 32 MiB
	evictSteps   = 16
	patience     = 10 * time.Second // what is pending for longer counts as failed
)

// ledger is what this node itself has admitted, as an exact sliding log for
// each key. It is bounded: what was not asked for longest goes first.
type ledger struct {
	mu       sync.Mutex
	accounts map[string]*account
	order    *list.List // of *account, the last asked for first
	places   int
}

func newLedger() *ledger {
	return &ledger{accounts: map[string]*account{}, order: list.New()}
}

// account is the log of one key of Redis.
type account struct {
	name    string
	window  time.Duration
	element *list.Element // nil where it was dropped

	log     []place              // oldest first
	one     [1]place             // room for a log that stays short
	held    int                  // the sum of its costs
	untold  int                  // of its places: Redis does not know so many
	pending map[uint64]time.Time // attempts that have not ended: when they began
	refused time.Time            // calls of this cost or a higher one are refused until then
	cost    int
	left    int    // what was left when they were refused
	epoch   uint64 // of the Redis that was told of the log
	line    []*waiter
	wake    chan struct{} // gets a value when a place may be free; nil where nobody has waited yet
}

// place is what one call was given. A node has a million of them at most, in
// which the collection of garbage has nothing to look for.
type place struct {
	at   moment
	id   uint64
	cost int
	told bool // Redis knows it
}

// moment is a time by the clock of this process that nobody sets, in nanoseconds
// since it began. Unlike a [time.Time] it holds no pointer.
type moment int64

var processBegan = time.Now()

func momentOf(t time.Time) moment { return moment(t.Sub(processBegan)) }

// age is how long ago it was.
func (m moment) age(now time.Time) time.Duration { return time.Duration(momentOf(now) - m) }

// account returns the log of a key, made up to date. The lock is held.
func (l *ledger) account(name string, window time.Duration, now time.Time) *account {
	a, ok := l.accounts[name]
	if !ok {
		a = &account{name: name, window: window}
		a.element = l.order.PushFront(a)
		l.accounts[name] = a
		l.evict(now)
	} else {
		l.order.MoveToFront(a.element)
	}
	l.prune(a, now)
	return a
}

// again returns what account did a moment ago, made up to date; it may have been
// dropped since. The lock is held.
func (l *ledger) again(a *account, now time.Time) *account {
	if a.element == nil {
		return l.account(a.name, a.window, now)
	}
	l.prune(a, now)
	return a
}

func (l *ledger) prune(a *account, now time.Time) {
	n := 0
	for ; n < len(a.log) && a.log[n].at.age(now) >= a.window; n++ {
		a.held -= a.log[n].cost
		if !a.log[n].told {
			a.untold--
		}
	}
	l.places -= n
	if a.log = a.log[n:]; len(a.log) == 0 {
		a.log = nil
	}
	for id, at := range a.pending { // one that never ends has counted for a whole window now
		if now.Sub(at) > a.window {
			delete(a.pending, id)
		}
	}
}

// evict drops accounts from the end of the order: those that say nothing any
// more, and, where there are too many, those that do. It takes a few steps at
// a time, so that no call pays for all.
func (l *ledger) evict(now time.Time) {
	e := l.order.Back()
	for range evictSteps {
		if e == nil || e == l.order.Front() {
			return
		}
		a := e.Value.(*account)
		e = e.Prev()
		l.prune(a, now)
		over := len(l.accounts) > mostAccounts || l.places > mostPlaces
		switch {
		case a.busy():
			continue
		case !over && !a.idle(now):
			return
		}
		l.order.Remove(a.element)
		a.element = nil
		delete(l.accounts, a.name)
		l.places -= len(a.log)
	}
}

func (a *account) busy() bool { return len(a.line)+len(a.pending) > 0 }

func (a *account) idle(now time.Time) bool { return len(a.log) == 0 && !now.Before(a.refused) }

// add notes what was given at a time.
func (l *ledger) add(a *account, at time.Time, p place) {
	if a.log == nil {
		a.log = a.one[:0]
	}
	p.at = momentOf(at)
	a.log = append(a.log, p)
	a.held += p.cost
	if !p.told {
		a.untold++
	}
	l.places++
	if l.places > mostPlaces {
		l.evict(at)
	}
}

// refuse remembers that calls of that cost are refused until a time.
func (a *account) refuse(cost, left int, until, now time.Time) {
	if !now.Before(a.refused) || cost <= a.cost {
		a.refused, a.cost, a.left = until, cost, left
	}
}

// remembered returns how long a call of that cost is still refused.
func (a *account) remembered(cost int, now time.Time) (time.Duration, bool) {
	return a.refused.Sub(now), cost >= a.cost && now.Before(a.refused)
}

// free returns how long it takes until so many places of the log are free.
func (a *account) free(places int, now time.Time) time.Duration {
	for _, p := range a.log {
		if places -= p.cost; places <= 0 {
			return a.window - p.at.age(now)
		}
	}
	return 0
}

// counted is how many places failures hold, with the attempts that have been
// pending for too long; begun is how many the others hold.
func (a *account) counted(now time.Time) (counted, begun int) {
	counted = a.held
	for _, at := range a.pending {
		if now.Sub(at) > patience {
			counted++
		} else {
			begun++
		}
	}
	return counted, begun
}

// verdict is what this node says by itself about a call: by what it was given,
// and by what it was refused before.
func (a *account) verdict(limit talk.Limit, places, cost int, now time.Time) talk.Verdict {
	if wait, refused := a.remembered(cost, now); refused {
		return talk.Verdict{Limit: limit, Left: a.left, Reset: wait}
	}
	return a.fits(limit, places, cost, now)
}

// fits is what the log alone says about a call.
func (a *account) fits(limit talk.Limit, places, cost int, now time.Time) talk.Verdict {
	v := talk.Verdict{Limit: limit, Left: max(0, places-a.held)}
	if over := a.held + cost - places; over > 0 {
		v.Reset = a.free(over, now)
		return v
	}
	v.Allowed = true
	return v
}

// mostLost is how many forgotten places Redis is told of at once.
const mostLost = 256

// known is what an account held when Redis was asked, and what of that Redis
// has to be told: what was admitted while it was away, and after an outage all.
type known struct {
	held  int
	epoch uint64
	lost  []place
}

func (a *account) known(epoch uint64) known {
	if a.epoch != epoch {
		a.epoch = epoch
		for i := range a.log {
			a.log[i].told = false
		}
		a.untold = len(a.log)
	}
	k := known{held: a.held, epoch: epoch}
	if a.untold == 0 { // nearly always, and a log may be long
		return k
	}
	for _, p := range a.log {
		if !p.told && len(k.lost) < mostLost {
			k.lost = append(k.lost, p)
		}
	}
	return k
}

// told notes that Redis knows what it was told, where it is still the same.
func (a *account) told(k known) {
	if len(k.lost) == 0 || a.epoch != k.epoch {
		return
	}
	ids := make(map[uint64]bool, len(k.lost))
	for _, p := range k.lost {
		ids[p.id] = true
	}
	for i := range a.log {
		if p := &a.log[i]; !p.told && ids[p.id] {
			p.told = true
			a.untold--
		}
	}
}

// compare looks whether Redis holds fewer places than this node alone was
// given. Then it has lost some, and is told of all of them the next time.
func (a *account) compare(redis, own int) {
	if redis < own {
		a.epoch--
	}
}

package talk

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Timing of the outbox. A row that is not marked after sweepAfter is told again
// by any node: telling twice is harmless, never telling is not.
const (
	markEvery   = 100 * time.Millisecond
	sweepAfter  = 300 * time.Millisecond
	sweepBatch  = 500
	againMost   = 100 // changes that are told once more without being swept
	sweepOldest = 10  // of so many sweeps that fail one begins with the oldest row, at least
	forgetEvery = time.Minute
	keepEvents  = 10 * time.Minute
)

// Outbox makes changes and tells them: after the commit and before the caller
// hears of it, the caches forget what is no longer true. What a node did not
// get round to telling, because it died or a cache was away, every node finds
// in the table and tells again.
type Outbox struct {
	store Store
	cache Cache
	bus   Bus // nil: this node is the only one
	clock Clock
	log   *slog.Logger

	observers []func(Told) // only before the first change

	again chan struct{} // gets a value when something is untold

	mu     sync.Mutex
	told   []int64 // not yet marked
	untold []Told  // of this node, where it was tried once

	changes, swept atomic.Int64
}

// OutboxStats is what an outbox did since the start of the process.
type OutboxStats struct {
	Changes int64 // that were committed and told
	Swept   int64 // events that some node committed and did not tell in time, and this one told
}

// Stats is what it did so far.
func (o *Outbox) Stats() OutboxStats { return OutboxStats{o.changes.Load(), o.swept.Load()} }

// NewOutbox makes the outbox of one node. [Outbox.Run] keeps its promises.
func NewOutbox(store Store, cache Cache, clock Clock, log *slog.Logger) *Outbox {
	return &Outbox{store: store, cache: cache, clock: clock, log: log, again: make(chan struct{}, 1)}
}

// Over makes the outbox publish events by bus. Call it before the first change.
func (o *Outbox) Over(bus Bus) { o.bus = bus }

// Observe calls f with every change of this node after its commit and before
// its caller hears of it; f must not wait. Call it before the first change.
func (o *Outbox) Observe(f func(Told)) { o.observers = append(o.observers, f) }

// Change is [Store.Change], told. Once it is committed, neither a caller who
// went away nor a cache that is gone makes it fail.
func (o *Outbox) Change(ctx context.Context, scope Scope, decide func(*State) error) error {
	told, err := o.store.Change(ctx, scope, decide)
	if err != nil {
		return err
	}
	o.changes.Add(1)
	o.tell(context.WithoutCancel(ctx), told)
	return nil
}

// tell tells this node, the caches and the other nodes. Where one of those is
// away it is tried once more, at once but without the caller: a time-out that was
// missed by chance is no outage. Otherwise the rows stay unmarked: the sweep tries
// again, and the cache knows that it is behind.
func (o *Outbox) tell(ctx context.Context, told Told) {
	for _, observe := range o.observers {
		observe(told)
	}
	if o.spread(ctx, told) == nil {
		o.mark(told.IDs...)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.untold) < againMost {
		o.untold = append(o.untold, told)
	}
	select {
	case o.again <- struct{}{}:
	default:
	}
}

// tellAgain tells what could not be told just now.
func (o *Outbox) tellAgain(ctx context.Context) {
	o.mu.Lock()
	untold := o.untold
	o.untold = nil
	o.mu.Unlock()
	var all Told
	for _, told := range untold {
		all.IDs = append(all.IDs, told.IDs...)
		all.Keys = append(all.Keys, told.Keys...)
		all.Events = append(all.Events, told.Events...)
	}
	if o.spread(ctx, all) == nil {
		o.mark(all.IDs...)
	}
}

// spread tells the caches, and then, whether that worked or not, the nodes:
// who hears of a change and reads gets it.
func (o *Outbox) spread(ctx context.Context, told Told) error {
	var forgotten, published error
	if len(told.Keys) > 0 {
		forgotten = o.cache.Forget(ctx, told.Keys...)
	}
	if o.bus != nil && len(told.Events) > 0 {
		published = o.bus.Publish(ctx, told.Events)
	}
	return errors.Join(forgotten, published)
}

func (o *Outbox) mark(ids ...int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.told = append(o.told, ids...)
}

// Run marks what was told, tells what was left untold, and deletes history,
// until ctx ends; then it marks what is left.
func (o *Outbox) Run(ctx context.Context) {
	mark, sweep, forget := time.NewTicker(markEvery), time.NewTicker(sweepAfter), time.NewTicker(forgetEvery)
	defer mark.Stop()
	defer sweep.Stop()
	defer forget.Stop()
	var b behind
	for {
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			o.note("mark", o.flush(last))
			return
		case <-o.again:
			o.tellAgain(ctx)
		case <-mark.C:
			o.note("mark", o.flush(ctx))
		case <-sweep.C:
			o.sweepNext(ctx, &b)
		case <-forget.C:
			_, err := o.store.ForgetEvents(ctx, o.clock().Add(-keepEvents))
			o.note("forget", err)
		}
	}
}

func (o *Outbox) note(what string, err error) {
	if err != nil {
		o.log.Warn("outbox", "step", what, "error", err)
	}
}

// behind is how far a node has got through rows that it could not tell.
type behind struct {
	failed int   // sweeps in a row
	after  int64 // the last row that was tried
}

// sweepNext is the sweep of [Outbox.Run]. What nobody can be told piles up, and
// would be read for nothing three times a second; but it has to be tried once,
// since a cache that could not be made to forget keys is not asked for them. So
// a sweep after one that failed goes on behind it, and some, more at first, look
// whether the oldest can be told by now.
func (o *Outbox) sweepNext(ctx context.Context, b *behind) {
	failed, after := b.failed, b.after
	oldest := failed&(failed-1) == 0 || failed%sweepOldest == 0 // 0, 1, 2, 4, 8, 10, 20, 30
	if oldest {
		after = 0
	}
	tried, err := o.sweep(ctx, after, o.clock().Add(-sweepAfter))
	if failed == 0 {
		o.note("sweep", err)
	}
	if err == nil && (oldest || len(tried) > 0) {
		*b = behind{}
		return
	}
	b.failed++
	if n := len(tried); n > 0 {
		b.after = max(b.after, tried[n-1])
	}
}

// Recover tells every row that was committed before now and is not marked. A
// cache that was away is trusted again only after it succeeded.
func (o *Outbox) Recover(ctx context.Context) error {
	before, err := o.store.Now(ctx)
	if err != nil {
		return err
	}
	for {
		told, err := o.sweep(ctx, 0, before)
		if err != nil {
			return err
		}
		if err := o.flush(ctx); err != nil {
			return err
		}
		if len(told) < sweepBatch {
			return nil
		}
	}
}

// sweep tells up to a batch of unmarked rows behind one and from before a time.
// It returns those that it tried to tell.
func (o *Outbox) sweep(ctx context.Context, after int64, before time.Time) ([]int64, error) {
	rows, err := o.store.Unpublished(ctx, after, before, sweepBatch)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	var told Told
	for _, row := range rows {
		told.IDs = append(told.IDs, row.ID)
		told.Keys = append(told.Keys, row.Keys...)
		told.Events = append(told.Events, row.Event)
	}
	if err := o.spread(ctx, told); err != nil {
		return told.IDs, err
	}
	o.mark(told.IDs...)
	o.swept.Add(int64(len(rows)))
	return told.IDs, nil
}

func (o *Outbox) flush(ctx context.Context) error {
	o.mu.Lock()
	ids := o.told
	o.told = nil
	o.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	if err := o.store.Published(ctx, ids); err != nil {
		o.mark(ids...)
		return err
	}
	return nil
}

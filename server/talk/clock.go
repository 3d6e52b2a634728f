package talk

import (
	"context"
	"sync/atomic"
	"time"
)

// TimeSource is the part of [Store] that tells the database's time.
type TimeSource interface {
	Now(ctx context.Context) (time.Time, error)
}

// ClockSync is a [Clock] that follows the database's: what it last said, and
// the time that has passed since by this machine's monotonic clock, which
// nobody sets. So a node whose wall clock is an hour off, or is set back while
// it runs, still agrees with the others on what has expired.
//
// Each reading tells the database's time but for half of its round trip. The
// clock is corrected, to the middle, only by a reading that it disagrees with
// by more than that; a slow reading therefore never spoils it, and between
// corrections it only runs forward. A correction may set it back by its own
// amount (the drift since the last one, or a failover to a database whose
// clock is behind) and never by more.
type ClockSync struct {
	local func() time.Time
	mark  atomic.Pointer[clockMark]
}

// clockMark is one moment on both clocks.
type clockMark struct{ local, database time.Time }

// NewClockSync makes a clock on top of local, whose differences must be those
// of a monotonic clock, as those of [time.Now] are; nil means time.Now. Until
// its first reading it tells local's time.
func NewClockSync(local func() time.Time) *ClockSync {
	if local == nil {
		local = time.Now
	}
	return &ClockSync{local: local}
}

// Now is the database's time, in UTC and whole microseconds.
func (c *ClockSync) Now() time.Time {
	return c.at(c.local()).UTC().Truncate(time.Microsecond)
}

func (c *ClockSync) at(local time.Time) time.Time {
	mark := c.mark.Load()
	if mark == nil {
		return local.Round(0)
	}
	return mark.database.Add(local.Sub(mark.local))
}

// Sync reads the database's clock once.
func (c *ClockSync) Sync(ctx context.Context, source TimeSource) error {
	before := c.local()
	database, err := source.Now(ctx)
	if err != nil {
		return err
	}
	trip := c.local().Sub(before)
	middle := before.Add(trip / 2)
	if off := c.at(middle).Sub(database).Abs(); c.mark.Load() == nil || off > trip/2 {
		c.mark.Store(&clockMark{local: middle, database: database})
	}
	return nil
}

// Offset is how far the database's clock is ahead of this machine's.
func (c *ClockSync) Offset() time.Duration {
	local := c.local()
	return c.at(local).Sub(local.Round(0))
}

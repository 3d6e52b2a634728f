package talk

import (
	"context"
	"sync/atomic"
	"time"
)

// lossLasts is for how long a call remembers that it waited in vain: a stream
// goes on for an hour.
const lossLasts = time.Second

// Losses lets what serves one call know of each other's waiting. A call that
// has just waited in vain for something that it can do without waits for
// nothing of the kind again: so it loses one time-out to a server that has gone
// silent, however often it would ask it. The zero value has lost nothing.
type Losses struct{ last atomic.Int64 } // ns since 1970

// LossesKey is what a context holds the *Losses of a call under.
type LossesKey struct{}

// LossesOf is what the call of ctx has lost, or nil where that is not noted.
func LossesOf(ctx context.Context) *Losses {
	l, _ := ctx.Value(LossesKey{}).(*Losses)
	return l
}

// Lose notes that the call has waited in vain.
func (l *Losses) Lose() {
	if l != nil {
		l.last.Store(time.Now().UnixNano())
	}
}

// Lost reports whether the call has waited in vain within the last second.
func (l *Losses) Lost() bool {
	if l == nil {
		return false
	}
	last := l.last.Load()
	return last != 0 && time.Since(time.Unix(0, last)) < lossLasts
}

package live

import (
	"context"
	"sync"

	"github.com/free2talk/free2talk/server/talk"
)

// ChangeKind is what happened to a room, as the lobby sees it.
type ChangeKind int

// The kinds.
const (
	Created ChangeKind = iota + 1 // it is there now
	Updated                       // it is another now; perhaps one that the filter hides
	Closed                        // it is over
	Healed                        // what happened is lost: begin again with [Lobby.Watch]
)

// Change is a room as it is now.
type Change struct {
	Kind ChangeKind
	Room talk.Room
}

// Watch hears what happens to the rooms of a filter. One goroutine takes from
// it.
type Watch struct {
	lobby  *Lobby
	filter Filter

	mu       sync.Mutex
	queue    []Change
	mark     talk.Mark
	overflow bool
	arrived  chan struct{}
}

// Watch returns the rooms that the filter finds, as of a mark, and a watch that
// hears of everything that happens to them after that.
func (l *Lobby) Watch(filter Filter) ([]talk.Room, talk.Mark, *Watch) {
	w := &Watch{lobby: l, filter: filter, arrived: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	var rooms []talk.Room
	for _, level := range levels(filter.Level) {
		if s := l.shelves[shelfKey{filter.Language, level}]; s != nil {
			s.newest.Scan(func(e *entry) bool {
				rooms = append(rooms, e.room)
				return true
			})
		}
	}
	w.mark = l.mark
	l.watches[w] = struct{}{}
	return rooms, l.mark, w
}

// Close ends the watch.
func (w *Watch) Close() {
	w.lobby.mu.Lock()
	defer w.lobby.mu.Unlock()
	delete(w.lobby.watches, w)
}

func (w *Watch) push(mark talk.Mark, c Change) {
	w.mu.Lock()
	switch {
	case w.overflow:
	case len(w.queue) >= queueMost:
		w.overflow, w.queue = true, nil
	default:
		w.queue, w.mark = append(w.queue, c), mark
	}
	w.mu.Unlock()
	select {
	case w.arrived <- struct{}{}:
	default:
	}
}

// passed notes that everything up to mark was pushed.
func (w *Watch) passed(mark talk.Mark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mark = mark
}

// Rest is the mark up to which everything was taken; false where something
// waits.
func (w *Watch) Rest() (talk.Mark, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mark, len(w.queue) == 0 && !w.overflow
}

// Take returns all changes that arrived, and the mark up to which they are
// everything; false where more arrived than a queue holds. It does not wait.
func (w *Watch) Take() ([]Change, talk.Mark, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.queue
	w.queue = nil
	return taken, w.mark, !w.overflow
}

// Wait returns once something has arrived since the last Take, or with the
// cause of ctx's end.
func (w *Watch) Wait(ctx context.Context) error {
	select {
	case <-w.arrived:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

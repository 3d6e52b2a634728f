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

// Watch hears what happens to the rooms of a filter. What waits is one change
// of each room, the newest: rooms are state, so that who is slow misses what
// was in between and no more. One goroutine takes from it.
type Watch struct {
	lobby  *Lobby
	filter Filter

	mu       sync.Mutex
	queue    []Change
	places   map[talk.RoomID]int // in the queue
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

// closedMost is how many closed rooms wait for one watch, besides one change of
// each that is open: more than one read of the tail brings.
const closedMost = tailPage + queueMost

// push has a change wait, where open is how many rooms are.
func (w *Watch) push(mark talk.Mark, c Change, open int) {
	w.mu.Lock()
	if !w.overflow {
		w.keep(c)
		w.mark = mark
	}
	if len(w.queue) > open+closedMost {
		w.overflow, w.queue, w.places = true, nil, nil
	}
	w.mu.Unlock()
	w.wake()
}

// keep puts a change in the place of the one that waits for its room. A room
// that waits as created and is closed is kept too: whoever resumed may have been
// told of it by the table.
func (w *Watch) keep(c Change) {
	place, waits := w.places[c.Room.ID]
	if !waits {
		if w.places == nil {
			w.places = map[talk.RoomID]int{}
		}
		w.places[c.Room.ID] = len(w.queue)
		w.queue = append(w.queue, c)
		return
	}
	if w.queue[place].Kind == Created && c.Kind == Updated && w.filter.Finds(c.Room) {
		c.Kind = Created
	}
	w.queue[place] = c
}

// heal has the watch begin again, whatever waits.
func (w *Watch) heal(mark talk.Mark) {
	w.mu.Lock()
	if !w.overflow {
		w.queue, w.places, w.mark = []Change{{Kind: Healed}}, nil, mark
	}
	w.mu.Unlock()
	w.wake()
}

func (w *Watch) wake() {
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

// Take returns all changes that wait, and the mark up to which they are
// everything; false where more waited than may. It does not wait.
func (w *Watch) Take() ([]Change, talk.Mark, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.queue
	w.queue, w.places = nil, nil
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

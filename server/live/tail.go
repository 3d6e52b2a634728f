package live

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// Timing of the tail.
const (
	tailEvery = time.Second           // whatever happens
	tailLeast = 20 * time.Millisecond // between two reads
	tailAsk   = 3 * time.Second       // bounds one query
	tailPage  = 1000
)

// Tail reads the table of events in its order, and tells the lobby, and all
// who follow it, of everything that was committed on any node. It is what
// keeps them whole where the bus says nothing; the bus makes it quick.
type Tail struct {
	history talk.History
	lobby   *Lobby
	log     *slog.Logger
	follow  []func(talk.Event)
	lost    []func()
	wake    chan struct{}
	mark    talk.Mark // read up to here, for good
	failing bool
}

// NewTail makes the tail that keeps lobby. [Tail.Warm] fills the lobby, and
// [Tail.Run] keeps it.
func NewTail(history talk.History, lobby *Lobby, log *slog.Logger) *Tail {
	return &Tail{history: history, lobby: lobby, log: log, wake: make(chan struct{}, 1)}
}

// Follow has event called with everything that is read, some of it more than
// once, and lost where a part of the history could not be read any more. They
// must not wait. Call it before [Tail.Run].
func (t *Tail) Follow(event func(talk.Event), lost func()) {
	t.follow, t.lost = append(t.follow, event), append(t.lost, lost)
}

// Wake says that something was committed. It does not wait.
func (t *Tail) Wake() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Warm reads all open rooms: everything that is not yet committed when it
// begins comes by the tail.
func (t *Tail) Warm(ctx context.Context) error {
	mark, err := t.history.Head(ctx)
	if err != nil {
		return err
	}
	rooms, err := t.history.OpenRooms(ctx)
	if err != nil {
		return err
	}
	t.mark = mark
	t.lobby.Reset(rooms, mark)
	return nil
}

// Run reads until ctx ends.
func (t *Tail) Run(ctx context.Context) {
	tick := time.NewTicker(tailEvery)
	defer tick.Stop()
	soon := time.NewTimer(tailEvery)
	defer soon.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-t.wake:
		case <-soon.C:
		}
		began := time.Now()
		unsettled, err := t.read(ctx)
		t.note(ctx, err)
		// Where a long transaction leaves much unsettled, all of it is read each time.
		pause := min(max(tailLeast, time.Since(began)), tailEvery)
		if unsettled {
			soon.Reset(pause)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// note says once that reading fails, and once that it works again.
func (t *Tail) note(ctx context.Context, err error) {
	if ctx.Err() != nil || t.failing == (err != nil) {
		return
	}
	t.failing = err != nil
	if err != nil {
		t.log.Warn("events not read", "error", err)
		return
	}
	t.log.Info("events read again")
}

// read reads to the end of the table. It reports whether there are rows that
// must be read again.
func (t *Tail) read(ctx context.Context) (unsettled bool, err error) {
	at := t.mark
	for {
		short, cancel := context.WithTimeout(ctx, tailAsk)
		page, err := t.history.EventsAfter(short, at, tailPage)
		if err == nil && len(page) > 0 {
			var mark talk.Mark
			mark, unsettled = t.settled(page, unsettled)
			err = t.tell(short, page, mark)
		}
		cancel()
		switch {
		case errors.Is(err, talk.ErrHistoryGone):
			return false, t.reset(ctx)
		case err != nil:
			return unsettled, err
		case len(page) < tailPage:
			return unsettled, nil
		}
		at = page[len(page)-1].Mark
	}
}

// settled is how far a page is settled, up to the first row that is not, where
// all before it was.
func (t *Tail) settled(page []talk.Logged, unsettled bool) (talk.Mark, bool) {
	mark := t.mark
	for i := range page {
		unsettled = unsettled || !page[i].Settled
		if !unsettled {
			mark = page[i].Mark
		}
	}
	return mark, unsettled
}

// tell hands a page on, settled or not: all who hear it go by seqs and
// versions. Where that worked the tail has read up to mark for good.
func (t *Tail) tell(ctx context.Context, page []talk.Logged, mark talk.Mark) error {
	var changed []talk.RoomID
	seen := map[talk.RoomID]bool{}
	for i := range page {
		e := page[i].Event
		for _, follow := range t.follow {
			follow(e)
		}
		if id, version := roomChanged(e); id != "" && !seen[id] && !t.lobby.Has(id, version) {
			seen[id] = true
			changed = append(changed, id)
		}
	}
	rooms, err := t.history.RoomsByID(ctx, changed)
	if err == nil {
		t.mark = mark
		t.lobby.Apply(rooms, &mark)
	}
	return err
}

// roomChanged is the room that an event has changed, and the version that it
// has from then on; 0 where that is not known.
func roomChanged(e talk.Event) (talk.RoomID, int64) {
	kind, id, _ := strings.Cut(string(e.Topic), ":")
	if kind != "room" {
		return "", 0
	}
	switch f := e.Fact.(type) {
	case talk.MessagePosted:
		return "", 0
	case talk.ParticipantJoined:
		return f.RoomID, f.Version
	case talk.ParticipantLeft:
		return f.RoomID, f.Version
	case talk.ParticipantUpdated:
		return f.RoomID, f.Version
	case talk.OwnerChanged:
		return f.RoomID, f.Version
	case talk.RoomCreated:
		return f.Room.ID, f.Room.Version
	case talk.RoomUpdated:
		return f.Room.ID, f.Room.Version
	case talk.RoomClosed:
		return f.RoomID, f.Version
	}
	return talk.RoomID(id), 0
}

// reset begins again: this node has slept for longer than the history lasts.
func (t *Tail) reset(ctx context.Context) error {
	t.log.Warn("events lost: everything is read anew")
	if err := t.Warm(ctx); err != nil {
		return err
	}
	for _, lost := range t.lost {
		lost()
	}
	return nil
}

package talk

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"
)

// Timing of analytics.
const (
	tallyEvery = 5 * time.Second
	tallyBatch = 500 // events at once, and rooms
	// lookMost is how rarely it is looked who sits together, where many do: what
	// is found is written for each room.
	lookMost = time.Minute
	// rollAfter is how long after its end an hour is written down: by then what
	// happened in it has been read.
	rollAfter = time.Minute
	// AnalyticsKept is how long hours are kept.
	AnalyticsKept = 396 * 24 * time.Hour // thirteen months
	// TopUses is how many rooms, and how many languages, of an hour are kept.
	TopUses = 100
)

// Use is how much a room or a language was used.
type Use struct {
	Joins    int
	Together time.Duration // that people sat there with others, over all people
}

// RoomUse is how much a room was used.
type RoomUse struct {
	Use

	ID   RoomID
	Name string // as it is now; empty while it was not looked up
}

// LanguageUse is how much the rooms of a language were used.
type LanguageUse struct {
	Use

	Language string // the first of the room's
}

// Usage is how the service was used in an hour or a day.
type Usage struct {
	Use

	Start        time.Time // UTC
	PeakOnline   int       // the most people at once, looked at every five seconds
	ActiveUsers  int       // about how many different people did something
	RoomsCreated int
	Partial      bool // some of it was lost: the figures are too low
	Rooms        []RoomUse
	Languages    []LanguageUse
}

// Tally is what happened between two marks of the history.
type Tally struct {
	From  string // the place that must still hold; empty where none is known
	To    string
	Hours map[time.Time]*HourTally
}

// HourTally is the part of a [Tally] that belongs to one hour.
type HourTally struct {
	Online       int
	RoomsCreated int
	Partial      bool
	Users        map[UserID]struct{}
	Rooms        map[RoomID]*Use
	Languages    map[string]*Use
}

// Tallies gather what happens in hours that are not written down yet. They
// count each event once, whoever adds it and however often.
type Tallies interface {
	// Place is the mark up to which events were added; "" where that is not known.
	Place(ctx context.Context) (string, error)
	// Add adds a tally where its From is the place, which then is its To.
	Add(ctx context.Context, t Tally) (bool, error)
	// Hours are the hours of which something is known.
	Hours(ctx context.Context) ([]time.Time, error)
	// Hour is what is known of one, with its most used rooms and languages.
	Hour(ctx context.Context, start time.Time) (Usage, error)
	// ActiveOn is about how many different people did something on a day.
	ActiveOn(ctx context.Context, day time.Time) (int, error)
	// Drop forgets an hour.
	Drop(ctx context.Context, start time.Time) error
}

// Chronicle keeps hours for thirteen months.
type Chronicle interface {
	// WriteHour writes an hour down, and how many were active on its day so far.
	// Writing it again raises what is higher.
	WriteHour(ctx context.Context, hour Usage, activeOnDay int) error
	// HoursBetween lists the hours that were written down, in order, without
	// rooms and languages.
	HoursBetween(ctx context.Context, from, to time.Time) ([]Usage, error)
	// ActiveByDay is how many were active on the days that were written down.
	ActiveByDay(ctx context.Context, from, to time.Time) (map[time.Time]int, error)
	// TopRooms lists the rooms in which most time was spent together.
	TopRooms(ctx context.Context, from, to time.Time, limit int) ([]RoomUse, error)
	// TopLanguages lists the languages, likewise.
	TopLanguages(ctx context.Context, from, to time.Time, limit int) ([]LanguageUse, error)
	// ForgetHours deletes hours before a time.
	ForgetHours(ctx context.Context, before time.Time) error
}

// OpenRooms are the rooms that are open, as one node knows them.
type OpenRooms interface {
	// Size is how many there are.
	Size() int
	// Find is one of them.
	Find(id RoomID) (Room, bool)
	// Shared are those that more than one person sits in, and how many do.
	Shared() map[RoomID]int
}

// Analytics gathers how the service is used. One node does, by reading the
// history that all write anyway: no call waits for it. Where another takes
// over, the place in the tallies says where to go on.
type Analytics struct {
	History   History
	Tallies   Tallies
	Chronicle Chronicle
	HistoryID string      // a place in another history is none
	Mine      func() bool // whether this node is the one
	Rooms     OpenRooms
	Online    func(ctx context.Context) int
	Clock     Clock
	Log       *slog.Logger
	Every     time.Duration // between two steps; zero means five seconds

	looked time.Time // when this node last looked who sits together
	rolled time.Time // the last hour at which old ones were forgotten
	silent bool      // it was said that it fails
}

// Run gathers until ctx ends.
func (a *Analytics) Run(ctx context.Context) {
	tick := time.NewTicker(a.every())
	defer tick.Stop()
	for {
		a.note(a.Step(ctx))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (a *Analytics) every() time.Duration {
	if a.Every <= 0 {
		return tallyEvery
	}
	return a.Every
}

// note says once that gathering fails: what is late is made up for.
func (a *Analytics) note(err error) {
	if err != nil && !a.silent {
		a.Log.Warn("analytics", "error", err)
	}
	a.silent = err != nil
}

// Step gathers what happened since the last one, and writes down the hours
// that are over.
func (a *Analytics) Step(ctx context.Context) error {
	if !a.Mine() {
		a.looked = time.Time{}
		return nil
	}
	for {
		more, err := a.gather(ctx)
		if err != nil {
			return err
		}
		if !more {
			return a.roll(ctx)
		}
	}
}

// gather adds one batch; more is true where events are left.
func (a *Analytics) gather(ctx context.Context) (more bool, err error) {
	place, err := a.Tallies.Place(ctx)
	if err != nil {
		return false, err
	}
	now := a.Clock()
	t := Tally{From: place, To: place, Hours: map[time.Time]*HourTally{}}
	mark, known := a.known(place) // where it is not known, all of the history that there is
	t.hour(now).Partial = !known
	events, err := a.History.EventsAfter(ctx, mark, tallyBatch)
	switch {
	case errors.Is(err, ErrHistoryGone):
		if mark, err = a.History.Head(ctx); err != nil {
			return false, err
		}
		t.To, t.hour(now).Partial = a.place(mark), true
	case err != nil:
		return false, err
	default:
		more = len(events) == tallyBatch && events[len(events)-1].Settled
		t.To = a.place(t.events(events, mark))
	}
	if !more {
		a.look(ctx, &t, now)
	}
	if err := a.speak(ctx, &t); err != nil {
		return false, err
	}
	for _, part := range t.parts(tallyBatch) {
		added, err := a.Tallies.Add(ctx, part)
		if err != nil || !added {
			return false, err
		}
	}
	return more, nil
}

// place is a mark of this history as a text, which known reads.
func (a *Analytics) place(m Mark) string { return m.place() + " " + a.HistoryID }

func (a *Analytics) known(place string) (m Mark, ok bool) {
	text, history, _ := strings.Cut(place, " ")
	if m, ok = parsePlace(text); !ok || history != a.HistoryID {
		return Mark{}, false
	}
	return m, true
}

// parts are tallies of so many rooms at most, so that none holds Redis up. What
// must be counted once is in the first of them, which moves the place; the
// others keep it.
func (t *Tally) parts(most int) []Tally {
	parts := []Tally{{From: t.From, To: t.To, Hours: map[time.Time]*HourTally{}}}
	for start, h := range t.Hours {
		first := *h
		first.Rooms = map[RoomID]*Use{}
		parts[0].Hours[start] = &first
		room, left := first.Rooms, most
		for id, use := range h.Rooms {
			if left == 0 {
				next := Tally{From: t.To, To: t.To}
				rest := next.hour(start)
				parts, room, left = append(parts, next), rest.Rooms, most
			}
			room[id] = use
			left--
		}
	}
	return parts
}

// hour is the part of the tally of the hour in which at lies.
func (t *Tally) hour(at time.Time) *HourTally {
	start := at.UTC().Truncate(time.Hour)
	if t.Hours == nil {
		t.Hours = map[time.Time]*HourTally{}
	}
	if t.Hours[start] == nil {
		t.Hours[start] = &HourTally{Users: map[UserID]struct{}{}, Rooms: map[RoomID]*Use{}, Languages: map[string]*Use{}}
	}
	return t.Hours[start]
}

func (h *HourTally) room(id RoomID) *Use {
	if h.Rooms[id] == nil {
		h.Rooms[id] = &Use{}
	}
	return h.Rooms[id]
}

func (h *HourTally) language(languages []string) *Use {
	main := "und"
	if len(languages) > 0 {
		main = languages[0]
	}
	if h.Languages[main] == nil {
		h.Languages[main] = &Use{}
	}
	return h.Languages[main]
}

// events adds events up to the first that is not settled, which will be found
// again, and returns up to where, or mark where it is the first.
func (t *Tally) events(events []Logged, mark Mark) Mark {
	for _, e := range events {
		if !e.Settled {
			break
		}
		mark = e.Mark
		h := t.hour(e.At)
		switch fact := e.Fact.(type) {
		case RoomCreated:
			h.RoomsCreated++
			h.Users[fact.Room.Owner.ID] = struct{}{}
		case ParticipantJoined:
			h.room(fact.RoomID).Joins++
			h.Users[fact.Participant.User.ID] = struct{}{}
		case MessagePosted:
			h.Users[fact.Sender.ID] = struct{}{}
		}
	}
	return mark
}

// look adds who is online and, at each step or where there are many rooms more
// rarely, who sits together now: for as long as since the last look, but no
// longer than two such times, since before that another node did.
func (a *Analytics) look(ctx context.Context, t *Tally, now time.Time) {
	h := t.hour(now)
	h.Online = a.Online(ctx)
	pause := min(a.every()*time.Duration(1+a.Rooms.Size()/tallyBatch), max(lookMost, a.every()))
	since := now.Sub(a.looked)
	if !a.looked.IsZero() && since >= 0 && since < pause-a.every()/2 {
		return // not yet
	}
	if since = min(since, 2*pause); a.looked.IsZero() || since < 0 {
		since = 0
	}
	a.looked = now
	if since == 0 {
		return
	}
	for id, people := range a.Rooms.Shared() {
		h.room(id).Together += time.Duration(people) * since
	}
}

// speak counts for each language what was counted for rooms, those too that
// are not open any more.
func (a *Analytics) speak(ctx context.Context, t *Tally) error {
	var closed []RoomID
	spoken := map[RoomID][]string{}
	for _, h := range t.Hours {
		for id := range h.Rooms {
			if room, open := a.Rooms.Find(id); open {
				spoken[id] = room.Languages
			} else {
				closed = append(closed, id)
			}
		}
	}
	if len(closed) > 0 {
		found, err := a.History.RoomsByID(ctx, closed)
		if err != nil {
			return err
		}
		for _, room := range found {
			spoken[room.ID] = room.Languages
		}
	}
	for _, h := range t.Hours {
		for id, use := range h.Rooms {
			of := h.language(spoken[id])
			of.Joins += use.Joins
			of.Together += use.Together
		}
	}
	return nil
}

// roll writes down the hours that are over.
func (a *Analytics) roll(ctx context.Context) error {
	now := a.Clock()
	hours, err := a.Tallies.Hours(ctx)
	if err != nil {
		return err
	}
	for _, start := range hours {
		if now.Before(start.Add(time.Hour + rollAfter)) {
			continue
		}
		if err := a.write(ctx, start); err != nil {
			return err
		}
	}
	if hour := now.Truncate(time.Hour); hour.After(a.rolled) {
		a.rolled = hour
		return a.Chronicle.ForgetHours(ctx, now.Add(-AnalyticsKept))
	}
	return nil
}

func (a *Analytics) write(ctx context.Context, start time.Time) error {
	hour, err := a.Tallies.Hour(ctx, start)
	if err != nil {
		return err
	}
	active, err := a.Tallies.ActiveOn(ctx, start)
	if err != nil {
		return err
	}
	if err := a.Chronicle.WriteHour(ctx, hour, active); err != nil {
		return err
	}
	return a.Tallies.Drop(ctx, start)
}

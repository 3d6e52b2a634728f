package live

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// tombstoneLasts is how long a closed room's version is remembered: as long as
// what happened to it may still be told.
const tombstoneLasts = 10 * time.Minute

// Lobby is an index of the open rooms: it answers lists of them from memory,
// and tells listeners what changes. It goes by the rooms' versions, so it may
// be told the same twice, and late.
type Lobby struct {
	now func() time.Time

	mu      sync.RWMutex
	rooms   map[talk.RoomID]*entry
	gone    map[talk.RoomID]tombstone
	shelves map[shelfKey]*shelf
	watches map[*Watch]struct{}
	mark    talk.Mark // everything up to here is in the index
	swept   time.Time
}

// entry is an open room, and how it is found.
type entry struct {
	room   talk.Room
	memo   talk.Memo
	tags   []string // its languages, all they begin with, and ""
	search string
}

type tombstone struct {
	version int64
	at      time.Time
}

// NewLobby makes an empty lobby. [Lobby.Reset] fills it.
func NewLobby() *Lobby {
	l := &Lobby{now: time.Now, watches: map[*Watch]struct{}{}}
	l.clear()
	return l
}

func (l *Lobby) clear() {
	l.rooms, l.gone, l.shelves = map[talk.RoomID]*entry{}, map[talk.RoomID]tombstone{}, map[shelfKey]*shelf{}
}

// Reset replaces everything by rooms, which hold all that happened up to mark.
// Listeners are told to begin again.
func (l *Lobby) Reset(rooms []talk.Room, mark talk.Mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.clear()
	for i := range rooms {
		if rooms[i].Open() {
			l.put(newEntry(rooms[i]))
		}
	}
	l.mark = mark
	for w := range l.watches {
		w.heal(l.mark)
	}
}

// Apply takes rooms as they are now, open or closed. Where mark is not nil,
// everything up to it is in the index then.
func (l *Lobby) Apply(rooms []talk.Room, mark *talk.Mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range rooms {
		l.apply(&rooms[i])
	}
	if mark != nil {
		l.mark = *mark
		for w := range l.watches {
			w.passed(l.mark)
		}
	}
	l.sweep()
}

func (l *Lobby) apply(room *talk.Room) {
	old := l.rooms[room.ID]
	if l.gone[room.ID].version >= room.Version || old != nil && old.room.Version >= room.Version {
		return
	}
	change := Change{Kind: Updated, Room: *room}
	switch {
	case !room.Open():
		change.Kind = Closed
		l.gone[room.ID] = tombstone{room.Version, l.now()}
	case old == nil:
		change.Kind = Created
	}
	if old != nil {
		l.take(old)
	}
	var fresh *entry
	if room.Open() {
		fresh = newEntry(*room)
		l.put(fresh)
	}
	for w := range l.watches {
		if old != nil && w.filter.finds(old) || fresh != nil && w.filter.finds(fresh) {
			w.push(l.mark, change, len(l.rooms))
		}
	}
}

// sweep forgets tombstones, once a minute.
func (l *Lobby) sweep() {
	now := l.now()
	if now.Sub(l.swept) < time.Minute {
		return
	}
	l.swept = now
	for id, t := range l.gone {
		if now.Sub(t.at) > tombstoneLasts {
			delete(l.gone, id)
		}
	}
}

// Has reports whether the index knows a room at that version or a later one.
func (l *Lobby) Has(id talk.RoomID, version int64) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if e := l.rooms[id]; e != nil {
		return version > 0 && e.room.Version >= version
	}
	return version > 0 && l.gone[id].version >= version
}

// Told takes what this node has committed.
func (l *Lobby) Told(told talk.Told) {
	if len(told.Rooms) > 0 {
		l.Apply(told.Rooms, nil)
	}
}

// Mark is up to where everything is in the index.
func (l *Lobby) Mark() talk.Mark {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.mark
}

// Find is one of the open rooms.
func (l *Lobby) Find(id talk.RoomID) (talk.Room, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if e := l.rooms[id]; e != nil {
		return e.room, true
	}
	return talk.Room{}, false
}

// Shared are the open rooms that more than one person sits in, and how many do.
func (l *Lobby) Shared() map[talk.RoomID]int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	shared := map[talk.RoomID]int{}
	for id, e := range l.rooms {
		if e.room.ParticipantCount >= 2 {
			shared[id] = e.room.ParticipantCount
		}
	}
	return shared
}

// Size is how many rooms are open.
func (l *Lobby) Size() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.rooms)
}

// newEntry makes the texts of a room parts of one, and its lists one: of very many
// rooms a collection of garbage has a third as much to look at then.
func newEntry(room talk.Room) *entry {
	e := &entry{room: room, search: strings.ToLower(room.Name + "\n" + room.Topic)}
	r := &e.room
	count := len(room.Languages)
	words := append(make([]string, 0, 2*count+1), room.Languages...)
	texts := []*string{
		(*string)(&r.ID), &r.Slug, &r.Name, &r.Topic,
		(*string)(&r.Owner.ID), &r.Owner.Username, &r.Owner.DisplayName, &r.Owner.AvatarURL, &e.search,
	}
	for i := range words {
		texts = append(texts, &words[i])
	}
	pack(texts)
	words = tags(words, words)
	r.Languages, e.tags = words[:count:count], words[count:]
	return e
}

// pack makes texts parts of one.
func pack(texts []*string) {
	size := 0
	for _, text := range texts {
		size += len(*text)
	}
	var b strings.Builder
	b.Grow(size)
	for _, text := range texts {
		b.WriteString(*text)
	}
	rest := b.String()
	for _, text := range texts {
		*text, rest = rest[:len(*text)], rest[len(*text):]
	}
}

// tags appends the tags under which rooms of some languages are found: "" for all,
// the languages, and all that they begin with.
func tags(to, languages []string) []string {
	first := len(to)
	to = append(to, "")
	for _, tag := range languages {
		for i := range len(tag) + 1 {
			if (i == len(tag) || tag[i] == '-') && !slices.Contains(to[first:], tag[:i]) {
				to = append(to, tag[:i])
			}
		}
	}
	return to
}

// Filter is which rooms a listener hears of. Zero fields do not filter.
type Filter struct {
	Language string // canonical; "es" also finds "es-mx"
	Level    talk.Level
}

func (f Filter) finds(e *entry) bool {
	return f.fits(e.room.Level) && slices.Contains(e.tags, f.Language)
}

func (f Filter) fits(level talk.Level) bool {
	return f.Level == 0 || level == f.Level || level == talk.LevelAny
}

// Finds reports whether a room is one that f does not hide.
func (f Filter) Finds(room talk.Room) bool {
	return room.Open() && f.fits(room.Level) && slices.Contains(tags(nil, room.Languages), f.Language)
}

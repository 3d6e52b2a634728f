package live

import (
	"strings"

	"github.com/tidwall/btree"

	"github.com/free2talk/free2talk/server/talk"
)

// shelfKey names the rooms of one language tag ("" for all) and one level.
type shelfKey struct {
	tag   string
	level talk.Level
}

// shelf holds them in both orders.
type shelf struct{ popular, newest *btree.BTreeG[*entry] }

func newShelf() *shelf {
	unlocked := btree.Options{NoLocks: true} // the lobby's lock guards them
	return &shelf{btree.NewBTreeGOptions(morePopular, unlocked), btree.NewBTreeGOptions(newer, unlocked)}
}

func newer(a, b *entry) bool { return a.room.ID > b.room.ID }

func morePopular(a, b *entry) bool {
	if a.room.ParticipantCount != b.room.ParticipantCount {
		return a.room.ParticipantCount > b.room.ParticipantCount
	}
	return newer(a, b)
}

func (l *Lobby) put(e *entry) {
	l.rooms[e.room.ID] = e
	for _, tag := range e.tags {
		key := shelfKey{tag, e.room.Level}
		if l.shelves[key] == nil {
			l.shelves[key] = newShelf()
		}
		l.shelves[key].popular.Set(e)
		l.shelves[key].newest.Set(e)
	}
}

func (l *Lobby) take(e *entry) {
	delete(l.rooms, e.room.ID)
	for _, tag := range e.tags {
		key := shelfKey{tag, e.room.Level}
		s := l.shelves[key]
		s.popular.Delete(e)
		s.newest.Delete(e)
		if s.newest.Len() == 0 {
			delete(l.shelves, key)
		}
	}
}

// levels are those that a query for one also finds.
func levels(level talk.Level) []talk.Level {
	switch level {
	case 0:
		return []talk.Level{
			talk.LevelAny, talk.LevelBeginner, talk.LevelUpperBeginner, talk.LevelIntermediate,
			talk.LevelUpperIntermediate, talk.LevelAdvanced, talk.LevelUpperAdvanced,
		}
	case talk.LevelAny:
		return []talk.Level{talk.LevelAny}
	}
	return []talk.Level{talk.LevelAny, level}
}

// List returns a page of the open rooms, as [talk.Store.Rooms] would.
func (l *Lobby) List(q talk.RoomQuery) talk.RoomPage {
	l.mu.RLock()
	defer l.mu.RUnlock()
	m := l.merge(q)
	defer m.end()
	page := talk.RoomPage{Total: m.total}
	if q.Text != "" {
		page.Total = l.count(q)
	}
	text := strings.ToLower(q.Text)
	for e := m.next(); e != nil; e = m.next() {
		if !strings.Contains(e.search, text) {
			continue
		}
		if len(page.Rooms) == max(1, q.Size) {
			last := page.Rooms[len(page.Rooms)-1]
			page.Next = &talk.RoomMark{Count: last.ParticipantCount, ID: last.ID}
			break
		}
		page.Rooms = append(page.Rooms, e.room)
		if q.After == nil && q.Text == "" {
			page.Memos = append(page.Memos, &e.memo)
		}
	}
	return page
}

// count is how many rooms on all pages hold the text.
func (l *Lobby) count(q talk.RoomQuery) (n int) {
	text := strings.ToLower(q.Text)
	for _, level := range levels(q.Level) {
		if s := l.shelves[shelfKey{q.Language, level}]; s != nil {
			s.newest.Scan(func(e *entry) bool {
				if strings.Contains(e.search, text) {
					n++
				}
				return true
			})
		}
	}
	return n
}

// merged walks over several shelves in one order.
type merged struct {
	less  func(a, b *entry) bool
	heads []*walk
	total int
}

// walk is where one shelf stands.
type walk struct {
	iter btree.IterG[*entry]
	at   *entry // nil at the end
}

func (w *walk) step(more bool) {
	if w.at = nil; more {
		w.at = w.iter.Item()
	}
}

func (l *Lobby) merge(q talk.RoomQuery) *merged {
	m := &merged{less: morePopular}
	if q.Order == talk.Newest {
		m.less = newer
	}
	for _, level := range levels(q.Level) {
		s := l.shelves[shelfKey{q.Language, level}]
		if s == nil {
			continue
		}
		tree := s.popular
		if q.Order == talk.Newest {
			tree = s.newest
		}
		m.total += tree.Len()
		w := &walk{iter: tree.Iter()}
		w.begin(q.After, m.less)
		m.heads = append(m.heads, w)
	}
	return m
}

// begin goes to the first room after a mark.
func (w *walk) begin(after *talk.RoomMark, less func(a, b *entry) bool) {
	if after == nil {
		w.step(w.iter.First())
		return
	}
	pivot := &entry{room: talk.Room{ID: after.ID, ParticipantCount: after.Count}}
	w.step(w.iter.Seek(pivot))
	if w.at != nil && !less(pivot, w.at) { // the mark itself
		w.step(w.iter.Next())
	}
}

// next is the next room in order, or nil.
func (m *merged) next() *entry {
	var first *walk
	for _, w := range m.heads {
		if w.at != nil && (first == nil || m.less(w.at, first.at)) {
			first = w
		}
	}
	if first == nil {
		return nil
	}
	e := first.at
	first.step(first.iter.Next())
	return e
}

func (m *merged) end() {
	for _, w := range m.heads {
		w.iter.Release()
	}
}

package talk

import "sync/atomic"

// Memo is room for what a shared view was made into, so that it is made once
// for all who see it: how it is spelled in each of the wire's codecs. It says
// nothing of the view. Nobody changes what is in it.
type Memo struct {
	spelt [MemoPlaces]atomic.Pointer[[]byte]
}

// MemoPlaces is how many spellings a [Memo] has room for.
const MemoPlaces = 2

// Spelt is what was kept in a place, or nil.
func (m *Memo) Spelt(place int) []byte {
	if b := m.spelt[place].Load(); b != nil {
		return *b
	}
	return nil
}

// Keep keeps a spelling in a place.
func (m *Memo) Keep(place int, b []byte) { m.spelt[place].Store(&b) }

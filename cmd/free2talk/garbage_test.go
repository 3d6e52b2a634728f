package main

import "testing"

func TestGarbageShare(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{0: 400, 24 << 20: 400, 64 << 20: 400, 128 << 20: 200, 256 << 20: 100, 1 << 30: 100} {
		if got := garbageShare(live); got != want {
			t.Errorf("%d MiB in use: %d, want %d", live>>20, got, want)
		}
	}
}

func TestMemoryIsGivenBackAtACalmMoment(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for name, c := range map[string]struct {
		now  heap
		want bool
	}{
		"much is spare":                {heap{live: 100 * mib, spare: 60 * mib}, true},
		"little is":                    {heap{live: 10 * mib, spare: 30 * mib}, false},
		"little beside what is in use": {heap{live: 100 * mib, spare: 40 * mib}, false},
	} {
		var g garbage
		for look := range calmAfter {
			got := g.giveBack(c.now)
			if want := c.want && look == calmAfter-1; got != want {
				t.Errorf("%s, look %d: %t", name, look, got)
			}
		}
		c.now.cycles++
		if g.giveBack(c.now) {
			t.Errorf("%s: just after a collection", name)
		}
	}
}

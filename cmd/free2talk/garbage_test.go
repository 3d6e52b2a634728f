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
		"little beside what is in use": {heap{live: 200 * mib, spare: 40 * mib}, false},
	} {
		var g garbage
		g.look(c.now)
		for look := range calmAfter {
			_, got := g.look(c.now)
			if want := c.want && look == calmAfter-1; got != want {
				t.Errorf("%s, look %d: %t", name, look, got)
			}
		}
		c.now.cycles++
		if _, got := g.look(c.now); got {
			t.Errorf("%s: just after a collection", name)
		}
	}
}

func TestLittleGarbageLiesWhileMoreAndMoreIsInUse(t *testing.T) {
	t.Parallel()
	var g garbage
	for i, look := range []struct {
		cycles, live uint64 // in MiB
		want         int
	}{
		{1, 3, 400}, {2, 3, 400}, {3, 8, 50}, {3, 8, 50}, {4, 20, 50}, {5, 26, 50}, {6, 28, 400}, {6, 28, 400}, {7, 28, 400}, {8, 128, 50}, {9, 129, 190},
	} {
		if got, _ := g.look(heap{cycles: look.cycles, live: look.live << 20}); got != look.want {
			t.Errorf("look %d: %d, want %d", i, got, look.want)
		}
	}
}

// As under a load of calls: each collection counts what began while it ran.
func TestWhatIsInUseNowAndThenDoesNotGrow(t *testing.T) {
	t.Parallel()
	var g garbage
	for i, look := range []struct {
		live uint64 // in MiB
		want int
	}{{106, 50}, {120, 50}, {106, 240}, {124, 200}, {104, 240}, {128, 200}, {110, 230}, {140, 50}} {
		if got, _ := g.look(heap{cycles: uint64(i) + 1, live: look.live << 20}); got != look.want {
			t.Errorf("look %d: %d, want %d", i, got, look.want)
		}
	}
}

func TestStreamsThatBeginAreSeenBeforeTheNextCollection(t *testing.T) {
	t.Parallel()
	var g garbage
	for i, look := range []struct {
		cycles, goroutines uint64
		want               int
	}{{1, 100, 400}, {2, 100, 400}, {2, 500, 400}, {2, 700, 50}, {2, 650, 50}, {3, 900, 50}, {4, 1_000, 400}, {5, 1_300, 400}} {
		if got, _ := g.look(heap{cycles: look.cycles, goroutines: look.goroutines, live: 3 << 20}); got != look.want {
			t.Errorf("look %d: %d, want %d", i, got, look.want)
		}
	}
}

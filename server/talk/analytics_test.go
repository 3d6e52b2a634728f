package talk

import (
	"fmt"
	"testing"
	"time"
)

// A tally of many rooms is cut into parts that hold nobody up; what must be
// counted once is in one of them.
func TestTalliesAreCut(t *testing.T) {
	t.Parallel()
	whole := Tally{From: "1:1", To: "1:9"}
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, start := range []time.Time{noon, noon.Add(time.Hour)} {
		h := whole.hour(start)
		h.RoomsCreated, h.Online, h.Users["ada"] = 3, 7, struct{}{}
		for i := range 25 {
			h.room(RoomID(fmt.Sprint(i))).Joins = 2
		}
		h.language([]string{"es"}).Joins = 50
	}
	parts := whole.parts(10)
	created, users, languages, joins := 0, 0, 0, map[time.Time]int{}
	for i, part := range parts {
		want := [2]string{"1:9", "1:9"}
		if i == 0 {
			want[0] = "1:1"
		}
		if got := [2]string{part.From, part.To}; got != want {
			t.Errorf("part %d moves the place from %s", i, got)
		}
		rooms := 0
		for start, h := range part.Hours {
			created, users, languages, rooms = created+h.RoomsCreated, users+len(h.Users), languages+len(h.Languages), rooms+len(h.Rooms)
			for _, use := range h.Rooms {
				joins[start] += use.Joins
			}
		}
		if rooms > 10*len(part.Hours) {
			t.Errorf("part %d has %d rooms", i, rooms)
		}
	}
	if created != 6 || users != 2 || languages != 2 || joins[noon] != 50 || joins[noon.Add(time.Hour)] != 50 || len(parts) != 5 {
		t.Errorf("%d parts: %d opened, %d people, %d languages, joins %v", len(parts), created, users, languages, joins)
	}
}

// A place is one in its own history alone: in another the same numbers are of
// something else.
func TestAPlaceIsOfOneHistory(t *testing.T) {
	t.Parallel()
	before, after := Analytics{HistoryID: "1/1"}, Analytics{HistoryID: "1/2"}
	place := before.place(Mark{Tx: 7, ID: 9})
	if mark, known := before.known(place); !known || mark != (Mark{Tx: 7, ID: 9}) {
		t.Errorf("%q is %v, known: %t", place, mark, known)
	}
	for _, other := range []string{place, "", "7:9", "7 1/2"} {
		if mark, known := after.known(other); known || mark != (Mark{}) {
			t.Errorf("%q is %v, known: %t", other, mark, known)
		}
	}
}

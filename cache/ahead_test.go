package cache

import (
	"fmt"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// What somebody is likely to open next is near before they do, and what came
// of it is counted.
func TestAhead(t *testing.T) {
	t.Parallel()
	r, w := embedded(t).openNear(t), newWorld()
	reader := w.reader(r)
	var page []talk.Room
	for i := range 8 {
		w.putRoom(roomID(i), fmt.Sprint("slug-", i), 1)
		page = append(page, talk.Room{ID: roomID(i)})
	}
	await(t, "the first rooms of the page to be near", func() bool {
		reader.Ahead(page)
		return w.near(reader, aheadRooms) == aheadRooms
	})
	equal(t, "rooms further down", r.near.has(nearKey{reader.rooms.kind, string(roomID(aheadRooms))}), false)
	loads := w.loads.Load()
	_, err := reader.Room(t.Context(), roomID(0))
	check(t, err)
	equal(t, "loads", w.loads.Load(), loads)
	equal(t, "used", r.near.used.Load(), 1)
	equal(t, "wasted", r.near.wasted.Load(), 0)
	check(t, r.Forget(t.Context(), talk.RoomKey(roomID(0)), talk.RoomKey(roomID(1)))) // one was used
	await(t, "the waste to be counted", func() bool { return r.near.wasted.Load() == 1 })
}

// near is how many of the first rooms are near.
func (*world) near(reader *Reader, rooms int) (n int) {
	for i := range rooms {
		if reader.redis.near.has(nearKey{reader.rooms.kind, string(roomID(i))}) {
			n++
		}
	}
	return n
}

// Fetching ahead holds nobody up, however much there would be to fetch.
func TestAheadNeverWaits(t *testing.T) {
	t.Parallel()
	r, w := embedded(t).openNear(t), newWorld()
	reader := w.reader(r)
	began := time.Now()
	for i := range 5_000 {
		reader.Ahead([]talk.Room{{ID: roomID(i)}})
	}
	if took := time.Since(began); took > patient {
		t.Errorf("it took %v", took)
	}
	if r.near.dropped.Load() == 0 {
		t.Error("nothing was dropped")
	}
}

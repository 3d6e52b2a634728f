package cache

import (
	"context"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

const (
	aheadRooms = 5                    // of a page, from the top
	aheadQueue = 64                   // rooms that wait; what comes then is dropped
	aheadEvery = 5 * time.Millisecond // between two rooms: the budget
)

// aheadKey marks the contexts of what nobody has asked for yet.
type aheadKey struct{}

// Ahead implements [talk.Ahead]: the first of the rooms, their owners and who
// sits there are brought near, a room each five milliseconds at most, and only
// while Redis is used and this process would keep them.
func (r *Reader) Ahead(rooms []talk.Room) {
	if r.ahead == nil || !r.redis.Hears() {
		return
	}
	for i := range rooms[:min(len(rooms), aheadRooms)] {
		id := rooms[i].ID
		if r.redis.near.has(nearKey{r.rooms.kind, string(id)}) {
			continue
		}
		select {
		case r.ahead <- id:
		default:
			r.redis.near.dropped.Add(1)
		}
	}
}

// fetchAhead works through the queue until the connection is closed.
func (r *Reader) fetchAhead() {
	ctx := context.WithValue(r.redis.ended, aheadKey{}, true)
	for {
		select {
		case <-ctx.Done():
			return
		case id := <-r.ahead:
			r.bring(ctx, id)
		}
		if sleep(ctx, aheadEvery) != nil {
			return
		}
	}
}

// bring reads a room and its people, those that are not near. What it cannot
// read is read by who asks for it.
func (r *Reader) bring(ctx context.Context, id talk.RoomID) {
	if !r.redis.Usable() || r.redis.near.has(nearKey{r.rooms.kind, string(id)}) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	view, ok, err := r.rooms.Named(ctx, string(id))
	if err != nil || !ok {
		return
	}
	people := []talk.UserID{view.Owner.ID}
	for i := range view.Participants {
		people = append(people, view.Participants[i].User.ID)
	}
	far := people[:0]
	for _, person := range people {
		if !r.redis.near.has(nearKey{r.users.kind, string(person)}) {
			far = append(far, person)
		}
	}
	if len(far) > 0 {
		_, _ = r.Users(ctx, far)
	}
}

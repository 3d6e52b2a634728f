package talk

import (
	"context"
	"errors"
)

// warmRooms is how many rooms are loaded into the caches: the first pages of
// the list, which is where people come from.
const warmRooms = 500

// Warmer reads what people are likely to ask for through the caches.
type Warmer struct {
	List   func(ctx context.Context, q RoomQuery) (RoomPage, error)
	Reader Reader
}

// Warm reads the most popular open rooms and everybody in them, and returns the
// keys of those that it came to before it was done, or failed.
func (w *Warmer) Warm(ctx context.Context) (rooms, people []Key, err error) {
	query := RoomQuery{Order: Popular, Size: 100}
	for len(rooms) < warmRooms {
		page, err := w.List(ctx, query)
		if err != nil {
			return rooms, people, err
		}
		for i := range page.Rooms {
			seated, err := w.room(ctx, page.Rooms[i].ID)
			if errors.Is(err, ErrRoomNotFound) {
				continue // it went meanwhile
			}
			if err != nil {
				return rooms, people, err
			}
			rooms, people = append(rooms, RoomKey(page.Rooms[i].ID)), append(people, seated...)
		}
		if query.After = page.Next; page.Next == nil {
			break
		}
	}
	return rooms, people, nil
}

// room reads a room and everybody in it, and returns their keys.
func (w *Warmer) room(ctx context.Context, id RoomID) ([]Key, error) {
	view, err := w.Reader.Room(ctx, id)
	if err != nil {
		return nil, err
	}
	seated := make([]UserID, 0, len(view.Participants))
	for i := range view.Participants {
		seated = append(seated, view.Participants[i].User.ID)
	}
	people, err := w.Reader.Users(ctx, seated)
	keys := make([]Key, 0, len(people))
	for i := range people {
		keys = append(keys, UserKey(people[i].ID))
	}
	return keys, err
}

// Ahead fetches what is likely to be asked for next, when there is nothing
// better to do. It never waits.
type Ahead interface {
	// Ahead hears of rooms that somebody was shown: they may open one, and look at
	// its owner and who sits there.
	Ahead(rooms []Room)
}

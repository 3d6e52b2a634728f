package cache

import (
	"context"
	"strings"

	"github.com/free2talk/free2talk/server/talk"
)

// Room returns an open or closed room with its participants, or
// ErrRoomNotFound.
func (r *Reader) Room(ctx context.Context, id talk.RoomID) (talk.RoomView, error) {
	f := r.rooms.nearby(ctx, string(id))
	switch {
	case f == nil:
	case !f.ok:
		return talk.RoomView{}, talk.ErrRoomNotFound
	case f.value.ClosedAt.IsZero():
		return f.value, nil // copied once: it is large
	default:
		return r.former(ctx, f.value)
	}
	room, ok, err := r.rooms.far(ctx, talk.RoomKey(id), string(id))
	if err != nil || !ok {
		return one(room, ok, err, talk.ErrRoomNotFound)
	}
	return r.former(ctx, room)
}

// former is room with its last owner as they are now. What is kept of a closed
// room has no more of them than their id: a change of theirs makes the rooms
// untrue that they sit in, and no other.
func (r *Reader) former(ctx context.Context, room talk.RoomView) (talk.RoomView, error) {
	if room.ClosedAt.IsZero() {
		return room, nil
	}
	owner, ok, err := r.users.Named(ctx, string(room.Owner.ID))
	if err != nil {
		return talk.RoomView{}, err
	}
	if ok {
		room.Owner = owner.Summary()
	}
	room.Memo = new(talk.Memo) // the entry's own is of somebody without a name
	return room, nil
}

// RoomBySlug returns an open or closed room with its participants, or
// ErrRoomNotFound. Where the slug leads to a room that is gone or is called
// otherwise, the way is looked up again.
func (r *Reader) RoomBySlug(ctx context.Context, slug string) (talk.RoomView, error) {
	key := talk.SlugKey(slug)
	id, ok, err := r.slugs.Get(ctx, key)
	if err != nil || !ok {
		return one(talk.RoomView{}, ok, err, talk.ErrRoomNotFound)
	}
	room, found, err := r.rooms.Named(ctx, string(id))
	switch {
	case err != nil:
		return room, err
	case found && strings.EqualFold(room.Slug, slug):
		return r.former(ctx, room)
	}
	_ = r.slugs.Invalidate(ctx, key) // where it fails, the key is not read from Redis any more
	if id, err = r.source.RoomID(ctx, slug); err != nil {
		return talk.RoomView{}, err
	}
	return r.Room(ctx, id)
}

func (r *Reader) loadRooms(ctx context.Context, keys []talk.Key) (map[talk.Key]talk.RoomView, error) {
	return loadEach(ctx, keys, talk.ErrRoomNotFound, func(ctx context.Context, id string) (talk.RoomView, error) {
		view, err := r.source.Room(ctx, talk.RoomID(id))
		view.Memo = new(talk.Memo) // the view is shared
		if !view.ClosedAt.IsZero() {
			view.Owner = talk.UserSummary{ID: view.Owner.ID} // see former
		}
		return view, err
	})
}

func (r *Reader) loadSlugs(ctx context.Context, keys []talk.Key) (map[talk.Key]talk.RoomID, error) {
	return loadEach(ctx, keys, talk.ErrRoomNotFound, r.source.RoomID)
}

// one is what a read of one thing returns.
func one[T any](value T, ok bool, err error, absent *talk.Error) (T, error) {
	var none T
	switch {
	case err != nil:
		return none, err
	case !ok:
		return none, absent
	default:
		return value, nil
	}
}

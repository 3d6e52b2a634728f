package cache

import (
	"context"
	"strings"

	"github.com/free2talk/free2talk/server/talk"
)

// Room returns an open or closed room with its participants, or
// ErrRoomNotFound.
func (r *Reader) Room(ctx context.Context, id talk.RoomID) (talk.RoomView, error) {
	if f := r.rooms.nearby(ctx, string(id)); f != nil && f.ok {
		return f.value, nil // copied once: it is large
	} else if f != nil {
		return talk.RoomView{}, talk.ErrRoomNotFound
	}
	room, ok, err := r.rooms.far(ctx, talk.RoomKey(id), string(id))
	return one(room, ok, err, talk.ErrRoomNotFound)
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
	if err != nil || found && strings.EqualFold(room.Slug, slug) {
		return room, err
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

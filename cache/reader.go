package cache

import (
	"context"

	"github.com/free2talk/free2talk/server/talk"
)

// Codecs are how the two kinds of views become bytes.
type Codecs struct {
	Room Codec[talk.RoomView]
	User Codec[talk.UserView]
}

// Reader reads rooms and people through Redis and, where Redis has them not
// or is away, from the source. It implements [talk.Reader]. Views are shared
// between callers: nobody changes what is in them.
type Reader struct {
	source    talk.Source
	redis     *Redis
	ahead     chan talk.RoomID // nil where nothing is kept near
	rooms     *Typed[talk.RoomView]
	slugs     *Typed[talk.RoomID]
	users     *Typed[talk.UserView]
	usernames *Typed[talk.UserID]
}

var (
	_ talk.Reader = (*Reader)(nil)
	_ talk.Ahead  = (*Reader)(nil)
)

// NewReader returns a Reader of source through r.
func NewReader(r *Redis, source talk.Source, codecs Codecs) *Reader {
	reader := &Reader{source: source, redis: r}
	reader.rooms = NewTyped(r, "room", codecs.Room, reader.loadRooms)
	reader.slugs = NewTyped(r, "slug", Codec[talk.RoomID](idCodec[talk.RoomID]{}), reader.loadSlugs)
	reader.users = NewTyped(r, "user", codecs.User, reader.loadUsers)
	reader.usernames = NewTyped(r, "username", Codec[talk.UserID](idCodec[talk.UserID]{}), reader.loadUsernames)
	if r.near.entries != nil {
		reader.ahead = make(chan talk.RoomID, aheadQueue)
		r.work.Go(reader.fetchAhead)
	}
	return reader
}

// idCodec keeps an id as it is spelled.
type idCodec[T ~string] struct{}

func (idCodec[T]) Encode(id T) ([]byte, error) { return []byte(id), nil }

func (idCodec[T]) Weigh(id T) int { return len(id) + 32 }

func (idCodec[T]) Decode(payload string) (T, error) {
	if payload == "" {
		return "", errMalformed
	}
	return T(payload), nil
}

// loadEach loads keys one by one, by a read that returns absent where there
// is nothing. It is for what is asked for one at a time.
func loadEach[T any](ctx context.Context, keys []talk.Key, absent *talk.Error, read func(context.Context, string) (T, error)) (map[talk.Key]T, error) {
	values := make(map[talk.Key]T, len(keys))
	for _, key := range keys {
		_, name := key.Split()
		value, err := read(ctx, name)
		switch {
		case err == nil:
			values[key] = value
		case !absent.Is(err):
			return values, err
		}
	}
	return values, nil
}

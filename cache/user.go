package cache

import (
	"context"
	"strings"

	"github.com/free2talk/free2talk/server/talk"
)

// User returns a living user and the room they sit in, or ErrUserNotFound.
func (r *Reader) User(ctx context.Context, id talk.UserID) (talk.UserView, error) {
	user, ok, err := r.users.Named(ctx, string(id))
	return one(user, ok, err, talk.ErrUserNotFound)
}

// UserByUsername returns a living user, or ErrUserNotFound. Case does not
// matter. Where the name leads to somebody who is gone or is called
// otherwise, the way is looked up again.
func (r *Reader) UserByUsername(ctx context.Context, username string) (talk.UserView, error) {
	key := talk.UsernameKey(username)
	id, ok, err := r.usernames.Get(ctx, key)
	if err != nil || !ok {
		return one(talk.UserView{}, ok, err, talk.ErrUserNotFound)
	}
	user, found, err := r.users.Named(ctx, string(id))
	if err != nil || found && strings.EqualFold(user.Username, username) {
		return user, err
	}
	_ = r.usernames.Invalidate(ctx, key) // where it fails, the key is not read from Redis any more
	if id, err = r.source.UserID(ctx, username); err != nil {
		return talk.UserView{}, err
	}
	return r.User(ctx, id)
}

// Users returns those of ids that exist, in the order of ids, each once. It
// takes one round trip, and one query for those that Redis does not have.
func (r *Reader) Users(ctx context.Context, ids []talk.UserID) ([]talk.UserView, error) {
	keys := make([]talk.Key, 0, len(ids))
	seen := make(map[talk.Key]bool, len(ids))
	for _, id := range ids {
		if key := talk.UserKey(id); !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	found, err := r.users.GetAll(ctx, keys)
	if err != nil {
		return nil, err
	}
	users := make([]talk.UserView, 0, len(found))
	for _, key := range keys {
		if user, ok := found[key]; ok {
			users = append(users, user)
		}
	}
	return users, nil
}

func (r *Reader) loadUsers(ctx context.Context, keys []talk.Key) (map[talk.Key]talk.UserView, error) {
	ids := make([]talk.UserID, len(keys))
	for i, key := range keys {
		_, name := key.Split()
		ids[i] = talk.UserID(name)
	}
	users, err := r.source.Users(ctx, ids)
	if err != nil {
		return nil, err
	}
	values := make(map[talk.Key]talk.UserView, len(users))
	for _, user := range users {
		values[talk.UserKey(user.ID)] = user
	}
	return values, nil
}

func (r *Reader) loadUsernames(ctx context.Context, keys []talk.Key) (map[talk.Key]talk.UserID, error) {
	return loadEach(ctx, keys, talk.ErrUserNotFound, r.source.UserID)
}

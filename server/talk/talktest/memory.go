package talktest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// Memory is a [talk.Store] in memory. It passes the suite that the databases
// pass, so what is tested on it holds on them.
type Memory struct {
	clock talk.Clock
	turn  chan struct{} // holds one: whoever took it is alone
	world world
}

var _ talk.Store = (*Memory)(nil)

// NewMemory makes an empty store. A nil clock means the machine's.
func NewMemory(clock talk.Clock) *Memory {
	if clock == nil {
		clock = func() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }
	}
	m := &Memory{clock: clock, turn: make(chan struct{}, 1), world: newWorld()}
	m.turn <- struct{}{}
	return m
}

// alone runs do with the world to itself, or gives up with ctx.
func (m *Memory) alone(ctx context.Context, do func(*world) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-m.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { m.turn <- struct{}{} }()
	return do(&m.world)
}

// Change is [talk.Store.Change] on a copy, which becomes the world where
// nothing speaks against it.
func (m *Memory) Change(ctx context.Context, scope talk.Scope, decide func(*talk.State) error) (talk.Told, error) {
	var told talk.Told
	err := m.alone(ctx, func(w *world) error {
		state := w.state(scope, m.clock())
		if err := decide(state); err != nil {
			return err
		}
		writes := state.Writes()
		next := w.clone()
		if err := next.apply(writes); err != nil {
			return err
		}
		if err := errors.Join(next.check(), next.once(writes)); err != nil {
			return err
		}
		told = next.record(writes)
		*w = next
		return nil
	})
	return told, err
}

// Now is the clock's.
func (m *Memory) Now(ctx context.Context) (time.Time, error) { return m.clock(), ctx.Err() }

// Room is [talk.Source.Room].
func (m *Memory) Room(ctx context.Context, id talk.RoomID) (view talk.RoomView, err error) {
	err = m.alone(ctx, func(w *world) error {
		if _, ok := w.rooms[id]; !ok {
			return talk.ErrRoomNotFound
		}
		view = w.view(id)
		return nil
	})
	return view, err
}

// RoomID is [talk.Source.RoomID].
func (m *Memory) RoomID(ctx context.Context, slug string) (id talk.RoomID, err error) {
	err = m.alone(ctx, func(w *world) error {
		for _, r := range w.rooms {
			if r.Slug == slug {
				id = r.ID
				return nil
			}
		}
		return talk.ErrRoomNotFound
	})
	return id, err
}

// Users is [talk.Source.Users].
func (m *Memory) Users(ctx context.Context, ids []talk.UserID) (views []talk.UserView, err error) {
	err = m.alone(ctx, func(w *world) error {
		seen := map[talk.UserID]bool{}
		for _, id := range ids {
			a, ok := w.users[id]
			if ok && a.DeletedAt.IsZero() && !seen[id] {
				seen[id] = true
				views = append(views, talk.UserView{User: copied(a).User, RoomID: w.seats[id].RoomID})
			}
		}
		return nil
	})
	return views, err
}

// UserID is [talk.Source.UserID].
func (m *Memory) UserID(ctx context.Context, username string) (talk.UserID, error) {
	a, err := m.Credentials(ctx, talk.Login{Username: username})
	return a.ID, err
}

// Account is [talk.Store.Account].
func (m *Memory) Account(ctx context.Context, id talk.UserID) (view talk.AccountView, err error) {
	err = m.alone(ctx, func(w *world) error {
		a, ok := w.users[id]
		if !ok || !a.DeletedAt.IsZero() {
			return talk.ErrUserNotFound
		}
		view = talk.AccountView{Account: copied(a), CurrentRoomID: w.seats[id].RoomID, OwnedRoomID: w.owns(id)}
		return nil
	})
	return view, err
}

// Credentials is [talk.Store.Credentials].
func (m *Memory) Credentials(ctx context.Context, login talk.Login) (account talk.Account, err error) {
	err = m.alone(ctx, func(w *world) error {
		for _, a := range w.users {
			byEmail := login.Email != "" && talk.Fold(a.Email) == talk.Fold(login.Email)
			byName := login.Email == "" && login.Username != "" && talk.Fold(a.Username) == talk.Fold(login.Username)
			if byEmail || byName {
				account = copied(a)
				return nil
			}
		}
		return talk.ErrUserNotFound
	})
	return account, err
}

// Rooms is [talk.Store.Rooms].
func (m *Memory) Rooms(ctx context.Context, q talk.RoomQuery) (page talk.RoomPage, err error) {
	q.Size = max(1, q.Size)
	err = m.alone(ctx, func(w *world) error {
		var all []talk.Room
		for id := range w.rooms {
			if room := w.view(id).Room; matches(room, q) {
				all = append(all, room)
			}
		}
		page.Total = len(all)
		slices.SortFunc(all, func(a, b talk.Room) int { return ranked(q.Order, a, markOf(b)) })
		for _, room := range all {
			if q.After != nil && ranked(q.Order, room, *q.After) <= 0 {
				continue
			}
			if len(page.Rooms) == q.Size {
				page.Next = new(markOf(page.Rooms[q.Size-1]))
				break
			}
			page.Rooms = append(page.Rooms, room)
		}
		return nil
	})
	return page, err
}

func markOf(r talk.Room) talk.RoomMark { return talk.RoomMark{Count: r.ParticipantCount, ID: r.ID} }

// ranked says whether a comes before (negative) or after mark in a list.
func ranked(order talk.Order, a talk.Room, mark talk.RoomMark) int {
	if order == talk.Popular && a.ParticipantCount != mark.Count {
		return cmp.Compare(mark.Count, a.ParticipantCount)
	}
	return strings.Compare(string(mark.ID), string(a.ID))
}

func matches(r talk.Room, q talk.RoomQuery) bool {
	spoken := q.Language == "" || slices.ContainsFunc(r.Languages, func(tag string) bool {
		return strings.HasPrefix(tag+"-", strings.ToLower(q.Language)+"-")
	})
	fits := q.Level == 0 || r.Level == q.Level || r.Level == talk.LevelAny
	said := strings.Contains(strings.ToLower(r.Name+"\n"+r.Topic), strings.ToLower(q.Text))
	return r.Open() && spoken && fits && said
}

// RoomBans is [talk.Store.RoomBans].
func (m *Memory) RoomBans(ctx context.Context, id talk.RoomID, now time.Time) (bans []talk.RoomBan, err error) {
	err = m.alone(ctx, func(w *world) error {
		bans = w.living(id, now)
		return nil
	})
	return bans, err
}

// Unpublished is [talk.Store.Unpublished].
func (m *Memory) Unpublished(ctx context.Context, after int64, before time.Time, limit int) (rows []talk.Outgoing, err error) {
	err = m.alone(ctx, func(w *world) error {
		for _, e := range w.events {
			if !e.published && e.ID > after && e.Event.At.Before(before) && len(rows) < limit {
				rows = append(rows, e.Outgoing)
			}
		}
		return nil
	})
	return rows, err
}

// Published is [talk.Store.Published].
func (m *Memory) Published(ctx context.Context, ids []int64) error {
	return m.alone(ctx, func(w *world) error {
		for i := range w.events {
			if slices.Contains(ids, w.events[i].ID) {
				w.events[i].published = true
			}
		}
		return nil
	})
}

// ForgetEvents is [talk.Store.ForgetEvents].
func (m *Memory) ForgetEvents(ctx context.Context, before time.Time) (forgotten int, err error) {
	err = m.alone(ctx, func(w *world) error {
		was := len(w.events)
		w.events = slices.DeleteFunc(w.events, func(e outgoing) bool { return e.published && e.Event.At.Before(before) })
		forgotten = was - len(w.events)
		return nil
	})
	return forgotten, err
}

// Keys is [talk.Store.Keys].
func (m *Memory) Keys(ctx context.Context) (keys []talk.StoredKey, err error) {
	err = m.alone(ctx, func(w *world) error {
		keys = slices.Clone(w.keys)
		slices.SortFunc(keys, func(a, b talk.StoredKey) int {
			return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
		})
		return nil
	})
	return keys, err
}

// AddKeys is [talk.Store.AddKeys].
func (m *Memory) AddKeys(ctx context.Context, first bool, keys ...talk.StoredKey) error {
	return m.alone(ctx, func(w *world) error {
		there := slices.Clone(w.keys)
		for _, k := range keys {
			same := func(o talk.StoredKey) bool { return o.Purpose == k.Purpose }
			if first && slices.ContainsFunc(there, same) {
				continue
			}
			if slices.ContainsFunc(w.keys, func(o talk.StoredKey) bool { return o.ID == k.ID }) {
				w.keys = there
				return broken("keys_pkey")
			}
			w.keys = append(w.keys, k)
		}
		return nil
	})
}

// DropKeys is [talk.Store.DropKeys].
func (m *Memory) DropKeys(ctx context.Context, ids ...string) error {
	return m.alone(ctx, func(w *world) error {
		w.keys = slices.DeleteFunc(w.keys, func(k talk.StoredKey) bool { return slices.Contains(ids, k.ID) })
		return nil
	})
}

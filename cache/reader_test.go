package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// world is a database of rooms and people.
type world struct {
	mu    sync.RWMutex
	rooms map[talk.RoomID]talk.RoomView
	users map[talk.UserID]talk.UserView
	loads atomic.Int64
}

func newWorld() *world {
	return &world{rooms: map[talk.RoomID]talk.RoomView{}, users: map[talk.UserID]talk.UserView{}}
}

func (w *world) Room(_ context.Context, id talk.RoomID) (talk.RoomView, error) {
	w.loads.Add(1)
	w.mu.RLock()
	defer w.mu.RUnlock()
	if room, ok := w.rooms[id]; ok {
		return room, nil
	}
	return talk.RoomView{}, talk.ErrRoomNotFound
}

func (w *world) RoomID(_ context.Context, slug string) (talk.RoomID, error) {
	w.loads.Add(1)
	w.mu.RLock()
	defer w.mu.RUnlock()
	for id, room := range w.rooms {
		if room.Slug == slug {
			return id, nil
		}
	}
	return "", talk.ErrRoomNotFound
}

func (w *world) Users(_ context.Context, ids []talk.UserID) (users []talk.UserView, err error) {
	w.loads.Add(1)
	w.mu.RLock()
	defer w.mu.RUnlock()
	for _, id := range ids {
		if user, ok := w.users[id]; ok {
			users = append(users, user)
		}
	}
	return users, nil
}

func (w *world) UserID(_ context.Context, name string) (talk.UserID, error) {
	w.loads.Add(1)
	w.mu.RLock()
	defer w.mu.RUnlock()
	for id, user := range w.users {
		if talk.Fold(user.Username) == talk.Fold(name) {
			return id, nil
		}
	}
	return "", talk.ErrUserNotFound
}

func (w *world) putRoom(id talk.RoomID, slug string, version int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	room := talk.RoomView{Room: talk.Room{ID: id, Slug: slug, Version: version}}
	for i := range version % 5 {
		room.Participants = append(room.Participants, talk.Participant{User: talk.UserSummary{ID: talk.UserID(fmt.Sprint(i))}})
	}
	room.ParticipantCount = len(room.Participants)
	w.rooms[id] = room
}

func (w *world) putUser(id talk.UserID, name string, room talk.RoomID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.users[id] = talk.UserView{User: talk.User{ID: id, Username: name}, RoomID: room}
}

func (w *world) reader(r *Redis) *Reader {
	reader := NewReader(r, w, Codecs{jsonCodec[talk.RoomView]{}, jsonCodec[talk.UserView]{}})
	for _, proof := range []*proof{&reader.rooms.proof, &reader.slugs.proof, &reader.users.proof, &reader.usernames.proof} {
		proof.each = 0 // loads are counted
	}
	return reader
}

func TestReader(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, where corner) {
		for name, test := range map[string]func(*testing.T, *Redis){
			"rooms by id and by slug":                         readRooms,
			"people by id and by name":                        readPeople,
			"a way that leads elsewhere is looked up again":   waysLeadElsewhere,
			"what is created is found, whoever looked before": created,
			"a closed room shows its last owner as they are":  formerOwners,
		} {
			t.Run(name, func(t *testing.T) {
				where := where
				where.prefix += strings.ReplaceAll(name, " ", "_") + ":"
				test(t, where.open(t))
			})
		}
	})
}

// A change of somebody makes the room untrue that they sit in, and nobody sits
// in a closed one.
func formerOwners(t *testing.T, r *Redis) {
	w := newWorld()
	w.putRoom("r1", "tea", 5)
	w.putUser("u1", "ada", "")
	reader := w.reader(r)
	shows := func(want talk.UserSummary) {
		t.Helper()
		check(t, reader.users.Invalidate(t.Context(), talk.UserKey("u1")))
		w.mu.Lock()
		room := w.rooms["r1"]
		room.Owner, room.ClosedAt = want, time.Unix(1, 0).UTC() // as a join has them
		w.rooms["r1"] = room
		w.mu.Unlock()
		for range 3 {
			byID, err := reader.Room(t.Context(), "r1")
			check(t, err)
			equal(t, "by id", byID.Owner, want)
			bySlug, err := reader.RoomBySlug(t.Context(), "tea")
			check(t, err)
			equal(t, "by slug", bySlug.Owner, want)
		}
	}
	shows(talk.UserSummary{ID: "u1", Username: "ada"})
	w.putUser("u1", "eve", "")
	shows(talk.UserSummary{ID: "u1", Username: "eve"})
	w.mu.Lock()
	delete(w.users, "u1")
	w.mu.Unlock()
	shows(talk.UserSummary{ID: "u1"})
}

func readRooms(t *testing.T, r *Redis) {
	w := newWorld()
	w.putRoom("r1", "tea", 3)
	reader := w.reader(r)
	for range 3 {
		for _, read := range []func() (talk.RoomView, error){
			func() (talk.RoomView, error) { return reader.Room(t.Context(), "r1") },
			func() (talk.RoomView, error) { return reader.RoomBySlug(t.Context(), "tea") },
		} {
			room, err := read()
			check(t, err)
			equal(t, "version", room.Version, 3)
			equal(t, "participants", len(room.Participants), 3)
		}
		_, err := reader.Room(t.Context(), "none")
		equal(t, "none", errors.Is(err, talk.ErrRoomNotFound), true)
		_, err = reader.RoomBySlug(t.Context(), "none")
		equal(t, "none", errors.Is(err, talk.ErrRoomNotFound), true)
	}
	equal(t, "loads", w.loads.Load(), 4)
}

func readPeople(t *testing.T, r *Redis) {
	w := newWorld()
	w.putUser("u1", "Ada", "r1")
	w.putUser("u2", "Bob", "")
	reader := w.reader(r)
	for range 3 {
		users, err := reader.Users(t.Context(), []talk.UserID{"u2", "gone", "u1", "u2"})
		check(t, err)
		names := []string{}
		for _, u := range users {
			names = append(names, u.Username)
		}
		equal(t, "users", strings.Join(names, " "), "Bob Ada")
		for _, name := range []string{"ada", "ADA"} {
			user, err := reader.UserByUsername(t.Context(), name)
			check(t, err)
			equal(t, "user", user.ID, "u1")
			equal(t, "room", user.RoomID, "r1")
		}
		_, err = reader.User(t.Context(), "gone")
		equal(t, "gone", errors.Is(err, talk.ErrUserNotFound), true)
		_, err = reader.UserByUsername(t.Context(), "nobody")
		equal(t, "nobody", errors.Is(err, talk.ErrUserNotFound), true)
	}
	equal(t, "loads", w.loads.Load(), 3)
	none, err := reader.Users(t.Context(), nil)
	check(t, err)
	equal(t, "none", len(none), 0)
}

func waysLeadElsewhere(t *testing.T, r *Redis) {
	w := newWorld()
	w.putRoom("r1", "tea", 1)
	w.putRoom("r2", "coffee", 2)
	w.putUser("u1", "ada", "")
	w.putUser("u2", "bob", "")
	reader := w.reader(r)
	for key, wrong := range map[talk.Key]string{
		talk.SlugKey("tea"): "r2", talk.SlugKey("coffee"): "gone",
		talk.UsernameKey("ada"): "u2", talk.UsernameKey("bob"): "gone",
	} {
		kind := byte('b')
		if strings.HasPrefix(string(key), "username") {
			kind = 'd'
		}
		check(t, raw(r).Set(t.Context(), r.keys.entry(key), filled(newLease(r.history), kind, []byte(wrong)), time.Hour).Err())
	}
	for slug, id := range map[string]talk.RoomID{"tea": "r1", "coffee": "r2"} {
		room, err := reader.RoomBySlug(t.Context(), slug)
		check(t, err)
		equal(t, slug, room.ID, id)
	}
	for name, id := range map[string]talk.UserID{"ada": "u1", "bob": "u2"} {
		user, err := reader.UserByUsername(t.Context(), name)
		check(t, err)
		equal(t, name, user.ID, id)
	}
}

// Defect 15: absence is cached, and ended by creation.
func created(t *testing.T, r *Redis) {
	w := newWorld()
	reader := w.reader(r)
	for range 2 {
		_, err := reader.RoomBySlug(t.Context(), "tea")
		equal(t, "before", errors.Is(err, talk.ErrRoomNotFound), true)
		_, err = reader.Room(t.Context(), "r1")
		equal(t, "before", errors.Is(err, talk.ErrRoomNotFound), true)
		_, err = reader.UserByUsername(t.Context(), "ada")
		equal(t, "before", errors.Is(err, talk.ErrUserNotFound), true)
	}
	equal(t, "loads", w.loads.Load(), 3)
	w.putRoom("r1", "tea", 1)
	w.putUser("u1", "Ada", "r1")
	check(t, r.Forget(t.Context(), talk.SlugKey("tea"), talk.RoomKey("r1"), talk.UserKey("u1"), talk.UsernameKey("Ada")))
	room, err := reader.RoomBySlug(t.Context(), "tea")
	check(t, err)
	equal(t, "after", room.ID, "r1")
	user, err := reader.UserByUsername(t.Context(), "ada")
	check(t, err)
	equal(t, "after", user.RoomID, "r1")
}

// Resolution 5: no read that began after a write was acknowledged sees
// anything older, whichever node reads. FREE2TALK_TEST_LONG makes it a minute.
func TestNoReadIsOlderThanAWrite(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, where corner) {
		w := newWorld()
		nodes := []*Redis{where.open(t), where.open(t)}
		h := &history{world: w, acknowledged: make([]atomic.Int64, 4)}
		ctx, cancel := context.WithTimeout(t.Context(), spell(1500*time.Millisecond))
		defer cancel()
		var all sync.WaitGroup
		for room := range h.acknowledged {
			w.putRoom(roomID(room), "", 0)
			all.Go(func() { h.write(ctx, t, nodes, room) })
		}
		for i := range 8 {
			reader := w.reader(nodes[i%2])
			all.Go(func() { h.read(ctx, t, reader) })
		}
		all.Wait()
		t.Logf("%d reads, %d writes, %d loads", h.reads.Load(), h.writes.Load(), w.loads.Load())
	})
}

type history struct {
	world         *world
	acknowledged  []atomic.Int64
	reads, writes atomic.Int64
}

func roomID(i int) talk.RoomID { return talk.RoomID(fmt.Sprint("r", i)) }

func (h *history) write(ctx context.Context, t *testing.T, nodes []*Redis, room int) {
	for version := int64(1); ctx.Err() == nil; version++ {
		h.world.putRoom(roomID(room), "", version)
		if err := nodes[rand.IntN(len(nodes))].Forget(ctx, talk.RoomKey(roomID(room))); err != nil {
			t.Errorf("forget: %v", err)
			return
		}
		h.acknowledged[room].Store(version)
		h.writes.Add(1)
		pass(t, time.Duration(rand.IntN(3))*time.Millisecond)
	}
}

func (h *history) read(ctx context.Context, t *testing.T, reader *Reader) {
	for ctx.Err() == nil {
		room := rand.IntN(len(h.acknowledged))
		least := h.acknowledged[room].Load()
		view, err := reader.Room(context.WithoutCancel(ctx), roomID(room))
		if err != nil || view.Version < least || len(view.Participants) != int(view.Version%5) {
			t.Errorf("read version %d (%d seated, %v) after %d was acknowledged", view.Version, len(view.Participants), err, least)
			return
		}
		h.reads.Add(1)
	}
}

// Defect 8: no command whose cost grows with the number of keys is on a
// request's path.
func TestCommandsOfRequests(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	r := where.open(t)
	await(t, "the subscription to stand", r.Hears) // which is no request's
	check(t, raw(r).ConfigResetStat(t.Context()).Err())
	w := newWorld()
	w.putRoom("r1", "tea", 1)
	w.putUser("u1", "ada", "")
	everyRequest(t, r, w.reader(r))
	stats, err := raw(r).Info(t.Context(), "commandstats").Result()
	check(t, err)
	allowed := []string{
		"set", "get", "mget", "unlink", "publish", "evalsha", "eval", "time", "zadd", "zrem", "zcard", "zscore", "zrange", "zrangebyscore",
		"zremrangebyscore", "pexpire", "hset", "hget", "hmget", "getrange",
		"zrevrange",                                                             // of one entry, by what looks for resets of limits beside the requests
		"info", "hello", "ping", "client|setinfo", "config|resetstat", "select", // of the connection
	}
	for line := range strings.Lines(stats) {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if strings.HasPrefix(line, "cmdstat_") && !slices.Contains(allowed, name) {
			t.Errorf("a request runs %s", name)
		}
	}
}

func everyRequest(t *testing.T, r *Redis, reader *Reader) {
	ctx := t.Context()
	for range 3 {
		_, _ = reader.RoomBySlug(ctx, "tea")
		_, _ = reader.Room(ctx, "none")
		_, _ = reader.UserByUsername(ctx, "ada")
		_, _ = reader.Users(ctx, []talk.UserID{"u1", "u2"})
		_, err := reader.rooms.Exists(ctx, talk.RoomKey("r1"))
		check(t, err)
		check(t, r.Forget(ctx, talk.RoomKey("r1"), talk.SlugKey("tea")))
		s := NewSessions(r)
		check(t, s.Touch(ctx, []talk.SessionUse{{ID: "s1", At: time.Now()}}))
		_, err = s.Used(ctx, []talk.SessionID{"s1"})
		check(t, err)
		l := NewLimiter(r, nil)
		take(t, l, limitOf(1, time.Hour), "k", 1)
		tries(t, []*Limiter{l}, failuresOf(2, time.Hour), 1, true, 0)
		tries(t, []*Limiter{l}, failuresOf(2, time.Minute), 1, false, 0)
	}
}

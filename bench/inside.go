package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/cache"
	"github.com/free2talk/free2talk/server"
	"github.com/free2talk/free2talk/server/talk"
)

// inside measures goals G14 and G17 in this process: what the limiter and the
// caches cost whoever calls them, without a server around them, but as one has it:
// on one processor.
func (r *run) inside() error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	client, err := r.redisClient()
	if err != nil {
		return err
	}
	defer client.Close()
	near, err := r.watched("inside-near:", cache.DefaultNear)
	if err != nil {
		return err
	}
	defer near.end()
	far, err := r.watched("inside-far:", -1)
	if err != nil {
		return err
	}
	defer far.end()
	for _, measure := range []func() error{
		func() error { return r.nearHit(near.redis) },
		func() error { return r.redisHits(far.redis, client) },
		func() error { return r.limits(far.redis) },
	} {
		if err := measure(); err != nil {
			return err
		}
	}
	return nil
}

// watchedRedis is a node's Redis that is in use.
type watchedRedis struct {
	redis *cache.Redis
	stop  context.CancelFunc
	ran   chan error
}

func (r *run) watched(prefix string, near int64) (*watchedRedis, error) {
	redis, err := cache.Open(cache.Config{URL: r.redis.URL(), Prefix: prefix, Near: near, Timeout: time.Second, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(r.ctx)
	w := &watchedRedis{redis: redis, stop: stop, ran: make(chan error, 1)}
	go func() { w.ran <- redis.Run(ctx) }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	late := time.After(10 * time.Second)
	for !redis.Usable() || !redis.Hears() {
		select {
		case <-late:
			return nil, errors.Join(errors.New("redis is not used"), w.end())
		case <-tick.C:
		}
	}
	return w, nil
}

func (w *watchedRedis) end() error {
	w.stop()
	return errors.Join(<-w.ran, w.redis.Close())
}

// shelf is a source of rooms of some 600 bytes, and of people.
type shelf struct{}

func (shelf) Room(_ context.Context, id talk.RoomID) (talk.RoomView, error) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	who := talk.UserSummary{ID: "01a20543-74d4-7ee7-b190-4e547e354f38", Username: "person-0", DisplayName: "Person 0"}
	view := talk.RoomView{Room: talk.Room{
		ID: id, Slug: "room-0-aaaaaaaa", Name: "A room to talk in", Topic: "What one would do with a year off", Languages: []string{"es-mx", "en"},
		Level: talk.LevelBeginner, Capacity: roomSeats, ParticipantCount: seatedPeople, Owner: who, Version: 4, CreatedAt: at, UpdatedAt: at,
	}}
	for range seatedPeople {
		view.Participants = append(view.Participants, talk.Participant{User: who, State: talk.Connected, StateSince: at, JoinedAt: at})
	}
	return view, nil
}

func (shelf) RoomID(context.Context, string) (talk.RoomID, error) { return "", talk.ErrRoomNotFound }
func (shelf) UserID(context.Context, string) (talk.UserID, error) { return "", talk.ErrUserNotFound }

func (shelf) Users(_ context.Context, ids []talk.UserID) ([]talk.UserView, error) {
	views := make([]talk.UserView, 0, len(ids))
	for _, id := range ids {
		views = append(views, talk.UserView{User: talk.User{
			ID: id, Username: "person-0", Role: talk.RoleUser, Profile: talk.Profile{DisplayName: "Person 0", Bio: strings.Repeat("I like tea. ", 10)},
		}})
	}
	return views, nil
}

func readerOf(redis *cache.Redis) *cache.Reader {
	return cache.NewReader(redis, shelf{}, cache.Codecs{Room: server.RoomCodec, User: server.UserCodec})
}

// cost is what a call took of this process, in median over the rounds: CPU, in
// nanoseconds, and how many allocations.
type cost struct{ cpu, mallocs float64 }

// each measures calls, round after round, the variants in turn.
func (r *run) each(calls int, variants ...func(n int) error) ([]cost, error) {
	rounds := make([][]float64, len(variants))
	mallocs := make([]float64, len(variants))
	for range r.rounds {
		for v, call := range variants {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			begun, err := ownCPU()
			if err != nil {
				return nil, err
			}
			if err := call(calls); err != nil {
				return nil, err
			}
			ended, err := ownCPU()
			if err != nil {
				return nil, err
			}
			runtime.ReadMemStats(&after)
			rounds[v] = append(rounds[v], float64(ended-begun)/float64(calls))
			mallocs[v] = float64(after.Mallocs-before.Mallocs) / float64(calls)
		}
	}
	costs := make([]cost, len(variants))
	for v := range variants {
		costs[v] = cost{median(rounds[v]), mallocs[v]}
	}
	return costs, nil
}

// calling makes a variant of one call.
func calling(call func(i int) error) func(n int) error {
	return func(n int) error {
		for i := range n {
			if err := call(i); err != nil {
				return err
			}
		}
		return nil
	}
}

func (r *run) nearHit(redis *cache.Redis) error {
	reader, id := readerOf(redis), talk.RoomID(talk.NewID())
	read := func(int) error { _, err := reader.Room(r.ctx, id); return err }
	costs, err := r.each(2_000_000, calling(read))
	if err != nil {
		return err
	}
	r.table.rows = append(r.table.rows,
		row{"G17 a hit near, inside the process, ns", "≤ 150", costs[0].cpu, "a room with its people; one caller"},
		row{"G17 the same: allocations", "≤ 0.01 (none)", costs[0].mallocs, ""})
	return nil
}

// redisHits compares what Redis has with bare commands for as many bytes.
func (r *run) redisHits(store *cache.Redis, client *redis.Client) error {
	reader, id := readerOf(store), talk.RoomID(talk.NewID())
	people := make([]talk.UserID, 16)
	names := make([]string, len(people))
	for i := range people {
		people[i] = talk.UserID(talk.NewID())
		names[i] = "inside-far:user:{" + string(people[i]) + "}"
	}
	_, e1 := reader.Room(r.ctx, id)
	_, e2 := reader.Users(r.ctx, people)
	if err := errors.Join(e1, e2); err != nil {
		return err
	}
	room := "inside-far:room:{" + string(id) + "}"
	costs, err := r.each(16_000,
		calling(func(int) error { _, err := reader.Room(r.ctx, id); return err }),
		calling(func(int) error { return client.Get(r.ctx, room).Err() }),
		calling(func(int) error { _, err := reader.Users(r.ctx, people); return err }),
		calling(func(i int) error { return client.Get(r.ctx, names[i%len(names)]).Err() }),
	)
	if err != nil {
		return err
	}
	one, bare, many, each := costs[0].cpu, costs[1].cpu, costs[2].cpu/float64(len(people)), costs[3].cpu
	r.table.rows = append(r.table.rows,
		row{"G17 a room from Redis, decoded ÷ a bare GET of it", "≤ 1.25", one / bare, fmt.Sprintf("%.1f µs, bare %.1f", one/1000, bare/1000)},
		row{"G17 16 people at once ÷ 16 bare GETs, CPU a key", "≤ 0.2", many / each, fmt.Sprintf("%.1f µs a key, decoded; bare %.1f", many/1000, each/1000)})
	return nil
}

// eachCalls is how often somebody calls, of a hundred times that they may.
const eachCalls = 50

// callers makes a variant of calls of many at once.
func (r *run) callers(limiter *cache.Limiter, limit talk.Limit) func(n int) error {
	var people atomic.Int64
	return func(n int) error {
		var all sync.WaitGroup
		faults := make([]error, connections)
		for c := range connections {
			all.Go(func() {
				who := ""
				for i := range n / connections {
					if i%eachCalls == 0 {
						who = fmt.Sprint("crowd-", people.Add(1))
					}
					_, err := limiter.Take(r.ctx, limit, who, 1)
					faults[c] = errors.Join(faults[c], err)
				}
			})
		}
		all.Wait()
		return errors.Join(faults...)
	}
}

// limits measures decisions of 64 callers at once, and of one who is refused.
func (r *run) limits(store *cache.Redis) error {
	limiter := cache.NewLimiter(store, nil)
	limit := talk.Limit{Policy: "api", Places: 100, Window: 15 * time.Minute}
	costs, err := r.each(20_000, r.callers(limiter, limit))
	if err != nil {
		return err
	}
	r.table.rows = append(r.table.rows, row{"G14 a decision of the limiter, 64 callers who share trips, µs of CPU in the server", "≤ 5", costs[0].cpu / 1000, ""})
	over := int64(0)
	for round := range 10 {
		var given atomic.Int64
		var all sync.WaitGroup
		for range connections {
			all.Go(func() {
				for range 10 {
					if v, err := limiter.Take(r.ctx, limit, fmt.Sprint("full-", round), 1); err == nil && v.Allowed {
						given.Add(1)
					}
				}
			})
		}
		all.Wait()
		over = max(over, given.Load()-int64(limit.Places))
	}
	refused, err := r.each(1_000_000, calling(func(int) error { _, err := limiter.Take(r.ctx, limit, "full-0", 1); return err }))
	if err != nil {
		return err
	}
	r.table.rows = append(r.table.rows,
		row{"G14 a refusal that is remembered, µs", "≤ 0.5", refused[0].cpu / 1000, ""},
		row{"G14 over the limit of 100, by 640 calls of 64 callers, in ten windows", "≤ 0 (never)", float64(over), ""})
	return nil
}

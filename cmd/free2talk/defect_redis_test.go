package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
)

// post is a room whose topic is written and read, through whatever happens to Redis.
type post struct {
	*world
	ctx    context.Context
	owner  *player
	reader *player
	room   string
	redis  *testenv.Server
}

// persistent keeps what Redis was told, so that it comes back with old values.
var persistent = []string{"--appendonly", "yes", "--appendfsync", "always"}

func newPost(t *testing.T, limits ...func(*Settings)) *post {
	t.Helper()
	server := testenv.StartRedis(t, persistent...)
	w := newWorld(t, onOwnRedis(server), 2, limits...)
	w.redisUsed()
	p := &post{world: w, ctx: patient(t), owner: w.player(), reader: w.player(), redis: server}
	p.room = w.room(p.owner.person, 4).GetId()
	for range 2 {
		for i := range w.nodes {
			p.read(i) // it is in Redis now
		}
	}
	return p
}

// read is the room's version, as a node says.
func (p *post) read(i int) int64 {
	reply, err := p.reader.rooms(i).GetRoom(p.ctx, roomByID(p.room))
	if err != nil {
		p.Errorf("read at node %d: %v", i, err)
	}
	return reply.GetRoom().GetVersion()
}

// write changes the room at the first node, and returns its version.
func (p *post) write() int64 {
	p.Helper()
	reply, err := p.owner.rooms(0).UpdateRoom(p.ctx, &free2talkv1.UpdateRoomRequest{
		Room: &free2talkv1.Room{Id: p.room, Topic: talk.NewID()}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"topic"}},
	})
	if err != nil {
		p.Fatal(err)
	}
	return reply.GetRoom().GetVersion()
}

// seen says that a node shows a version, again and again.
func (p *post) seen(version int64, nodes ...int) {
	p.Helper()
	for range 20 {
		for _, i := range nodes {
			if got := p.read(i); got < version {
				p.Fatalf("node %d shows version %d after %d was acknowledged", i, got, version)
			}
		}
	}
}

// away waits until all nodes know that Redis is away.
func (p *post) away() {
	p.Helper()
	for _, n := range p.nodes {
		p.eventually(10*time.Second, "redis is known to be away", func() bool { return !n.redis.Usable() })
	}
}

// defect11 writes while Redis is away, which then comes back with what it held.
func defect11(t *testing.T) {
	t.Run("frozen, and back before anybody has noticed", func(t *testing.T) {
		p := newPost(t)
		p.redis.Stop()
		version := p.write()
		p.redis.Cont()
		p.seen(version, 0) // at once on the node that acknowledged it
		p.eventually(time.Second, "the other node shows it too", func() bool { return p.read(1) == version })
		p.seen(version, 0, 1)
	})
	t.Run("frozen for long", func(t *testing.T) {
		p := newPost(t)
		p.redis.Stop()
		p.away()
		version := p.write()
		p.seen(version, 0, 1)
		p.throughout(version, p.redis.Cont)
	})
	t.Run("killed, and back with what it held", func(t *testing.T) {
		p := newPost(t)
		p.redis.Kill()
		p.away()
		version := p.write()
		p.seen(version, 0, 1)
		p.throughout(version, p.redis.Restart)
	})
	t.Run("killed, and the writer died meanwhile", func(t *testing.T) {
		p := newPost(t)
		p.redis.Kill()
		p.away()
		version := p.write()
		p.nodes[0].stop()
		p.redis.Restart()
		p.eventually(10*time.Second, "redis is used", func() bool { p.seen(version, 1); return p.nodes[1].redis.Usable() })
		p.seen(version, 1)
	})
}

// throughout reads on all nodes while Redis comes back, and until all use it.
func (p *post) throughout(version int64, back func()) {
	p.Helper()
	var reading sync.WaitGroup
	var done atomic.Bool
	for i := range p.nodes {
		reading.Go(func() {
			for !done.Load() {
				if got := p.read(i); got < version {
					p.Errorf("node %d shows version %d after %d was acknowledged", i, got, version)
					return
				}
			}
		})
	}
	back()
	p.redisUsed()
	done.Store(true)
	reading.Wait()
	p.seen(version, 0, 1)
}

// defect12 freezes Redis: once that was noticed, no request waits for it.
func defect12(t *testing.T) {
	p := newPost(t, behindProxy, withLimits(t, "api=100000/1h"))
	healthy := 0.0
	for _, n := range p.nodes {
		healthy += p.measured(n, "free2talk_degraded")
	}
	if healthy != 0 {
		t.Errorf("degraded: %v", healthy)
	}
	p.redis.Stop()
	p.away()
	for i, n := range p.nodes {
		p.eventually(10*time.Second, "the limiter knows it too", func() bool {
			p.ask(n, "10.0.0.1")
			return p.measured(n, "free2talk_degraded", `role="limiter"`) == 1
		})
		if p.measured(n, "free2talk_degraded", `role="cache"`) != 1 {
			t.Error("the metrics do not show it")
		}
		p.unhindered(i)
	}
	p.redis.Cont()
	p.redisUsed()
	for _, n := range p.nodes {
		p.eventually(10*time.Second, "nothing is degraded", func() bool {
			p.ask(n, "10.0.0.1")
			return p.measured(n, "free2talk_degraded") == 0
		})
	}
}

// unhindered makes many calls. None reads from Redis; only the limiter tries
// it, by one call each quarter of a second, which waits for one time-out.
func (p *post) unhindered(i int) {
	p.Helper()
	const calls, timeout, probe, tries = 200, 50 * time.Millisecond, 225 * time.Millisecond, 10
	asked := func() (n float64) {
		for _, result := range []string{"hit", "miss", "negative", "wait"} {
			n += p.measured(p.nodes[i], "free2talk_cache_requests_total", `layer="redis"`, `result="`+result+`"`)
		}
		return n
	}
	before := asked()
	for try := 1; ; try++ {
		began, slow := time.Now(), 0
		for range calls {
			start := time.Now()
			p.read(i)
			if time.Since(start) >= timeout {
				slow++
			}
		}
		took := time.Since(began)
		p.Logf("%d calls with Redis frozen: %v each, %d of a time-out or longer", calls, took/calls, slow)
		if slow <= 1+int(took/probe) {
			break
		}
		if try == tries { // otherwise it was the machine
			p.Errorf("too many: at most one each %v may try Redis", probe)
			break
		}
	}
	if more := asked() - before; more > 0 {
		p.Errorf("%v reads came from Redis", more)
	}
}

// defect15 asks again and again for what is not there.
func defect15(t *testing.T) {
	asked := &queries{}
	w := newWorld(t, onPostgres, 2, watchedBy(asked))
	w.redisUsed()
	ctx, reader := patient(t), w.player()
	for name, ask := range map[string]func(i int, needle string) error{
		"a room": func(i int, needle string) error {
			_, err := reader.rooms(i).GetRoom(ctx, roomByID(needle))
			return err
		},
		"a slug": func(i int, needle string) error {
			_, err := reader.rooms(i).GetRoom(ctx, &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Slug{Slug: "no-room-" + needle}})
			return err
		},
		"a person": func(i int, needle string) error {
			_, err := reader.at[i].Users.GetUser(ctx, userByID(needle))
			return err
		},
		"a username": func(i int, needle string) error {
			_, err := reader.at[i].Users.GetUser(ctx, userByName("nobody-"+needle))
			return err
		},
	} {
		t.Run(name+" that never was", func(t *testing.T) {
			w.judged(func(c *claims, _ string) {
				needle := talk.NewID()
				c.equal("queries", w.queried(asked, needle, func(i int) { c.absent(ask(i, needle)) }), 1)
			})
		})
	}
	t.Run("a closed room", func(t *testing.T) { w.closedRoom(ctx, asked, reader) })
	t.Run("ended by creation", func(t *testing.T) { w.createdAfterAll(ctx, reader) })
}

func (c *claims) absent(err error) {
	if reason := client.Reason(err); !strings.HasSuffix(reason, "_NOT_FOUND") {
		*c = append(*c, fmt.Sprintf("got %v", err))
	}
}

// queried counts the queries for needle while f runs many times, at all nodes.
func (w *world) queried(asked *queries, needle string, f func(i int)) (n int) {
	asked.take()
	for i := range 30 {
		f(i % len(w.nodes))
	}
	for _, query := range asked.take() {
		if strings.Contains(query, needle) {
			n++
		}
	}
	return n
}

func (w *world) closedRoom(ctx context.Context, asked *queries, reader *player) {
	owner := w.player()
	w.judged(func(c *claims, _ string) {
		room := w.room(owner.person, 4).GetId()
		c.equal("close", owner.close(ctx, 0, room), nil)
		c.equal("queries", w.queried(asked, room, func(i int) {
			reply, err := reader.rooms(i).GetRoom(ctx, roomByID(room))
			c.equal("status", reply.GetRoom().GetStatus(), free2talkv1.RoomStatus_ROOM_STATUS_CLOSED)
			c.equal("error", err, nil)
		}), 1)
	})
}

func (w *world) createdAfterAll(ctx context.Context, reader *player) {
	for round := range 5 {
		w.judged(func(c *claims, _ string) {
			name := fmt.Sprintf("late-comer-%d", w.people.Add(1))
			for i := range w.nodes {
				_, err := reader.at[i].Users.GetUser(ctx, userByName(name))
				c.absent(err)
			}
			w.registered(w.at(round), name)
			acknowledged := time.Now()
			for i := range w.nodes {
				find := func() bool {
					reply, err := reader.at[(round+i)%len(w.nodes)].Users.GetUser(ctx, userByName(name))
					return err == nil && reply.GetUser().GetUsername() == name
				}
				found := find() // at once where it was acknowledged, and within a second elsewhere (C1)
				for i > 0 && !found && time.Since(acknowledged) < time.Second {
					found = find()
				}
				c.equal("registered after all", found, true)
			}
		})
	}
}

// defect16 takes Redis away for longer than the original's ten attempts.
func defect16(t *testing.T) {
	p := newPost(t, behindProxy, withLimits(t, "api=100000/1h"))
	p.redis.Kill()
	long := testenv.Effort(4*time.Second, time.Minute)
	for i, n := range p.nodes {
		p.eventually(2*long+10*time.Second, "it has been away for long", func() bool {
			p.read(i)
			p.ask(n, "10.0.0.1")
			return p.measured(n, "free2talk_cache_heartbeat_age_seconds") > long.Seconds()
		})
	}
	p.redis.Restart()
	p.redisUsed()
	for i, n := range p.nodes {
		p.eventually(10*time.Second, "all is as it was", func() bool {
			hits := p.measured(n, "free2talk_cache_requests_total", `result="hit"`)
			counted := p.measured(n, "free2talk_limiter_decisions_total", `mode="redis"`)
			p.read(i)
			p.ask(n, "10.0.0.1")
			return p.measured(n, "free2talk_cache_requests_total", `result="hit"`) > hits &&
				p.measured(n, "free2talk_limiter_decisions_total", `mode="redis"`) >= counted+2 &&
				p.measured(n, "free2talk_degraded") == 0
		})
	}
}

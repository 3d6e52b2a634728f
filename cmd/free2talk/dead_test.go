package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
)

// doomed is a node in a process of its own, with people connected to it, and
// others on another node who see them.
type doomed struct {
	*world
	t      *testing.T
	child  *process
	redis  string
	people []*person
	names  *names
	seen   []*hearing // of up to a hundred of them each
	heir   *hearing   // somebody on the other node, in a room whose owner is on the doomed one
	lonely string     // a room with nobody but a doomed owner
}

const watchedAtOnce = 100

func newDoomed(t *testing.T) *doomed {
	own := testenv.StartRedis(t)
	w := newWorld(t, backend{"own redis", 1, func(t testing.TB, s *Settings) {
		s.DatabaseURL, s.RedisURL, s.RedisPrefix = testenv.Postgres(t), own.URL(), "f2t:"
	}}, 1, func(s *Settings) { s.Secret = []byte(strings.TrimSpace(string(s.Secret))) })
	d := &doomed{world: w, t: t, names: called(), child: w.child(t, w.settings.DatabaseURL), redis: own.URL()}
	near := d.child.testNode
	survivor := w.nodes[0]
	for range testenv.Effort(40, 2000) {
		p := w.account(survivor)
		d.names.call(p.id(), p.Username)
		d.people = append(d.people, p)
	}
	for from := 0; from < len(d.people); from += watchedAtOnce {
		var ids []string
		for _, p := range d.people[from:min(from+watchedAtOnce, len(d.people))] {
			ids = append(ids, p.id())
		}
		d.seen = append(d.seen, watchPresence(t.Context(), t, w.as(survivor, w.person()), d.names, ids...))
	}
	ctx, hangUp := context.WithCancel(context.WithoutCancel(t.Context()))
	t.Cleanup(hangUp)
	for _, p := range d.people {
		connectAs(ctx, t, w.as(near, p), d.names)
	}
	for i, p := range d.people {
		d.seen[i/watchedAtOnce].await(20*time.Second, 0, p.Username+" online")
	}
	owner, loner := d.people[0], d.people[1]
	owner.Client, loner.Client = w.as(survivor, owner), w.as(survivor, loner)
	room := w.room(owner, 3)
	d.names.call(room.GetId(), "the room")
	d.lonely = w.room(loner, 3).GetId()
	bob := w.person()
	d.heir = connectAs(t.Context(), t, w.as(survivor, bob), d.names)
	join(t, w.as(survivor, bob), room.GetId())
	d.heir.await(5*time.Second, 0, "room changed the room")
	return d
}

func (d *doomed) flush() {
	d.t.Helper()
	options, err := redis.ParseURL(d.redis)
	if err != nil {
		d.t.Fatal(err)
	}
	admin := redis.NewClient(options)
	defer admin.Close()
	if err := admin.FlushAll(d.t.Context()).Err(); err != nil {
		d.t.Fatal(err)
	}
}

// buried checks P1: everybody is offline within twenty seconds, by one event
// each, and what they owned is somebody's or nobody's.
func (d *doomed) buried(began time.Time) {
	d.t.Helper()
	for i, p := range d.people {
		d.seen[i/watchedAtOnce].await(20*time.Second-time.Since(began), 0, p.Username+" offline")
	}
	d.t.Logf("all %d are offline after %v", len(d.people), time.Since(began))
	// Where Redis was flushed the clock of their seats has begun anew.
	d.heir.await(25*time.Second, 0, fmt.Sprintf("%s left: LEAVE_REASON_DISCONNECTED", d.people[0].Username))
	d.eventually(25*time.Second, "a room that nobody sits in is closed", func() bool {
		reply, err := d.client(d.nodes[0]).Rooms.GetRoom(d.t.Context(), &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: d.lonely}})
		return err == nil && reply.GetRoom().GetStatus() == free2talkv1.RoomStatus_ROOM_STATUS_CLOSED
	})
}

// once checks that nobody went offline, or came back, a second time.
func (d *doomed) once() {
	d.t.Helper()
	for i, p := range d.people {
		online, offline := 0, 0
		for _, line := range d.seen[i/watchedAtOnce].all() {
			switch line {
			case p.Username + " online":
				online++
			case p.Username + " offline":
				offline++
			}
		}
		if online != 1 || offline != 1 {
			d.t.Errorf("%s went online %d times and offline %d times", p.Username, online, offline)
		}
	}
}

// P1, D2: a node is killed.
func TestP1_a_killed_nodes_people_are_offline_within_20s(t *testing.T) {
	t.Parallel()
	d := newDoomed(t)
	began := time.Now()
	if err := d.child.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.buried(began)
	d.once()
}

// P1: the same while Redis loses everything.
func TestP1_also_when_redis_is_flushed_at_that_moment(t *testing.T) {
	t.Parallel()
	d := newDoomed(t)
	began := time.Now()
	if err := d.child.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.flush()
	d.buried(began)
	d.once()
}

// P1, P2: a node is frozen for so long that it counts as dead, and wakes: it is
// right again by itself, and nobody hears a second event.
func TestP1_a_frozen_node_wakes_without_a_second_event(t *testing.T) {
	t.Parallel()
	d := newDoomed(t)
	began := time.Now()
	if err := d.child.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	d.buried(began)
	if err := d.child.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	d.child.saying(`begins again`)
	ada := d.person() // and it takes connections
	d.names.call(ada.id(), "ada")
	seen := watchPresence(t.Context(), t, d.as(d.nodes[0], d.person()), d.names, ada.id())
	connectAs(t.Context(), t, d.as(d.child.testNode, ada), d.names).await(10*time.Second, 0, "snapshot")
	seen.await(10*time.Second, 0, "ada online")
	d.once()
}

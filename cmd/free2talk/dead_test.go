package main

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/client"
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

func newDoomed(t *testing.T, people int) *doomed {
	own := testenv.StartRedis(t)
	w := newWorld(t, backend{"own redis", 1, func(t testing.TB, s *Settings) {
		s.DatabaseURL, s.RedisURL, s.RedisPrefix = testenv.Postgres(t), own.URL(), "f2t:"
	}}, 1, func(s *Settings) { s.Secret = []byte(strings.TrimSpace(string(s.Secret))) })
	d := &doomed{world: w, t: t, names: called(), child: w.child(t, w.settings.DatabaseURL), redis: own.URL()}
	near := d.child.testNode
	survivor := w.nodes[0]
	for range people {
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
	w.eventually(10*time.Second, "the doomed node knows that its people sit there", func() bool { // or Redis alone knows that they ever did
		return w.number("SELECT count(*) FROM participants WHERE attended") == 3
	})
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
	testenv.Record(d.t, testenv.Figure{Row: "P1", What: "until the last of a dead node's people is offline", Took: time.Since(began)})
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
	wrong := int64(0)
	for i, p := range d.people {
		online, offline := 0, 0
		is := "" // a room that closes under somebody is no coming
		for _, line := range d.seen[i/watchedAtOnce].all() {
			what, found := strings.CutPrefix(line, p.Username+" ")
			if what, _, _ = strings.Cut(what, " "); !found || what == is {
				continue
			}
			switch is = what; what {
			case "online":
				online++
			case "offline":
				offline++
			}
		}
		if online != 1 || offline != 1 {
			wrong++
			d.t.Errorf("%s went online %d times and offline %d times", p.Username, online, offline)
		}
	}
	testenv.Record(d.t, testenv.Figure{Row: "P1", What: "told other than once", Bad: wrong, Of: int64(len(d.people)), Each: "people of nodes that died or froze"})
}

// rounds has a node with many people die, some times; short is once.
func rounds(t *testing.T, round func(t *testing.T, d *doomed)) {
	t.Parallel()
	for i := range testenv.Effort(1, 13) {
		t.Run(fmt.Sprint("round ", i), func(t *testing.T) { round(t, newDoomed(t, testenv.Effort(40, 2000))) })
	}
}

// killed kills the node, and checks what the others see of it.
func (d *doomed) killed(also func()) {
	d.t.Helper()
	began := time.Now()
	d.child.signal(syscall.SIGKILL)
	also()
	d.buried(began)
	d.once()
}

// P1, resolution 3: a node is killed.
func TestP1_a_killed_nodes_people_are_offline_within_20s(t *testing.T) {
	rounds(t, func(_ *testing.T, d *doomed) { d.killed(func() {}) })
}

// P1: the same while Redis loses everything.
func TestP1_also_when_redis_is_flushed_at_that_moment(t *testing.T) {
	rounds(t, func(_ *testing.T, d *doomed) { d.killed(d.flush) })
}

// P1, P2: a node is frozen for so long that it counts as dead, and wakes: it is
// right again by itself, and nobody hears a second event.
func TestP1_a_frozen_node_wakes_without_a_second_event(t *testing.T) {
	rounds(t, func(t *testing.T, d *doomed) { d.frozen(t, func() {}) })
}

// P1: the same while Redis loses everything.
func TestP1_also_of_a_frozen_node_when_redis_is_flushed(t *testing.T) {
	rounds(t, func(t *testing.T, d *doomed) { d.frozen(t, d.flush) })
}

func (d *doomed) frozen(t *testing.T, also func()) {
	t.Helper()
	began := time.Now()
	d.child.signal(syscall.SIGSTOP)
	also()
	d.buried(began)
	d.child.signal(syscall.SIGCONT)
	d.child.saying(`begins again`)
	ada := d.person() // and it takes connections
	d.names.call(ada.id(), "ada")
	seen := watchPresence(t.Context(), t, d.as(d.nodes[0], d.person()), d.names, ada.id())
	var stream *hearing // the node's own streams, which it sends away now, may be all that one address may have
	d.eventually(10*time.Second, "a stream begins", func() bool {
		stream = connectAs(t.Context(), t, d.as(d.child.testNode, ada), d.names)
		return stream.begins()
	})
	stream.await(10*time.Second, 0, "snapshot")
	seen.await(10*time.Second, 0, "ada online")
	d.once()
}

// P2: a node is frozen, and wakes when others have taken it for dead, but
// before anybody's grace is over: whoever comes back when it asks them to was
// never gone.
func TestP2_a_node_that_wakes_in_time_loses_nobody(t *testing.T) {
	t.Parallel()
	d := newDoomed(t, 2)
	ada := d.person()
	d.names.call(ada.id(), "ada")
	seen := watchPresence(t.Context(), t, d.as(d.nodes[0], d.person()), d.names, ada.id())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	conn := d.client(d.child.testNode, client.WithTokens(tokensOf(ada.grant)))
	var snapshots atomic.Int64
	go follow(ctx, conn, func(e *free2talkv1.ConnectResponse) { snapshots.Add(1) })
	seen.await(10*time.Second, 0, "ada online")
	// Others may hear of it before she does: what she has counts.
	d.eventually(10*time.Second, "ada has her snapshot", func() bool { return snapshots.Load() > 0 })
	before := snapshots.Load()
	d.child.signal(syscall.SIGSTOP)
	database := d.stranger(d.settings.DatabaseURL)
	d.eventually(20*time.Second, "the node counts as dead", func() bool {
		return database.number("SELECT count(*) FROM nodes WHERE swept_at IS NULL") == 1
	})
	d.child.signal(syscall.SIGCONT)
	d.child.saying(`begins again`)
	d.eventually(20*time.Second, "ada is back", func() bool { return snapshots.Load() > before })
	wait(ctx, 16*time.Second) // longer than the grace
	shown := int64(0)
	for _, line := range seen.all() {
		if line == "ada offline" {
			shown++
			t.Errorf("it was told that %s", line)
		}
	}
	testenv.Record(t, testenv.Figure{Row: "P2", What: "shown offline", Bad: shown, Of: 1, Each: "frozen nodes that woke in time"})
}

// Defect 9: what a dead server leaves behind is taken away by the others.
func defect09(t *testing.T) { newDoomed(t, 3).killed(func() {}) }

// Defect 13: who closes one of two tabs is online.
func defect13(t *testing.T) { comeAndGo(t, newWorld(t, onPostgres, 2, withGrace(2*time.Second))) }

// Defect 14: what happens on one node reaches who watches on another, and who
// breaks off goes on from there.
func defect14(t *testing.T) { watchRoom(t, newWorld(t, onPostgres, 2), protocols[0]) }

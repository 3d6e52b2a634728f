package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
)

// TestPoolRunsOut: a locked table holds every connection that calls may have.
// Who comes now hears within a second that the server is busy, and when to
// come back; health is answered, people are recognised, and what is cached is
// read.
func TestPoolRunsOut(t *testing.T) {
	asked := &queries{}
	w := newWorld(t, onPostgres, 1, watchedBy(asked))
	w.redisUsed()
	n, ada := w.nodes[0], w.player()
	people := w.players(30)
	room := w.room(ada.person, 4).GetId()
	w.eventually(10*time.Second, "the room is cached", func() bool {
		return w.queried(asked, room, func(int) {
			if _, err := ada.rooms(0).GetRoom(t.Context(), roomByID(room)); err != nil {
				t.Fatal(err)
			}
		}) == 0
	})
	other, watcher := w.stranger(w.settings.DatabaseURL), w.stranger(w.settings.DatabaseURL)
	other.run("BEGIN")
	other.run("LOCK TABLE rooms IN ACCESS EXCLUSIVE MODE")
	var held sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i, p := range people {
		held.Go(func() {
			if _, err := p.create(ctx, i, 4); err == nil {
				t.Error("a room was opened in a locked table")
			}
		})
	}
	w.eventually(10*time.Second, "calls hold every connection that they may", func() bool { return watcher.waiting() >= n.store.Conns()-5 })
	var worst time.Duration
	for range 3 {
		began := time.Now()
		_, err := ada.at[0].Rooms.CloseRoom(t.Context(), &free2talkv1.CloseRoomRequest{RoomId: room})
		worst = max(worst, time.Since(began))
		wait, told := client.RetryAfter(err)
		if connect.CodeOf(err) != connect.CodeUnavailable || client.Reason(err) != client.ReasonBusy || !told || wait <= 0 {
			t.Errorf("got %v (retry %v)", err, wait)
		}
		if status, _ := w.get(n, "/healthz"); status != http.StatusOK || w.health(n) != healthv1.HealthCheckResponse_SERVING {
			t.Errorf("health: %d", status)
		}
		if status, body := w.get(n, "/readyz"); status != http.StatusOK {
			t.Errorf("ready: %d %s", status, body)
		}
		w.judged(func(c *claims, _ string) {
			if _, err := ada.rooms(0).GetRoom(t.Context(), roomByID(room)); err != nil {
				*c = append(*c, fmt.Sprintf("what is cached: %v", err))
			}
		})
	}
	t.Logf("refused within %v", worst)
	if worst > 3*time.Second { // a second, and a busy machine
		t.Errorf("it took %v to hear of it", worst)
	}
	cancel()
	held.Wait()
	w.eventually(5*time.Second, "the statements of those who left are canceled", func() bool { return watcher.waiting() == 0 })
	other.run("ROLLBACK")
	if err := ada.close(t.Context(), 0, room); err != nil {
		t.Errorf("after it: %v", err)
	}
}

// TestPoolRunsOut_a_node_that_stood_still_blames_nobody: while a node is frozen
// its database answers. Whoever waited behind those calls goes on with it, and
// does not hear that the pool is stuck.
func TestPoolRunsOut_a_node_that_stood_still_blames_nobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onPostgres, 1, asPrograms)
	p := w.child(t, w.settings.DatabaseURL)
	people := make([]*person, 40)
	for i := range people {
		people[i] = w.account(w.nodes[0])
		people[i].Client = w.as(p.testNode, people[i])
		if err := getMe(t.Context(), people[i].Client); err != nil { // the node knows them from now on
			t.Fatal(err)
		}
	}
	other, watcher := w.stranger(w.settings.DatabaseURL), w.stranger(w.settings.DatabaseURL)
	other.run("BEGIN")
	other.run("LOCK TABLE rooms IN ACCESS EXCLUSIVE MODE")
	opened := make(chan []error, 1)
	go func() {
		opened <- together(len(people), func(i int) error {
			_, err := people[i].Rooms.CreateRoom(t.Context(), &free2talkv1.CreateRoomRequest{Name: fmt.Sprint("Room ", i), Languages: []string{"es"}})
			return err
		})
	}()
	w.eventually(10*time.Second, "calls wait for the table", func() bool { return watcher.waiting() > 10 })
	p.signal(syscall.SIGSTOP)
	other.run("ROLLBACK")
	w.eventually(10*time.Second, "all that it asked is answered", func() bool { return watcher.waiting() == 0 })
	wait(t.Context(), time.Second) // longer than a pool may stand still
	p.signal(syscall.SIGCONT)
	for i, err := range <-opened {
		if err != nil {
			t.Errorf("person %d: %v", i, err)
		}
	}
}

// TestConnectionsAreTerminated again and again, under writes: a call ends well
// or says that waiting helps, nothing acknowledged is lost.
func TestConnectionsAreTerminated(t *testing.T) {
	w, postgres := onOwnPostgres(t, 1)
	r := w.writers(t, w.nodes[0].url)
	admin := w.stranger(postgres.AdminDSN())
	for range testenv.Effort(20, 500) {
		r.after(20)
		admin.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'free2talk'")
	}
	r.after(20)
	r.end("pg_terminate_backend storms")
}

// TestR5_no_acknowledged_write_is_lost by kill -9 of the server, or of Postgres.
func TestR5_no_acknowledged_write_is_lost(t *testing.T) {
	t.Run("the server", func(t *testing.T) {
		w := newWorld(t, onPostgres, 1, asPrograms)
		for range testenv.Effort(3, 100) {
			p := w.child(t, w.settings.DatabaseURL)
			r := w.writers(t, p.url)
			r.after(60)
			_ = p.cmd.Process.Kill()
			<-p.done
			r.end("kill -9 of a server")
		}
	})
	t.Run("Postgres", func(t *testing.T) {
		w, postgres := onOwnPostgres(t, 1)
		for range testenv.Effort(3, 100) {
			r := w.writers(t, w.nodes[0].url)
			r.after(60)
			postgres.Restart()
			w.back(t, r.people[0].grant)
			r.end("kill -9 of Postgres")
		}
	})
}

// asPrograms makes the secret what a program reads of it, so that programs and
// nodes of the test open each other's keys.
func asPrograms(s *Settings) { s.Secret = bytes.TrimSpace(s.Secret) }

// writers are people who write to their own rooms, and what they were told.
type writers struct {
	*world
	t      *testing.T
	people []*person
	rooms  []string
	floors []floor
	acked  atomic.Int64
	stop   chan struct{}
	halt   func()
}

func (w *world) writers(t *testing.T, url string) *writers {
	t.Helper()
	r := &writers{world: w, t: t, floors: make([]floor, 8), stop: make(chan struct{})}
	var all sync.WaitGroup
	for range r.floors {
		p := w.person()
		r.people = append(r.people, p)
		r.rooms = append(r.rooms, w.room(p, 4).GetId())
	}
	for i, p := range r.people {
		c := w.as(&testNode{url: url}, p)
		all.Go(func() { r.run(t.Context(), i, c) })
	}
	r.halt = sync.OnceFunc(func() { close(r.stop); all.Wait() })
	t.Cleanup(r.halt)
	return r
}

func (r *writers) run(ctx context.Context, i int, c *client.Client) {
	for {
		select {
		case <-r.stop:
			return
		case <-time.After(time.Millisecond):
		}
		reply, err := c.Rooms.UpdateRoom(ctx, &free2talkv1.UpdateRoomRequest{
			Room: &free2talkv1.Room{Id: r.rooms[i], Topic: talk.NewID()}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"topic"}},
		})
		switch {
		case err == nil:
			r.floors[i].raise(0, reply.GetRoom().GetVersion())
			r.acked.Add(1)
		case connect.CodeOf(err) != connect.CodeUnavailable && connect.CodeOf(err) != connect.CodeCanceled && ctx.Err() == nil: // a connection that is reset counts as canceled
			r.t.Errorf("a write: %v", err)
			return
		}
	}
}

func (r *writers) after(writes int64) {
	r.t.Helper()
	goal := r.acked.Load() + writes
	r.eventually(30*time.Second, "writes are acknowledged", func() bool { return r.acked.Load() >= goal })
}

// end compares what was acknowledged with what the database holds.
func (r *writers) end(by string) {
	r.t.Helper()
	r.halt()
	lost := int64(0)
	for i, room := range r.rooms {
		version := int64(r.number("SELECT version FROM rooms WHERE id = ?", room))
		if acked := r.floors[i].before(0, time.Now()); version < acked {
			lost += acked - version
			r.t.Errorf("version %d is in the database, and %d was acknowledged", version, acked)
		}
	}
	r.sound()
	testenv.Record(r.t, testenv.Figure{Row: "R5", What: fmt.Sprintf("lost by %s", by), Bad: lost, Of: r.acked.Load(), Each: "acknowledged writes"})
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/jackc/pgx/v5"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	healthconnect "github.com/free2talk/free2talk/gen/grpc/health/v1/grpc_health_v1connect"
	"github.com/free2talk/free2talk/internal/testenv"
)

// stranger is a connection to the database that is no node's.
type stranger struct {
	*world
	*pgx.Conn
}

func (w *world) stranger(dsn string) *stranger {
	w.Helper()
	conn, err := pgx.Connect(w.Context(), dsn)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { conn.Close(context.WithoutCancel(w.Context())) })
	return &stranger{w, conn}
}

func (s *stranger) run(statement string, args ...any) {
	s.Helper()
	if _, err := s.Exec(s.Context(), statement, args...); err != nil {
		s.Fatal(err)
	}
}

func (s *stranger) number(query string, args ...any) (n int) {
	s.Helper()
	if err := s.QueryRow(s.Context(), query, args...).Scan(&n); err != nil {
		s.Fatal(err)
	}
	return n
}

// holds locks the row of a room, as a transaction of another node would, until
// the returned function is called.
func (s *stranger) holds(room string) (release func()) {
	s.Helper()
	s.run("BEGIN")
	s.run("SELECT id FROM rooms WHERE id = $1 FOR UPDATE", room)
	return sync.OnceFunc(func() { s.run("ROLLBACK") })
}

// waiting is how many statements of nodes wait for a lock.
func (s *stranger) waiting() int {
	s.Helper()
	return s.number(`SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND wait_event_type = 'Lock'`)
}

// working is how many nodes' connections are in a statement or a transaction.
func (s *stranger) working() int {
	s.Helper()
	return s.number(`SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND state <> 'idle'`)
}

// TestChecklist57_a_deadline_in_the_wait_for_a_lock: the caller hears of it
// while the lock is still held, and the database is not left waiting.
func TestChecklist57_a_deadline_in_the_wait_for_a_lock(t *testing.T) {
	w := newWorld(t, onPostgres, 1)
	ada, bob := w.person(), w.person()
	room := w.room(ada, 5)
	other, watcher := w.stranger(w.settings.DatabaseURL), w.stranger(w.settings.DatabaseURL)
	release := other.holds(room.GetId())
	for range 3 {
		reply := w.joinWithin(bob, room.GetId(), "300")
		body, err := io.ReadAll(reply.Body)
		reply.Body.Close()
		if err != nil || verdictOf(body) != "deadline_exceeded" || reply.StatusCode != http.StatusGatewayTimeout {
			t.Errorf("got %d %s, %v", reply.StatusCode, body, err)
		}
	}
	// All answers came while the lock was held; now no statement may wait for it.
	w.eventually(2*time.Second, "the waiting statements are canceled", func() bool { return watcher.waiting() == 0 })
	release()
	if _, err := bob.Rooms.JoinRoom(t.Context(), &free2talkv1.JoinRoomRequest{RoomId: room.GetId()}); err != nil {
		t.Errorf("after it: %v", err)
	}
	if n := watcher.number("SELECT count(*) FROM participants"); n != 2 {
		t.Errorf("%d people are seated", n)
	}
}

// joinWithin gives the server a deadline and has none itself.
func (w *world) joinWithin(p *person, room, milliseconds string) *http.Response {
	w.Helper()
	request, err := http.NewRequestWithContext(w.Context(), http.MethodPost,
		w.nodes[0].url+"/free2talk.v1.RoomService/JoinRoom", strings.NewReader(`{"roomId": "`+room+`"}`))
	if err != nil {
		w.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Connect-Timeout-Ms", milliseconds)
	request.Header.Set("Authorization", "Bearer "+p.grant.AccessToken)
	reply, err := w.http.Do(request)
	if err != nil {
		w.Fatal(err)
	}
	return reply
}

// TestChecklist58_who_disconnects leaves all or nothing, and may say it again.
func TestChecklist58_who_disconnects(t *testing.T) {
	w := newWorld(t, onPostgres, 1)
	other, watcher := w.stranger(w.settings.DatabaseURL), w.stranger(w.settings.DatabaseURL)
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			s := newScene(w, "member")
			bob := w.person(p.opts...)
			if p.h2c {
				bob.Client = w.clientBy(w.nodes[0], p, client.WithTokens(tokensOf(bob.grant)))
			}
			release := other.holds(s.room)
			ctx, hangUp := context.WithCancel(t.Context())
			gone := make(chan error, 1)
			go func() {
				_, err := bob.Rooms.JoinRoom(ctx, &free2talkv1.JoinRoomRequest{RoomId: s.room})
				gone <- err
			}()
			w.eventually(5*time.Second, "the call waits for the room", func() bool { return watcher.waiting() == 1 })
			hangUp()
			if err := <-gone; connect.CodeOf(err) != connect.CodeCanceled {
				t.Errorf("got %v", err)
			}
			w.eventually(5*time.Second, "its transaction is over", func() bool { return watcher.working() <= 1 }) // the stranger's stands
			release()
			if n := len(s.seen().GetParticipants()); n != 2 {
				t.Errorf("%d are seated, where the third hung up", n)
			}
			for range 2 {
				if _, err := bob.Rooms.JoinRoom(t.Context(), &free2talkv1.JoinRoomRequest{RoomId: s.room}); err != nil {
					t.Error(err)
				}
			}
			seen := s.seen()
			if len(seen.GetParticipants()) != 3 || seen.GetRoom().GetParticipantCount() != 3 {
				t.Errorf("said again: %v", seen)
			}
		})
	}
}

// deaf makes every call and hears no answer: the connection is cut after the
// server has done it all.
type deaf struct {
	http.RoundTripper

	cut bool
}

var errCut = errors.New("the connection was cut")

func (d *deaf) RoundTrip(r *http.Request) (*http.Response, error) {
	reply, err := d.RoundTripper.RoundTrip(r)
	if err != nil || !d.cut {
		return reply, err
	}
	_, _ = io.Copy(io.Discard, reply.Body)
	reply.Body.Close()
	return nil, errCut
}

// TestR6_the_same_call_again: the answer is lost after the commit; the
// same call again leaves the state as if once.
func TestR6_the_same_call_again(t *testing.T) {
	w := newWorld(t, onPostgres, 1)
	s := newScene(w, "member")
	testenv.Record(t, testenv.Figure{Row: "R6", What: "other than once", Of: 6, Each: "kinds of calls, each said twice"})
	line := &deaf{RoundTripper: w.http.Transport}
	over := func(p *person) *client.Client {
		return w.as(w.nodes[0], p, client.WithHTTPClient(&http.Client{Transport: line}))
	}
	owner, member, bob := over(s.owner), over(s.member), over(w.person())
	ctx := t.Context()
	twice := func(what, want string, call func() error) {
		t.Helper()
		line.cut = true
		if err := call(); !errors.Is(err, errCut) && connect.CodeOf(err) != connect.CodeUnavailable {
			t.Errorf("%s: %v, want no answer", what, err)
		}
		line.cut = false
		after := s.seen()
		if err := call(); client.Reason(err) != want || want == "" && err != nil {
			t.Errorf("%s again: %v, want %q", what, err, want)
		}
		again := s.seen()
		if after.GetRoom().GetVersion() != again.GetRoom().GetVersion() || len(after.GetParticipants()) != len(again.GetParticipants()) {
			t.Errorf("%s: once\n%v\ntwice\n%v", what, after, again)
		}
	}
	seats := func(n int, owner *person) {
		t.Helper()
		if seen := s.seen(); len(seen.GetParticipants()) != n || seen.GetRoom().GetOwner().GetId() != owner.id() {
			t.Errorf("want %d seats of %s: %v", n, owner.Username, seen)
		}
	}
	twice("join", "", func() error {
		_, err := bob.Rooms.JoinRoom(ctx, &free2talkv1.JoinRoomRequest{RoomId: s.room})
		return err
	})
	seats(3, s.owner)
	twice("leave", "", func() error {
		_, err := bob.Rooms.LeaveRoom(ctx, &free2talkv1.LeaveRoomRequest{RoomId: s.room})
		return err
	})
	seats(2, s.owner)
	twice("create", client.ReasonOwnsARoom, func() error {
		_, err := bob.Rooms.CreateRoom(ctx, &free2talkv1.CreateRoomRequest{Name: "Once", Languages: []string{"es"}})
		return err
	})
	twice("transfer", client.ReasonNotOwner, func() error {
		_, err := owner.Rooms.TransferOwnership(ctx, &free2talkv1.TransferOwnershipRequest{RoomId: s.room, UserId: s.member.id()})
		return err
	})
	seats(2, s.member)
	twice("kick", client.ReasonNotInRoom, func() error {
		_, err := member.Rooms.KickUser(ctx, &free2talkv1.KickUserRequest{RoomId: s.room, UserId: s.owner.id()})
		return err
	})
	seats(1, s.member)
	twice("close", "", func() error {
		_, err := member.Rooms.CloseRoom(ctx, &free2talkv1.CloseRoomRequest{RoomId: s.room})
		return err
	})
	if n := w.stranger(w.settings.DatabaseURL).number("SELECT count(*) FROM rooms WHERE closed_at IS NULL"); n != 1 {
		t.Errorf("%d open rooms, want the one that was created twice", n)
	}
}

// onOwnPostgres is a world on a Postgres that may be broken.
func onOwnPostgres(t *testing.T, nodes int) (*world, *testenv.PostgresServer) {
	t.Helper()
	postgres := testenv.StartPostgres(t)
	own := backend{"own postgres", nodes, func(t testing.TB, s *Settings) {
		s.DatabaseURL = postgres.URL()
		s.RedisURL, s.RedisPrefix = testenv.Redis(t)
	}}
	return newWorld(t, own, nodes), postgres
}

// TestPostgresRestarts under load: meanwhile every call that needs it hears
// that waiting helps, and afterwards all is whole.
func TestPostgresRestarts(t *testing.T) {
	t.Parallel()
	w, postgres := onOwnPostgres(t, 2)
	ada := w.person()
	before := w.room(ada, 5)
	load := w.loaded(protocols[1], w.http)
	load.after(100)
	postgres.Kill()
	for _, n := range w.nodes {
		w.eventually(10*time.Second, "the node is not ready", func() bool {
			status, _ := w.get(n, "/readyz")
			return status == http.StatusServiceUnavailable
		})
		if status, body := w.get(n, "/healthz"); status != http.StatusOK {
			t.Errorf("healthz: %d %s", status, body)
		}
		if got := w.health(n); got != healthv1.HealthCheckResponse_NOT_SERVING {
			t.Errorf("grpc health: %v", got)
		}
		_, err := w.as(n, ada).Rooms.JoinRoom(t.Context(), &free2talkv1.JoinRoomRequest{RoomId: before.GetId()})
		if client.Reason(err) != client.ReasonDatabaseUnavailable {
			t.Errorf("a decision without the database: %v", err)
		}
	}
	load.after(50)
	postgres.Restart()
	for _, n := range w.nodes {
		w.eventually(10*time.Second, "the node is ready", func() bool {
			status, _ := w.get(n, "/readyz")
			return status == http.StatusOK && w.health(n) == healthv1.HealthCheckResponse_SERVING
		})
	}
	load.after(100)
	calls, errs := load.end()
	t.Logf("%d calls, %d of them refused", calls, len(errs))
	for _, err := range errs {
		if wait, ok := client.RetryAfter(err); connect.CodeOf(err) != connect.CodeUnavailable || !ok || wait <= 0 {
			if reason := client.Reason(err); reason != client.ReasonOwnsARoom && reason != client.ReasonInAnotherRoom { // an answer was lost
				t.Errorf("a call in the outage: %v (%s, %v)", err, reason, wait)
			}
		}
	}
	w.wholeAgain(ada, before)
}

// wholeAgain checks that what was there is there, and that everything works.
func (w *world) wholeAgain(ada *person, before *free2talkv1.Room) {
	w.Helper()
	for _, n := range w.nodes {
		c := w.as(n, ada)
		got, err := c.Rooms.GetRoom(w.Context(), &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: before.GetId()}})
		if err != nil || got.GetRoom().GetVersion() != before.GetVersion() {
			w.Errorf("the room that was there: %v, %v", got, err)
		}
		if _, err := c.Rooms.JoinRoom(w.Context(), &free2talkv1.JoinRoomRequest{RoomId: before.GetId()}); err != nil {
			w.Error(err)
		}
		if _, err := w.client(n).Login(w.Context(), "load-connect_binary-0", password); err != nil {
			w.Error(err)
		}
	}
}

func (w *world) health(n *testNode) healthv1.HealthCheckResponse_ServingStatus {
	w.Helper()
	check, err := healthconnect.NewHealthClient(w.client(n).Conn()).Check(w.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		w.Fatal(err)
	}
	return check.GetStatus()
}

// TestPostgresHasNoConnectionLeft: who needs a new one hears so at once, and
// not when their time is up.
func TestPostgresHasNoConnectionLeft(t *testing.T) {
	t.Parallel()
	w, postgres := onOwnPostgres(t, 1)
	ada := w.person()
	room := w.room(ada, 5)
	admin := w.stranger(postgres.AdminDSN())
	admin.run("ALTER ROLE free2talk CONNECTION LIMIT 0")              // for whoever comes now
	w.eventually(10*time.Second, "nobody is connected", func() bool { // who was just coming is not in the list at first
		admin.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'free2talk'")
		return admin.number("SELECT count(*) FROM pg_stat_activity WHERE usename = 'free2talk'") == 0
	})
	for range 20 {
		began := time.Now()
		_, err := ada.Rooms.LeaveRoom(t.Context(), &free2talkv1.LeaveRoomRequest{RoomId: room.GetId()})
		wait, ok := client.RetryAfter(err)
		if client.Reason(err) != client.ReasonDatabaseUnavailable || connect.CodeOf(err) != connect.CodeUnavailable || !ok || wait <= 0 {
			t.Errorf("got %v, retry %v", err, wait)
		}
		if took := time.Since(began); took > 4*time.Second { // a call's deadline is five
			t.Errorf("a refusal took %v", took)
		}
	}
	admin.run("ALTER ROLE free2talk CONNECTION LIMIT -1")
	w.eventually(10*time.Second, "it works again", func() bool {
		_, err := ada.Rooms.JoinRoom(t.Context(), &free2talkv1.JoinRoomRequest{RoomId: room.GetId()})
		return err == nil
	})
}

// TestDatabaseLocked: with a table locked and every connection of the node
// held by calls that wait, the next calls end by their own deadline, health is
// answered, and all is well when the lock goes.
func TestDatabaseLocked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onPostgres, 1)
	people := make([]*person, 40)
	for i := range people {
		people[i] = w.person()
	}
	other := w.stranger(w.settings.DatabaseURL)
	other.run("BEGIN")
	other.run("LOCK TABLE rooms IN ACCESS EXCLUSIVE MODE")
	create := func(ctx context.Context, i int) error {
		_, err := people[i].Rooms.CreateRoom(ctx, &free2talkv1.CreateRoomRequest{Name: fmt.Sprint("Room ", i), Languages: []string{"es"}})
		return err
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for _, err := range together(len(people), func(i int) error { return create(short, i) }) {
		if code := connect.CodeOf(err); code != connect.CodeDeadlineExceeded && code != connect.CodeUnavailable {
			t.Errorf("got %v", err)
		}
	}
	if status, _ := w.get(w.nodes[0], "/healthz"); status != http.StatusOK {
		t.Errorf("healthz: %d", status)
	}
	other.run("ROLLBACK")
	began := time.Now()
	for i, err := range together(len(people), func(i int) error { return create(t.Context(), i) }) {
		if err != nil && client.Reason(err) != client.ReasonOwnsARoom {
			t.Errorf("person %d, after it: %v", i, err)
		}
	}
	t.Logf("all done %v after the lock went", time.Since(began))
	if open, owners := other.number("SELECT count(*) FROM rooms"), other.number("SELECT count(DISTINCT owner_id) FROM rooms"); open != len(people) || owners != open {
		t.Errorf("%d rooms of %d owners", open, owners)
	}
}

package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/uptrace/bun"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
)

// metrics is the page that Prometheus would read, by series.
type metrics map[string]float64

func (w *world) metrics(n *testNode) metrics {
	w.Helper()
	page, all := httptest.NewRecorder(), metrics{}
	n.telemetry.Handler().ServeHTTP(page, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/metrics", nil))
	for lines := bufio.NewScanner(page.Body); lines.Scan(); {
		series, text, _ := cutLast(lines.Text(), " ")
		if value, err := strconv.ParseFloat(text, 64); err == nil && series != "" && series[0] != '#' {
			all[series] = value
		}
	}
	return all
}

// sum adds up the series of a name that carry all of labels (`role="cache"`).
func (m metrics) sum(name string, labels ...string) (sum float64) {
	for series, value := range m {
		if (series == name || strings.HasPrefix(series, name+"{")) && containsAll(series, labels) {
			sum += value
		}
	}
	return sum
}

// measured is one figure of n.
func (w *world) measured(n *testNode, name string, labels ...string) float64 {
	w.Helper()
	return w.metrics(n).sum(name, labels...)
}

func cutLast(text, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(text, sep); i >= 0 {
		return text[:i], text[i+len(sep):], true
	}
	return text, "", false
}

func containsAll(text string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(text, part) {
			return false
		}
	}
	return true
}

// turnstile holds one call between its load from the database and what it
// does with it.
type turnstile struct {
	mu     sync.Mutex
	needle string // in the query that is held; "" for none
	loaded chan struct{}
	pass   chan struct{}
}

// BeforeQuery changes nothing.
func (*turnstile) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context { return ctx }

// AfterQuery holds the first call that asks for what is looked for.
func (g *turnstile) AfterQuery(ctx context.Context, event *bun.QueryEvent) {
	g.mu.Lock()
	held := g.needle != "" && ctx.Value(http.ServerContextKey) != nil && strings.Contains(event.Query, g.needle)
	if held {
		g.needle = ""
	}
	g.mu.Unlock()
	if held {
		close(g.loaded)
		<-g.pass
	}
}

func (g *turnstile) hold(needle string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.needle, g.loaded, g.pass = needle, make(chan struct{}), make(chan struct{})
}

// staleFill is a thing that is read and written: what its cache is called,
// what a query for it holds, and what readers see before and after the write.
type staleFill struct {
	cache, needle string
	read          func(ctx context.Context, i int) string
	write         func(ctx context.Context) error
	before, after string
}

// staleFills are the kinds of entries, each with one of its own.
func (w *world) staleFills() []staleFill {
	w.Helper()
	host, guest, reader := w.player(), w.player(), w.player()
	room := w.room(host.person, 4)
	profile := &free2talkv1.UpdateProfileRequest{Profile: &free2talkv1.User{Bio: "new"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"bio"}}}
	person := func(key *free2talkv1.GetUserRequest) func(context.Context, int) string {
		return func(ctx context.Context, i int) string {
			reply, err := reader.at[i].Users.GetUser(ctx, key)
			return client.Reason(err) + reply.GetUser().GetBio() + reply.GetUser().GetUsername()
		}
	}
	newcomer := fmt.Sprintf("newcomer-%d", w.people.Add(1))
	return []staleFill{
		{"room", room.GetId(), func(ctx context.Context, i int) string {
			reply, err := reader.rooms(i).GetRoom(ctx, roomByID(room.GetId()))
			return fmt.Sprintf("%s version %d, %d seated", client.Reason(err), reply.GetRoom().GetVersion(), len(reply.GetParticipants()))
		}, func(ctx context.Context) error { return guest.join(ctx, 1, room.GetId()) }, " version 1, 1 seated", " version 2, 2 seated"},
		{"user", guest.id(), person(userByID(guest.id())), func(ctx context.Context) error {
			_, err := guest.at[1].Users.UpdateProfile(ctx, profile)
			return err
		}, guest.Username, "new" + guest.Username},
		{"username", newcomer, person(userByName(newcomer)), func(ctx context.Context) error {
			_, err := w.client(w.nodes[1]).Register(ctx, newcomer+"@example.org", newcomer, password)
			return err
		}, client.ReasonUserNotFound, newcomer},
	}
}

func userByID(id string) *free2talkv1.GetUserRequest {
	return &free2talkv1.GetUserRequest{Key: &free2talkv1.GetUserRequest_Id{Id: id}}
}

func userByName(name string) *free2talkv1.GetUserRequest {
	return &free2talkv1.GetUserRequest{Key: &free2talkv1.GetUserRequest_Username{Username: name}}
}

// Resolution 5: a reader loads on one node; on the other a write is made and
// acknowledged; then the reader fills the cache. It never wins.
func TestAReaderWhoLoadedBeforeAWriteNeverPutsItBack(t *testing.T) {
	for _, between := range []bool{false, true} {
		t.Run(fmt.Sprintf("somebody read in between: %v", between), func(t *testing.T) {
			gate := &turnstile{}
			w := newWorld(t, onPostgres, 2, func(s *Settings) { s.watch = gate })
			w.redisUsed()
			for _, s := range w.staleFills() {
				t.Run(s.cache, func(t *testing.T) { w.fillLate(t, gate, s, between) })
			}
		})
	}
}

func (w *world) fillLate(t *testing.T, gate *turnstile, s staleFill, between bool) {
	ctx := patient(t)
	gate.hold(s.needle)
	early := make(chan string, 1)
	go func() { early <- s.read(ctx, 0) }()
	<-gate.loaded
	if err := s.write(ctx); err != nil {
		t.Fatal(err)
	}
	acknowledged := time.Now()
	if between {
		if got := s.read(ctx, 1); got != s.after {
			t.Errorf("read after the write, before the late fill: %s", got)
		}
	}
	refused := w.measured(w.nodes[0], "free2talk_cache_fills_refused_total", `cache="`+s.cache+`"`)
	close(gate.pass)
	if got := <-early; got != s.before {
		t.Errorf("the late reader had loaded %s", got)
	}
	if more := w.measured(w.nodes[0], "free2talk_cache_fills_refused_total", `cache="`+s.cache+`"`) - refused; more != 1 {
		t.Errorf("%v fills were refused", more)
	}
	for i := range 2 * len(w.nodes) {
		got := s.read(ctx, i%len(w.nodes))
		for got != s.after && i == 0 && time.Since(acknowledged) < time.Second { // where it was not acknowledged (C1)
			got = s.read(ctx, 0)
		}
		if got != s.after {
			t.Errorf("read after the late fill, at node %d: %s", i%len(w.nodes), got)
		}
	}
}

// subject is a person and their room, both written again and again. The
// numbers in them are the least that a read may now see.
type subject struct {
	*player
	guest      *player
	room, slug string
	name       floor // of the person, as a number
	version    floor // of the room
}

// floor is the least that a read may see: what was acknowledged, by which node,
// and when.
type floor struct {
	mu    sync.Mutex
	least []acknowledged // in the order of their times
}

type acknowledged struct {
	n    int64
	node int
	at   time.Time
}

func (f *floor) raise(node int, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.least = append(f.least, acknowledged{n, node, time.Now()})
}

// before is what a read may not miss that a node began then: what the node had
// acknowledged, and what any node had a second before.
func (f *floor) before(node int, then time.Time) (least int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	own := false
	for _, a := range slices.Backward(f.least) {
		switch {
		case !a.at.After(then.Add(-time.Second)):
			return max(least, a.n)
		case a.node == node && !own && !a.at.After(then):
			least, own = a.n, true
		}
	}
	return least
}

// weather is a run of random reads and writes over all nodes.
type weather struct {
	*world
	ctx           context.Context
	over          atomic.Bool
	subjects      []*subject
	reader        *player
	reads, writes atomic.Int64
}

// Resolutions 5 and 4, C1: no read sees anything older than what was
// acknowledged a second before it began, whichever node read, whichever wrote;
// nor than what the node that is asked had acknowledged itself.
func TestC1_no_read_is_older_than_an_acknowledged_write(t *testing.T) {
	w := newWorld(t, onPostgres, 3, func(s *Settings) { s.Unattended = 0 }) // nobody is connected, and the rooms stay open
	w.redisUsed()
	r := &weather{world: w, ctx: patient(t), reader: w.player()}
	for range 4 {
		s := &subject{player: w.player(), guest: w.player()}
		room := w.room(s.person, 4)
		s.room, s.slug = room.GetId(), room.GetSlug()
		r.subjects = append(r.subjects, s)
	}
	var all sync.WaitGroup
	for _, s := range r.subjects {
		for _, write := range []func(*subject, int64) error{r.rename, r.edit, r.comeAndGo} {
			all.Go(func() { r.repeat(func(n int64) error { return write(s, n) }, &r.writes, 5*time.Millisecond) })
		}
	}
	for range 8 {
		all.Go(func() { r.repeat(r.look, &r.reads, 0) })
	}
	wait(r.ctx, testenv.Effort(8*time.Second, 10*time.Minute))
	r.eventually(2*time.Minute, "enough happens to prove something", r.enough)
	r.over.Store(true)
	all.Wait()
	r.report()
}

// enough is whether so much was read and written, and read from near, that what
// is stale would show.
func (r *weather) enough() bool {
	near := 0.0
	for _, n := range r.nodes {
		near += r.measured(n, "free2talk_cache_requests_total", `layer="near"`, `result="hit"`)
	}
	return r.reads.Load() >= 100 && r.writes.Load() >= 100 && near >= 100
}

func (r *weather) repeat(f func(n int64) error, count *atomic.Int64, pause time.Duration) {
	for n := int64(1); !r.over.Load() && !r.Failed(); n++ {
		if err := f(n); err != nil {
			r.Error(err)
			return
		}
		count.Add(1)
		if pause > 0 {
			<-time.After(rand.N(pause))
		}
	}
}

func (r *weather) rename(s *subject, n int64) error {
	i := rand.IntN(len(s.at))
	_, err := s.at[i].Users.UpdateProfile(r.ctx, &free2talkv1.UpdateProfileRequest{
		Profile: &free2talkv1.User{DisplayName: strconv.FormatInt(n, 10)}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"display_name"}},
	})
	if err == nil {
		s.name.raise(i, n)
	}
	return err
}

func (r *weather) edit(s *subject, n int64) error {
	i := rand.IntN(len(s.at))
	reply, err := s.rooms(i).UpdateRoom(r.ctx, &free2talkv1.UpdateRoomRequest{
		Room: &free2talkv1.Room{Id: s.room, Topic: strconv.FormatInt(n, 10)}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"topic"}},
	})
	s.version.raise(i, reply.GetRoom().GetVersion())
	return err
}

func (r *weather) comeAndGo(s *subject, n int64) error {
	i := rand.IntN(len(s.at))
	if n%2 == 0 {
		return s.guest.leave(r.ctx, i, s.room)
	}
	reply, err := s.guest.rooms(i).JoinRoom(r.ctx, &free2talkv1.JoinRoomRequest{RoomId: s.room})
	s.version.raise(i, reply.GetRoom().GetVersion())
	return err
}

// look reads one thing in one of the ways there are.
func (r *weather) look(int64) error {
	s, i, began := r.subjects[rand.IntN(len(r.subjects))], rand.IntN(len(r.nodes)), time.Now()
	key := roomByID(s.room)
	switch rand.IntN(6) {
	case 0:
		key = &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Slug{Slug: s.slug}}
	case 1:
		reply, err := r.reader.at[i].Users.GetUser(r.ctx, userByID(s.id()))
		return r.compare(err, &s.name, i, began, numbered(reply.GetUser().GetDisplayName()))
	case 2:
		reply, err := r.reader.at[i].Users.GetUser(r.ctx, userByName(s.Username))
		return r.compare(err, &s.name, i, began, numbered(reply.GetUser().GetDisplayName()))
	case 3:
		reply, err := r.reader.at[i].Users.BatchGetUsers(r.ctx, &free2talkv1.BatchGetUsersRequest{Ids: []string{s.id()}})
		if err != nil || len(reply.GetUsers()) != 1 {
			return fmt.Errorf("users: %v, %w", reply, err)
		}
		return r.compare(err, &s.name, i, began, numbered(reply.GetUsers()[0].GetDisplayName()))
	}
	reply, err := r.reader.rooms(i).GetRoom(r.ctx, key)
	if err := r.compare(err, &s.version, i, began, reply.GetRoom().GetVersion()); err != nil {
		return err
	}
	return r.compare(err, &s.name, i, began, numbered(reply.GetRoom().GetOwner().GetDisplayName()))
}

// numbered is the number in a name, and 0 in the one that people begin with.
func numbered(name string) int64 {
	n, err := strconv.ParseInt(name, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// compare refuses what is older than it may be.
func (r *weather) compare(err error, f *floor, node int, began time.Time, seen int64) error {
	if least := f.before(node, began); err == nil && seen < least {
		return fmt.Errorf("node %d read %d after %d was acknowledged", node, seen, least)
	}
	return err
}

func (r *weather) report() {
	r.Helper()
	testenv.Record(r, testenv.Figure{Row: "C1", What: "stale reads", Of: r.reads.Load(), Each: "reads beside random writes, 3 nodes"})
	hits, near, refused := 0.0, 0.0, 0.0
	for _, n := range r.nodes {
		hits += r.measured(n, "free2talk_cache_requests_total", `result="hit"`)
		near += r.measured(n, "free2talk_cache_requests_total", `layer="near"`, `result="hit"`)
		refused += r.measured(n, "free2talk_cache_fills_refused_total")
		if stale := r.measured(n, "free2talk_cache_requests_total", `result="stale"`); stale > 0 {
			r.Errorf("the cache itself found %v stale entries", stale)
		}
	}
	r.Logf("%d reads, %d writes, %v hits, %v of them near, %v late fills refused", r.reads.Load(), r.writes.Load(), hits, near, refused)
}

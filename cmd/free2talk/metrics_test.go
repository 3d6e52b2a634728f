package main

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// figures are the series of /metrics, without the labels that say who measures.
type figures map[string]float64

func figuresOf(t testing.TB, text string) figures {
	t.Helper()
	all := figures{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(strings.TrimSpace(line), ' ')
		value, err := strconv.ParseFloat(strings.TrimSpace(line[i:]), 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all[line[:i]] = value
	}
	return all
}

func (n *testNode) figures(t testing.TB) figures {
	t.Helper()
	answer := httptest.NewRecorder()
	n.telemetry.Handler().ServeHTTP(answer, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	return figuresOf(t, answer.Body.String())
}

// counted are the families that count what callers do, and nothing else.
var counted = regexp.MustCompile(`^free2talk_(cache_requests_total|limiter_decisions_total|argon2_done_total|rpc_duration_seconds_count)`)

// moved is what changed of the counted families since before.
func (f figures) moved(before figures) figures {
	moved := figures{}
	for series, value := range f {
		if by := value - before[series]; by != 0 && counted.MatchString(series) {
			moved[strings.TrimPrefix(series, "free2talk_")] = by
		}
	}
	return moved
}

// expect says that exactly these counters moved, by exactly as much.
func (f figures) expect(t *testing.T, step string, want figures) {
	t.Helper()
	for _, series := range slices.Sorted(maps.Keys(f)) {
		if f[series] != want[series] {
			t.Errorf("%s: %s moved by %v, want %v", step, series, f[series], want[series])
		}
	}
	for _, series := range slices.Sorted(maps.Keys(want)) {
		if _, ok := f[series]; !ok {
			t.Errorf("%s: %s did not move, want %v", step, series, want[series])
		}
	}
}

func rpc(method, code string) string {
	return `rpc_duration_seconds_count{code="` + code + `",method="free2talk.v1.` + method + `"}`
}

func cached(cache, result string) string {
	return `cache_requests_total{cache="` + cache + `",layer="redis",result="` + result + `"}`
}

func near(cache, result string) string {
	return `cache_requests_total{cache="` + cache + `",layer="near",result="` + result + `"}`
}

func limited(policy, result, mode string) string {
	return `limiter_decisions_total{mode="` + mode + `",policy="` + policy + `",result="` + result + `"}`
}

// TestMetricsMoveExactly: each step of a script moves the counters that it
// should, by as much as it should, and no other.
func TestMetricsMoveExactly(t *testing.T) {
	w := newWorld(t, onPostgres, 1, withLimits(t, "api=1000/1m,auth=2/15m,room_create=1/1h"))
	w.redisUsed()
	n := w.nodes[0]
	anybody := w.client(n)
	var ada *client.Client
	var room string
	for _, step := range []struct {
		name string
		do   func()
		want figures
	}{
		{"nothing", func() {}, figures{}},
		{"a registration", func() { _, ada = w.registered(n, "ada") }, figures{
			rpc("AuthService/Register", "ok"): 1, "argon2_done_total": 1,
			limited("api", "allowed", "redis"): 1, limited("auth", "allowed", "redis"): 1,
		}},
		{"two wrong passwords", func() { w.fails(2, "AuthService.Login", `{"username":"ada","password":"wrong"}`, "BAD_CREDENTIALS") }, figures{
			rpc("AuthService/Login", "unauthenticated"): 2, "argon2_done_total": 2,
			limited("auth", "allowed", "redis"): 2,
		}},
		{"the third, which is not looked at", func() { w.fails(1, "AuthService.Login", `{"username":"ada","password":"wrong"}`, "RATE_LIMITED") }, figures{
			rpc("AuthService/Login", "resource_exhausted"): 1,
			limited("auth", "refused", "memory"):           1,
		}},
		{"a typing error", func() { w.fails(3, "RoomService.ListRooms", `{"pageSize":-1}`, "invalid_argument") }, figures{
			rpc("RoomService/ListRooms", "invalid_argument"): 3, limited("api", "allowed", "redis"): 3,
		}},
		{"a room", func() { room = openRoom(t, ada) }, figures{
			rpc("RoomService/CreateRoom", "ok"): 1, limited("api", "allowed", "redis"): 1, limited("room_create", "allowed", "redis"): 1,
		}},
		{"three looks at it", func() { look(t, anybody, 3, room, connect.Code(0)) }, figures{
			rpc("RoomService/GetRoom", "ok"): 3, limited("api", "allowed", "redis"): 3, cached("room", "miss"): 1, near("room", "hit"): 2,
		}},
		{"three looks at none", func() { look(t, anybody, 3, talk.NewID(), connect.CodeNotFound) }, figures{
			rpc("RoomService/GetRoom", "not_found"): 3, limited("api", "allowed", "redis"): 3, cached("room", "miss"): 1, near("room", "negative"): 2,
		}},
		{"a change of it, and a look", func() {
			if _, err := ada.Rooms.UpdateRoom(t.Context(), &free2talkv1.UpdateRoomRequest{Room: &free2talkv1.Room{Id: room, Topic: "tea"}}); err != nil {
				t.Error(err)
			}
			look(t, anybody, 1, room, connect.Code(0))
		}, figures{
			rpc("RoomService/UpdateRoom", "ok"): 1, rpc("RoomService/GetRoom", "ok"): 1, limited("api", "allowed", "redis"): 2, cached("room", "miss"): 1,
		}},
		{"nobody's call", func() { w.fails(2, "RoomService.CreateRoom", `{"name":"Mine","languages":["es"]}`, "TOKEN_MISSING") }, figures{
			rpc("RoomService/CreateRoom", "unauthenticated"): 2, limited("api", "allowed", "redis"): 2,
		}},
		{"pages", func() { w.get(n, "/healthz"); w.get(n, "/readyz"); w.get(n, "/nope") }, figures{}},
	} {
		before := n.figures(t)
		step.do()
		n.figures(t).moved(before).expect(t, step.name, step.want)
	}
	w.bounded(n.figures(t))
}

// fails makes a raw call so many times, which must come to that.
func (w *world) fails(times int, method, body, want string) {
	w.Helper()
	for range times {
		if got, said := w.raw(w.nodes[0], methods()[method], "json", []byte(body), ""); got != want {
			w.Errorf("%s: %s, want %s: %s", method, got, want, said)
		}
	}
}

func openRoom(t *testing.T, c *client.Client) string {
	t.Helper()
	reply, err := c.Rooms.CreateRoom(t.Context(), &free2talkv1.CreateRoomRequest{Name: "Counted", Languages: []string{"es"}})
	if err != nil {
		t.Fatal(err)
	}
	return reply.GetRoom().GetId()
}

func look(t *testing.T, c *client.Client, times int, room string, want connect.Code) {
	t.Helper()
	for range times {
		_, err := c.Rooms.GetRoom(t.Context(), &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: room}})
		if err == nil && want != 0 || err != nil && connect.CodeOf(err) != want {
			t.Errorf("a look: %v", err)
		}
	}
}

var (
	anyID   = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-|127\.0\.0\.1|\[::1\]|@example`)
	labels  = regexp.MustCompile(`(\w+)="([^"]*)"`)
	general = []string{"target_info", "go_info"} // once a process: they name the node
)

// bounded says that no label holds what a caller chose or who they are, so
// that there are as many series after a year as after a day.
func (w *world) bounded(all figures) {
	w.Helper()
	values := map[string]map[string]bool{}
	for series := range all {
		if slices.ContainsFunc(general, func(name string) bool { return strings.HasPrefix(series, name) }) {
			continue
		}
		if anyID.MatchString(series) {
			w.Errorf("%s names somebody", series)
		}
		for _, l := range labels.FindAllStringSubmatch(series, -1) {
			if values[l[1]] == nil {
				values[l[1]] = map[string]bool{}
			}
			values[l[1]][l[2]] = true
		}
	}
	for label, said := range values {
		if len(said) > 64 {
			w.Errorf("the label %s has %d values", label, len(said))
		}
	}
}

const others = 20 // series more, of the runtime and the pools

func newlyCounted(before, after figures) (found []string) {
	for series := range after {
		if _, ok := before[series]; !ok && counted.MatchString(series) {
			found = append(found, series)
		}
	}
	return found
}

// TestMetricsStayBounded: a crowd that calls what there is and what there is
// not makes no series but those that there are.
func TestMetricsStayBounded(t *testing.T) {
	w := newWorld(t, onPostgres, 1, withLimits(t, "api=100000/1m,auth=off"))
	w.redisUsed()
	n := w.nodes[0]
	crowd := func() {
		for range 20 {
			p := w.person()
			room := w.room(p, 5)
			look(t, p.Client, 2, room.GetId(), connect.Code(0))
			look(t, p.Client, 1, talk.NewID(), connect.CodeNotFound)
			w.post(n, "/free2talk.v1.RoomService/Nope"+p.Username, "application/json", []byte(`{}`), "").Body.Close()
			w.post(n, "/nope/"+p.Username, "application/json", []byte(`{}`), "").Body.Close()
		}
	}
	crowd()
	before, after := figures{}, n.figures(t)
	for range 5 { // what happens now and then, as that Redis is late, makes series of its own the first time
		before = after
		crowd()
		after = n.figures(t)
		if len(newlyCounted(before, after)) == 0 && len(after)-len(before) <= others {
			break
		}
	}
	for _, series := range newlyCounted(before, after) {
		t.Errorf("a new series: %s", series)
	}
	if more := len(after) - len(before); more > others {
		t.Errorf("%d series more after the last crowd", more)
	}
	w.bounded(after)
}

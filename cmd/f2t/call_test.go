package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

func TestCall(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	ada := s.register("ada")
	room := s.room(ada, "Tapas y charla")
	me := shellAt(t, s.url)
	says(t, me.run("call").ok(t), "free2talk.v1.RoomService/WatchRooms", "stream", "anybody", "users", "grpc.health.v1.Health/Check")
	if got := parsed[[]map[string]any](t, me.run("call", "-o", "json").ok(t)); len(got) < 30 {
		t.Errorf("%d methods", len(got))
	}
	for _, name := range []string{"ListRooms", "listrooms", "RoomService.ListRooms", "RoomService/ListRooms", "free2talk.v1.RoomService/ListRooms", "/free2talk.v1.RoomService/ListRooms"} {
		got := parsed[map[string]any](t, me.run("call", name, `{"language": "es"}`).ok(t))
		if got["totalSize"] != 1.0 {
			t.Errorf("%s: %v", name, got)
		}
	}
	says(t, me.runWith(`{"id": "`+room.GetId()+`"}`, "call", "GetRoom", "-").ok(t), room.GetSlug())
	me.run("call", "GetRoom", `{"id": "x"}`).fails(t, exitUsage, "UUID")
	me.run("call", "GetRoom", `{"idd": "x"}`).fails(t, exitUsage, "GetRoomRequest", "idd")
	me.run("call", "GetRoom", `{`).fails(t, exitUsage, "GetRoomRequest")
	me.run("call", "GetRoom", `{} {}`).fails(t, exitUsage, "one message, not 2")
	me.run("call", "Nope").fails(t, exitUsage, "no method", "f2t call")
	me.run("call", "Check").ok(t)
	me.run("call", "GetMe").fails(t, exitNoSession, "TOKEN_MISSING", "login")
	me.login("ada")
	says(t, me.run("call", "GetMe").ok(t), "ada@example.org")
	says(t, me.run("call", "LeaveRoom", `{"roomId": "`+room.GetId()+`"}`).ok(t), "{}")
}

// Streams are lines of JSON until Ctrl-C, and so are those in both directions.
func TestCallStreams(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	me := shellAt(t, s.url)
	out, log, stop := me.begin("call", "WatchRooms")
	out.has(t, `^\{"cursor":.*"snapshot":\{`)
	s.room(s.register("ada"), "Tapas y charla")
	out.has(t, `"roomCreated":.*Tapas y charla.*\n$`)
	if code := stop(); code != exitDone || log.String() != "" {
		t.Errorf("Ctrl-C: exit %d: %s", code, log)
	}
	r := me.run("call", "grpc.reflection.v1.ServerReflection/ServerReflectionInfo", `{"listServices": ""} {"fileByFilename": "nope.proto"}`)
	if lines := strings.Count(r.ok(t), "\n"); lines != 2 {
		t.Errorf("%d answers: %s", lines, r.out)
	}
	me.run("call", "WatchRoom", `{"roomId": "`+"01a217ee-758a-7510-8db5-f3b1fb47221b"+`"}`).fails(t, exitNoSession, "TOKEN_MISSING")
}

// Behind a proxy that speaks HTTP/1.1 alone there is no reflection; what this
// program knows itself will do.
func TestCallWithoutReflection(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	target, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "reflection") {
			http.NotFound(w, r)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	defer proxy.Close()
	me := shellAt(t, proxy.URL)
	if got := parsed[map[string]any](t, me.run("call", "ListRooms").ok(t)); got["totalSize"] != 0.0 {
		t.Errorf("%v", got)
	}
}

// Nothing of the contract is missing where reflection is.
func TestCompiledInIsTheWholeContract(t *testing.T) {
	t.Parallel()
	services := map[protoreflect.FullName]bool{}
	for _, m := range compiledIn().methods {
		services[m.Parent().FullName()] = true
		if a := access(m); a == "" {
			t.Errorf("%s is for nobody", m.FullName())
		}
	}
	if len(services) != 5 {
		t.Errorf("%v", services)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	me := shellAt(t, s.url)
	says(t, me.run("load", "--for", "300ms", "--at-once", "2").ok(t), "calls of ListRooms", "a second", "p50", "p99", "max")
	got := parsed[map[string]any](t, me.run("load", "CountOnline", "--for", "500ms", "--rate", "100", "-o", "json").ok(t))
	if calls := got["calls"].(float64); calls < 5 || calls > 52 {
		t.Errorf("%v calls in half a second at 100 a second", calls)
	}
	if got["milliseconds"].(map[string]any)["p99"].(float64) <= 0 {
		t.Errorf("%v", got)
	}
	me.run("load", "WatchRooms").fails(t, exitUsage, "stream")
	me.run("load", "--at-once", "0").fails(t, exitUsage, "--at-once")
	r := me.run("load", "GetMe", "--for", "200ms")
	if r.code != exitNotNow || !strings.Contains(r.out, "TOKEN_MISSING") {
		t.Errorf("exit %d: %s%s", r.code, r.out, r.log)
	}
}

func TestLoadIsToldOfLimits(t *testing.T) {
	t.Parallel()
	s := embedded(t, "--rate-limits=api=3/1m")
	r := shellAt(t, s.url).run("load", "--for", "300ms")
	says(t, r.ok(t), "RATE_LIMITED")
	says(t, r.log, "--rate-limits api=off")
}

// Ctrl-C ends a measurement early; what was measured is shown.
func TestLoadInterrupted(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	out, log, stop := shellAt(t, s.url).begin("load", "--for", "1h")
	s.eventually("calls", func() bool { return s.calls("ListRooms") > 10 })
	if code := stop(); code != exitInterrupted {
		t.Errorf("exit %d: %s", code, log)
	}
	says(t, out.String(), "calls of ListRooms", "p50")
}

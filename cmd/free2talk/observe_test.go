package main

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
)

// becomes waits until a gauge of n is so.
func (w *world) becomes(n *testNode, series string, want float64) {
	w.Helper()
	w.eventually(15*time.Second, fmt.Sprintf("%s = %v", series, want), func() bool {
		got, there := n.figures(w)[series]
		return there && got == want
	})
}

// online keeps somebody online until the returned function is called.
func (w *world) online(p *person, n *testNode) (stop func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.Context())
	there := make(chan struct{})
	var once sync.Once
	var run sync.WaitGroup
	run.Go(func() {
		for _, err := range w.as(n, p).Connect(ctx) {
			if err != nil {
				break
			}
			once.Do(func() { close(there) })
		}
	})
	w.eventually(10*time.Second, "somebody is online", func() bool {
		select {
		case <-there:
			return true
		default:
			return false
		}
	})
	return func() { cancel(); run.Wait() }
}

// TestGauges: what is there is what is told: sessions, rooms, who is online,
// streams, and that Redis counts the connections that there are.
func TestGauges(t *testing.T) {
	w := newWorld(t, onPostgres, 2)
	w.redisUsed()
	one, other := w.nodes[0], w.nodes[1]
	ada, bob, eve := w.person(), w.person(), w.person()
	w.becomes(one, "free2talk_sessions", 3)
	w.room(ada, 4)
	w.becomes(other, "free2talk_rooms", 1)
	w.becomes(one, "free2talk_nodes", 2)
	stopAda, stopBob := w.online(ada, one), w.online(bob, other)
	for _, n := range w.nodes {
		w.becomes(n, "free2talk_online_users", 2)
		w.becomes(n, "free2talk_connections", 1)
		w.becomes(n, "free2talk_streams", 1)
		w.becomes(n, "free2talk_presence_drift", 0)
	}
	if _, err := eve.Auth.Logout(t.Context(), &free2talkv1.LogoutRequest{}); err != nil {
		t.Fatal(err)
	}
	w.becomes(other, "free2talk_sessions", 2)
	stopAda()
	stopBob()
	for _, n := range w.nodes {
		w.becomes(n, "free2talk_connections", 0)
		w.becomes(n, "free2talk_streams", 0)
		w.becomes(n, "free2talk_presence_drift", 0)
	}
}

// TestDriftIsToldAndRepaired: where Redis forgets who is connected, the node
// says that it had to be told again, and then that all is right.
func TestDriftIsToldAndRepaired(t *testing.T) {
	own := testenv.StartRedis(t)
	w := newWorld(t, onOwnRedis(own), 1)
	w.redisUsed()
	n := w.nodes[0]
	for range 3 {
		defer w.online(w.person(), n)()
	}
	w.becomes(n, "free2talk_online_users", 3)
	before := n.figures(t)["free2talk_presence_repaired_total"]
	redis := askOf(t, own)
	if err := redis.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	w.becomes(n, "free2talk_presence_repaired_total", before+3)
	w.becomes(n, "free2talk_presence_drift", 0)
	w.becomes(n, "free2talk_online_users", 3)
}

// TestStoresAreMeasured: each statement and each round trip is counted, and
// the events that go out.
func TestStoresAreMeasured(t *testing.T) {
	w := newWorld(t, onPostgres, 1, withLimits(t, "api=1000/1m"))
	w.redisUsed()
	n := w.nodes[0]
	ada := w.person()
	before := n.figures(t)
	w.room(ada, 4)
	after := n.figures(t)
	for series, least := range map[string]float64{
		`free2talk_database_statement_seconds_count{operation="batch"}`: 1,
		`free2talk_redis_round_trip_seconds_count{role="limiter"}`:      1,
		`free2talk_redis_round_trip_seconds_count{role="bus"}`:          1,
		`free2talk_events_published_total`:                              2, // the room's, and ada's that she sits in it
		`free2talk_changes_total`:                                       1,
	} {
		if by := after[series] - before[series]; by < least {
			t.Errorf("%s moved by %v, want at least %v", series, by, least)
		}
	}
	for _, series := range []string{
		`free2talk_database_connections_limit`, `free2talk_redis_memory_used_bytes`, `free2talk_redis_connections{state="idle"}`,
	} {
		if after[series] <= 0 {
			t.Errorf("%s is %v", series, after[series])
		}
	}
}

// spans is a collector of traces.
type spans struct {
	mu  sync.Mutex
	all []*tracepb.Span
}

// ServeHTTP takes what the OTLP exporter sends.
func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		unpacked, err := gzip.NewReader(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = unpacked
	}
	raw, err := io.ReadAll(body)
	sent := &collector.ExportTraceServiceRequest{}
	if err == nil {
		err = proto.Unmarshal(raw, sent)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, resource := range sent.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			s.all = append(s.all, scope.GetSpans()...)
		}
	}
}

// under are the spans of the trace whose root has that name, root first.
func (s *spans) under(root string) []*tracepb.Span {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.all, func(span *tracepb.Span) bool { return span.GetName() == root })
	if i < 0 {
		return nil
	}
	trace := []*tracepb.Span{s.all[i]}
	for _, span := range s.all {
		if span != s.all[i] && string(span.GetTraceId()) == string(s.all[i].GetTraceId()) {
			trace = append(trace, span)
		}
	}
	return trace
}

// collected starts a collector, and has what starts afterwards send it all.
func collected(t *testing.T, sampler string) *spans {
	t.Helper()
	s := &spans{}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", server.URL+"/v1/traces")
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
	t.Setenv("OTEL_TRACES_SAMPLER", sampler)
	return s
}

// TestTraces: one trace goes from the call through Postgres and Redis, and no
// part of it tells what people said.
func TestTraces(t *testing.T) {
	s := collected(t, "always_on")
	w := newWorld(t, onPostgres, 1, withLimits(t, "api=1000/1m"))
	w.redisUsed()
	room := w.room(w.person(), 4)
	const root = "free2talk.v1.RoomService/CreateRoom"
	kinds := func() (database, redis int) {
		for _, span := range s.under(root) {
			for _, attribute := range span.GetAttributes() {
				if strings.HasPrefix(attribute.GetKey(), "db.system") {
					switch attribute.GetValue().GetStringValue() {
					case "redis":
						redis++
					case "postgresql":
						database++
					}
				}
			}
		}
		return database, redis
	}
	w.eventually(10*time.Second, "a trace of the call, the database and Redis", func() bool {
		database, redis := kinds()
		return database > 0 && redis > 0
	})
	for _, span := range s.under(root) {
		if text := span.String(); strings.Contains(text, room.GetName()) || strings.Contains(text, password) {
			t.Errorf("a span tells what somebody said: %s", text)
		}
	}
	example(t, w, s.under(root)[0])
}

// example says that /metrics links the latency of a call to its trace.
func example(t *testing.T, w *world, span *tracepb.Span) {
	t.Helper()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	request.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	answer := httptest.NewRecorder()
	w.nodes[0].telemetry.Handler().ServeHTTP(answer, request)
	want := fmt.Sprintf("trace_id=%q", fmt.Sprintf("%x", span.GetTraceId()))
	for line := range strings.Lines(answer.Body.String()) {
		if strings.HasPrefix(line, "free2talk_rpc_duration_seconds_bucket{") && strings.Contains(line, want) {
			return
		}
	}
	t.Errorf("no example with %s in the metrics", want)
}

// TestSampling: the standard variables decide what is traced.
func TestSampling(t *testing.T) {
	s := collected(t, "always_off")
	w := newWorld(t, onEmbedded, 1)
	look(t, w.client(w.nodes[0]), 5, w.room(w.person(), 4).GetId(), 0)
	w.nodes[0].stop() // sends what is left
	if s.mu.Lock(); len(s.all) > 0 {
		t.Errorf("%d spans in spite of always_off", len(s.all))
	}
	s.mu.Unlock()
}

// TestProfiles: they are where the metrics are, and not where clients are.
func TestProfiles(t *testing.T) {
	p := launch(t, nil, embeddedFlags(t.TempDir())...).serving()
	w := worldOf(t, p)
	for path, want := range map[string]int{"/debug/pprof/": http.StatusOK, "/debug/pprof/heap": http.StatusOK, "/debug/pprof/cmdline": http.StatusOK} {
		if code, _ := w.get(&testNode{url: strings.TrimSuffix(p.metrics, "/metrics")}, path); code != want {
			t.Errorf("%s beside the metrics: %d", path, code)
		}
		if code, _ := w.get(p.testNode, path); code != http.StatusNotFound {
			t.Errorf("%s where clients connect: %d", path, code)
		}
	}
}

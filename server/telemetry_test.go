package server

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/free2talk/free2talk/server/talk"
)

// scrape reads what Prometheus would.
func scrape(t *testing.T, telemetry *Telemetry) string {
	t.Helper()
	w := httptest.NewRecorder()
	telemetry.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("metrics: %d", w.Code)
	}
	return w.Body.String()
}

func newTelemetry(t *testing.T, c TelemetryConfig) *Telemetry {
	t.Helper()
	telemetry, err := NewTelemetry(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = telemetry.Shutdown(context.WithoutCancel(t.Context())) })
	return telemetry
}

// Metrics are tested by counting: so many calls, so many counted.
func TestMetricsCount(t *testing.T) {
	t.Parallel()
	telemetry := newTelemetry(t, TelemetryConfig{Version: "1.2.3", Node: "n1"})
	e := newEdge(t, func(c *Config) { c.Telemetry = telemetry })
	room := `{"id": "` + aRoomID + `"}`
	for range 3 {
		e.post(getRoomPath, room)
	}
	e.fake.set(func(context.Context, string) error { return talk.ErrRoomNotFound })
	for range 2 {
		e.post(getRoomPath, room)
	}
	e.post(createRoomPath, `{}`)
	for _, path := range []string{"Nope", "Nope2", "Nope3"} {
		e.post("/free2talk.v1.RoomService/"+path, `{}`)
	}
	e.fake.set(func(context.Context, string) error { panic("at the disco") })
	e.post(getRoomPath, room)
	e.do(http.MethodPost, watchRoomsPath, newReader(envelope(0, 2, "{}")), "Content-Type: application/connect+json")
	metrics := scrape(t, telemetry)
	for _, want := range []string{
		`free2talk_rpc_duration_seconds_count{code="ok",method="free2talk.v1.RoomService/GetRoom"} 3`,
		`free2talk_rpc_duration_seconds_count{code="not_found",method="free2talk.v1.RoomService/GetRoom"} 2`,
		`free2talk_rpc_duration_seconds_count{code="internal",method="free2talk.v1.RoomService/GetRoom"} 1`,
		`free2talk_rpc_duration_seconds_count{code="unauthenticated",method="free2talk.v1.RoomService/CreateRoom"} 1`,
		`free2talk_rpc_duration_seconds_count{code="unimplemented",method="unknown"} 3`,
		`free2talk_rpc_duration_seconds_count{code="internal",method="free2talk.v1.RoomService/WatchRooms"} 1`,
		`free2talk_rpc_in_flight{method="free2talk.v1.RoomService/GetRoom"} 0`,
		`free2talk_rpc_panics_total 2`,
		`service_version="1.2.3"`,
		`go_goroutines `,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("not there: %s", want)
		}
	}
	if strings.Contains(metrics, "Nope") || strings.Contains(metrics, "127.0.0.1") {
		t.Error("a stranger's text is a label")
	}
}

func TestMetricsOfPasswords(t *testing.T) {
	t.Parallel()
	telemetry := newTelemetry(t, TelemetryConfig{})
	gate := talk.NewPasswords(1)
	if err := telemetry.Passwords(gate); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := gate.Hash(t.Context(), "correct horse"); err != nil {
			t.Fatal(err)
		}
	}
	metrics := scrape(t, telemetry)
	for _, want := range []string{"free2talk_argon2_done_total 2", "free2talk_argon2_refused_total 0", "free2talk_argon2_queued 0", "free2talk_argon2_running 0"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("not there: %s\n%s", want, metrics)
		}
	}
}

// The standard variables decide who gets the traces; by default nobody.
func TestTraces(t *testing.T) { //nolint:paralleltest // it sets the environment
	got := make(chan string, 16)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := new(strings.Builder)
		_, _ = fmt.Fprint(body, r.URL.Path)
		got <- body.String()
		w.WriteHeader(http.StatusOK)
	}))
	defer collector.Close()
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.URL+"/v1/traces")
	t.Setenv("OTEL_TRACES_SAMPLER", "always_on")
	for _, trust := range []bool{false, true} {
		telemetry := newTelemetry(t, TelemetryConfig{TrustRemote: trust})
		e := newEdge(t, func(c *Config) { c.Telemetry = telemetry })
		e.post(getRoomPath, `{"id": "`+aRoomID+`"}`)
		if err := telemetry.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if path := <-got; path != "/v1/traces" {
			t.Errorf("sent to %s", path)
		}
	}
	t.Setenv("OTEL_SDK_DISABLED", "true")
	if configured("TRACES") {
		t.Error("OTEL_SDK_DISABLED does nothing")
	}
}

// Without telemetry everything works, and nothing is measured.
func TestNoTelemetry(t *testing.T) {
	t.Parallel()
	var none *Telemetry
	none.panicked(t.Context())
	none.prepare(&rules{})
	if interceptor, err := none.interceptor(nil); err != nil || interceptor == nil {
		t.Error(err)
	}
}

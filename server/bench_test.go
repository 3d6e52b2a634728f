package server

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/free2talk/free2talk/server/talk"
)

// BenchmarkCall compares a call through everything with a bare Connect
// handler, both without a network: what the chain and the HTTP layer cost.
func BenchmarkCall(b *testing.B) {
	bare := http.NewServeMux()
	srv := connect.NewServer()
	(&fakeHandlers{}).register(srv)
	connecthttp.Mount(bare, srv)
	telemetry, err := NewTelemetry(b.Context(), TelemetryConfig{})
	if err != nil {
		b.Fatal(err)
	}
	log := NewLogWriter(io.Discard)
	defer log.Close()
	everything, err := newServer(Config{
		Identify: knows{}, Limiter: admits{}, Telemetry: telemetry,
		Log: slog.New(slog.NewJSONHandler(log, nil)),
	}, (&fakeHandlers{}).register)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		handler http.Handler
	}{{"bare", bare}, {"everything", everything}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, getRoomPath, strings.NewReader(`{"id": "`+aRoomID+`"}`))
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Authorization", "Bearer user-ada")
				r.RemoteAddr = "127.0.0.1:4711"
				w := httptest.NewRecorder()
				c.handler.ServeHTTP(w, r)
				if w.Code != http.StatusOK {
					b.Fatal(w.Body)
				}
			}
		})
	}
}

type knows struct{}

func (knows) Identify(context.Context, string, talk.Device) (talk.Caller, error) {
	return talk.Caller{UserID: "ada"}, nil
}

func (knows) IdentifyEnded(context.Context, string) (talk.Caller, error) { return talk.Caller{}, nil }

type admits struct{}

func (admits) Take(_ context.Context, l talk.Limit, _ string, _ int) (talk.Verdict, error) {
	return talk.Verdict{Limit: l, Allowed: true, Left: 99, Reset: time.Minute}, nil
}

func (admits) Begin(context.Context, talk.Limit, string) (talk.Attempt, talk.Verdict, error) {
	return nil, talk.Verdict{Allowed: true}, nil
}

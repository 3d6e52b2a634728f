package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpcreflect/v2"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	healthconnect "github.com/free2talk/free2talk/gen/grpc/health/v1/grpc_health_v1connect"
)

// newHealthEdge is an edge whose readiness the test says.
func newHealthEdge(t *testing.T) (e *edge, health healthconnect.HealthClient, state func(error)) {
	t.Helper()
	gate := make(chan error, 1)
	gate <- nil
	e = newEdge(t, func(c *Config) {
		c.Ready = func(context.Context) error { err := <-gate; gate <- err; return err }
	})
	return e, healthconnect.NewHealthClient(e.client(connecthttp.WithGRPC())), func(err error) { <-gate; gate <- err }
}

// watched is a watch of a server that has said that it serves.
func watched(t *testing.T, health healthconnect.HealthClient) healthconnect.HealthWatchClientStream {
	t.Helper()
	watch, err := health.Watch(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if res, err := watch.Receive(); err != nil || res.GetStatus() != serving {
		t.Fatalf("watch: %v, %v", res, err)
	}
	return watch
}

const (
	serving    = healthv1.HealthCheckResponse_SERVING
	notServing = healthv1.HealthCheckResponse_NOT_SERVING
)

func TestHealth(t *testing.T) {
	t.Parallel()
	e, health, state := newHealthEdge(t)
	check := func(service string) healthv1.HealthCheckResponse_ServingStatus {
		t.Helper()
		res, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		return res.GetStatus()
	}
	if check("") != serving || check("free2talk.v1.RoomService") != serving || e.do(http.MethodGet, "/readyz", nil).status != http.StatusOK {
		t.Error("a server that is ready does not say so")
	}
	if _, err := health.Check(t.Context(), &healthv1.HealthCheckRequest{Service: "nope"}); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("an unknown service: %v", err)
	}
	if list, err := health.List(t.Context(), &healthv1.HealthListRequest{}); err != nil || len(list.GetStatuses()) < 5 {
		t.Errorf("list: %v, %v", list, err)
	}
	state(errCanary)
	unready := e.do(http.MethodGet, "/readyz", nil)
	if check("") != notServing || unready.status != http.StatusServiceUnavailable || strings.Contains(unready.body, canary) {
		t.Errorf("not ready: %v", unready)
	}
	if e.do(http.MethodGet, "/healthz", nil).status != http.StatusOK {
		t.Error("who is not ready is not dead")
	}
}

func TestHealthWatch(t *testing.T) {
	t.Parallel()
	e, health, _ := newHealthEdge(t)
	watch := watched(t, health)
	e.drain()
	if res, err := watch.Receive(); err != nil || res.GetStatus() != notServing {
		t.Errorf("watch while draining: %v, %v", res, err)
	}
	if _, err := watch.Receive(); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("watch after draining: %v", err)
	}
	if got := e.do(http.MethodGet, "/readyz", nil); got.status != http.StatusServiceUnavailable {
		t.Errorf("readyz while draining: %d", got.status)
	}
}

func TestReflection(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	stream := grpcreflect.NewClient(e.client(connecthttp.WithGRPC())).NewStream(t.Context())
	defer stream.Close()
	names, err := stream.ListServices()
	if err != nil {
		t.Fatal(err)
	}
	all := ""
	for _, name := range names {
		all += string(name) + " "
	}
	for _, want := range []string{"free2talk.v1.RoomService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"} {
		if !strings.Contains(all, want) {
			t.Errorf("%s is not among %s", want, all)
		}
	}
}

// A call in flight finishes; a stream that hangs on is cut; nobody new gets in.
func TestShutdown(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	running, finish := make(chan struct{}), make(chan struct{})
	e.fake.set(func(context.Context, string) error {
		close(running)
		<-finish
		return nil
	})
	type result struct{ err error }
	called := make(chan result, 1)
	go func() {
		_, err := e.rooms().GetRoom(context.WithoutCancel(t.Context()), getARoom())
		called <- result{err}
	}()
	<-running
	down := make(chan error, 1)
	go func() { down <- e.Shutdown(context.WithoutCancel(t.Context())) }()
	<-e.drained
	close(finish)
	if r := <-called; r.err != nil {
		t.Errorf("the call in flight: %v", r.err)
	}
	if err := <-down; err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(e.url, "http://")); err == nil {
		t.Error("it still listens")
	}
}

func TestShutdownClosesWhatHangsOn(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	running := make(chan struct{})
	e.fake.set(func(ctx context.Context, _ string) error {
		close(running)
		<-ctx.Done()
		return ctx.Err()
	})
	called := make(chan error, 1)
	go func() {
		_, err := e.rooms().GetRoom(context.WithoutCancel(t.Context()), getARoom())
		called <- err
	}()
	<-running
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := e.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown: %v", err)
	}
	if err := <-called; err == nil {
		t.Error("a call that was cut succeeded")
	}
}

// While it drains, a server sends HTTP/1.1 callers away, call by call.
func TestDrainSendsCallersAway(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(c *Config) { c.DrainDelay = time.Nanosecond })
	e.drain()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.url+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := (&http.Client{Transport: &http.Transport{}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if !res.Close {
		t.Error("the connection was kept")
	}
}

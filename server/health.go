package server

import (
	"context"
	"errors"
	"slices"
	"time"

	"connectrpc.com/connect/v2"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	healthconnect "github.com/free2talk/free2talk/gen/grpc/health/v1/grpc_health_v1connect"
)

// watchEvery is how often a health stream looks again. The end it hears at once.
const watchEvery = time.Second

var errDraining = errors.New("draining")

// ready returns why the server should get no traffic.
func (s *Server) ready(ctx context.Context) error {
	if s.draining.Load() {
		return errDraining
	}
	if s.config.Ready == nil {
		return nil
	}
	return s.config.Ready(ctx)
}

func (s *Server) registerHealth(srv *connect.Server) {
	healthconnect.RegisterHealthHandler(srv, health{s})
}

// health is grpc.health.v1: readiness for those who speak gRPC. All services
// are ready together.
type health struct {
	server *Server
}

// Check says whether a service is ready; the empty name is the whole server.
func (h health) Check(ctx context.Context, req *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	if !h.knows(req.GetService()) {
		return nil, connect.NewError(connect.CodeNotFound, "there is no such service")
	}
	return h.status(ctx), nil
}

// List says it of all services.
func (h health) List(ctx context.Context, _ *healthv1.HealthListRequest) (*healthv1.HealthListResponse, error) {
	status := h.status(ctx)
	list := &healthv1.HealthListResponse{Statuses: map[string]*healthv1.HealthCheckResponse{"": status}}
	for _, service := range h.server.services {
		list.Statuses[service[1:len(service)-1]] = status
	}
	return list, nil
}

// Watch says it now and whenever it changes, until the server drains.
func (h health) Watch(ctx context.Context, req *healthv1.HealthCheckRequest, stream healthconnect.HealthWatchServerStream) error {
	again := time.NewTicker(watchEvery)
	defer again.Stop()
	said := healthv1.HealthCheckResponse_UNKNOWN
	for {
		leaving := h.server.draining.Load() // before the status, which says so too
		now := h.status(ctx)
		if !h.knows(req.GetService()) {
			now = &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVICE_UNKNOWN}
		}
		if now.GetStatus() != said {
			if err := stream.Send(now); err != nil {
				return err
			}
			said = now.GetStatus()
		}
		if leaving {
			return connect.NewError(connect.CodeUnavailable, "the server is leaving")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-h.server.retired:
			return connect.NewError(connect.CodeUnavailable, "another server answers here now")
		case <-h.server.drained:
		case <-again.C:
		}
	}
}

func (h health) knows(service string) bool {
	return service == "" || slices.Contains(h.server.services, "/"+service+"/")
}

func (h health) status(ctx context.Context) *healthv1.HealthCheckResponse {
	if h.server.ready(ctx) != nil {
		return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING}
	}
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}
}

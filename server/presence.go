package server

import (
	"context"

	"connectrpc.com/connect/v2"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
)

// errNotYet answers what comes with live events.
var errNotYet = connect.NewError(connect.CodeUnimplemented,
	"live events, messages and presence are declared and not served yet")

// presenceHandler is PresenceService, which comes with live events.
type presenceHandler struct{ live *liveParts }

var _ free2talkv1connect.PresenceServiceHandler = presenceHandler{}

// GetPresence comes with live events.
func (presenceHandler) GetPresence(context.Context, *freev1.GetPresenceRequest) (*freev1.GetPresenceResponse, error) {
	return nil, errNotYet
}

// ListOnlineUsers comes with live events.
func (presenceHandler) ListOnlineUsers(context.Context, *freev1.ListOnlineUsersRequest) (*freev1.ListOnlineUsersResponse, error) {
	return nil, errNotYet
}

// CountOnline comes with live events.
func (presenceHandler) CountOnline(context.Context, *freev1.CountOnlineRequest) (*freev1.CountOnlineResponse, error) {
	return nil, errNotYet
}

// WatchPresence comes with live events.
func (presenceHandler) WatchPresence(context.Context, *freev1.WatchPresenceRequest, free2talkv1connect.PresenceServiceWatchPresenceServerStream) error {
	return errNotYet
}

package server

import (
	"context"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/gen/free2talk/admin/v1/adminv1connect"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
	"github.com/free2talk/free2talk/server/talk"
)

// Services is what people can do here: the use cases that the handlers call.
type Services struct {
	Rooms     *talk.Rooms
	Accounts  *talk.Accounts
	People    *talk.People
	Admin     *talk.Admin
	Insight   *talk.Insight
	Analytics *talk.Analytics
}

// register puts a handler on the server for every service of free2talk.
func register(srv *connect.Server, c *Config, live *liveParts) {
	s := c.Services
	free2talkv1connect.RegisterAuthServiceHandler(srv, authHandler{s.Accounts})
	free2talkv1connect.RegisterUserServiceHandler(srv, userHandler{s.People, live})
	free2talkv1connect.RegisterRoomServiceHandler(srv, roomHandler{s.Rooms, live})
	free2talkv1connect.RegisterPresenceServiceHandler(srv, presenceHandler{live, s.People})
	adminv1connect.RegisterAdminServiceHandler(srv, adminHandler{
		admin: s.Admin, insight: s.Insight, analytics: s.Analytics, live: live, telemetry: c.Telemetry, about: c.About,
	})
}

// accountFrom is the caller where the chain let no anonymous one through.
func accountFrom(ctx context.Context) talk.Caller {
	caller, _ := callerFrom(ctx)
	return caller
}

// whoFrom is who [accountFrom] is.
func whoFrom(ctx context.Context) talk.UserID { return accountFrom(ctx).UserID }

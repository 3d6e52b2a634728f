package server

import (
	"context"

	"connectrpc.com/connect/v2"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// authorize holds the policy's access against who calls.
func (s *Server) authorize(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		if err := s.admit(ctx, requestFrom(ctx)); err != nil {
			return err
		}
		return next(ctx, spec, stream)
	}
}

func (s *Server) admit(ctx context.Context, q *request) error {
	switch q.rules.access {
	case free2talkv1.Access_ACCESS_PUBLIC:
		return nil
	case free2talkv1.Access_ACCESS_USER:
		if q.known || q.rules.acceptsCookie && q.cookie != "" {
			return nil
		}
		return talk.ErrTokenMissing
	case free2talkv1.Access_ACCESS_ADMIN:
		return s.admitAdmin(ctx, q)
	}
	return talk.ErrNotAdmin // an access that this server does not know
}

// admitAdmin reads the role anew: it is not in the token, which outlives it.
func (s *Server) admitAdmin(ctx context.Context, q *request) error {
	if !q.known {
		return talk.ErrTokenMissing
	}
	if s.config.Role == nil {
		return talk.ErrNotAdmin
	}
	role, err := s.config.Role(ctx, q.caller)
	if err != nil {
		return err
	}
	if role != talk.RoleAdmin {
		return talk.ErrNotAdmin
	}
	return nil
}

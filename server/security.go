package server

import (
	"context"
	"log/slog"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/server/talk"
)

// Events of security that the chain sees, under the names that the OWASP
// Logging Vocabulary gives them; those of accounts are logged by talk.
const (
	eventLoginLimit = "authn_login_limit" // somebody guesses passwords, and was stopped
	eventAuthzFail  = "authz_fail"        // somebody asked for what is not theirs
)

// guarded are the policies that stand in front of a password.
var guarded = map[string]bool{"auth": true, "strict": true}

// denied logs a call that was refused for who made it. Who is banned is told
// so by a login that failed, which talk logs.
func (s *Server) denied(ctx context.Context, q *request, procedure string, err error) {
	if connect.CodeOf(err) != connect.CodePermissionDenied || q.reason == talk.ErrBanned.Reason {
		return
	}
	s.security(ctx, eventAuthzFail, slog.String("procedure", procedure), slog.String("reason", q.reason))
}

// guessed logs a refusal by a limit that stands in front of a password.
func (s *Server) guessed(ctx context.Context, q *request, policy string) {
	if guarded[policy] {
		s.security(ctx, eventLoginLimit, slog.String("procedure", q.rules.procedure), slog.String("policy", policy))
	}
}

func (s *Server) security(ctx context.Context, event string, more ...slog.Attr) {
	s.config.Log.LogAttrs(ctx, slog.LevelInfo, "security", append([]slog.Attr{slog.String("event", event)}, more...)...)
}

// callHandler adds to every record that is logged in the course of a call
// which one it was, where it came from and who made it, so that talk need not
// know of calls. Times are UTC.
type callHandler struct{ slog.Handler }

// Handle adds what the record does not say itself.
func (h callHandler) Handle(ctx context.Context, r slog.Record) error {
	r.Time = r.Time.UTC()
	q, ok := ctx.Value(requestKey{}).(*request)
	if !ok || q.id == "" {
		return h.Handler.Handle(ctx, r)
	}
	attributed := false
	r.Attrs(func(a slog.Attr) bool {
		attributed = attributed || a.Key == "actor"
		return !attributed
	})
	r = r.Clone()
	r.AddAttrs(slog.String("request_id", q.id), slog.String("address", q.device.IP))
	if q.known && !attributed {
		r.AddAttrs(slog.String("actor", string(q.caller.UserID)))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs keeps adding.
func (h callHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return callHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup keeps adding.
func (h callHandler) WithGroup(name string) slog.Handler {
	return callHandler{h.Handler.WithGroup(name)}
}

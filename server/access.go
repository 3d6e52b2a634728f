package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
)

// NewLogger returns a logger that writes one line a record to w, as "json" or
// "text". Whatever a value holds, it stays on its line: control characters and
// foreign line breaks are escaped. What is logged in the course of a call also says
// which call that was. Empty means text. Records below level are left out.
func NewLogger(w io.Writer, format string, level slog.Leveler) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: level}
	switch format {
	case "json":
		return slog.New(callHandler{slog.NewJSONHandler(w, options)}), nil
	case "text", "":
		return slog.New(callHandler{slog.NewTextHandler(w, options)}), nil
	}
	return nil, fmt.Errorf("log format %q: want json or text", format)
}

// access writes one record per call. It names what the call was and how it
// ended, and nothing that it carried. It is also where a call that did not
// come through [Server.ServeHTTP] gets its request and its rules.
func (s *Server) access(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		q := requestFrom(ctx)
		if q.rules == nil {
			q.rules = s.rulesFor(spec.Procedure)
			ctx = withRequest(ctx, q)
		}
		if q.id == "" {
			q.id = newRequestID()
		}
		start := q.start()
		err := next(ctx, spec, stream)
		if q.goesOn() {
			return err
		}
		s.record(ctx, q, spec.Procedure, err, start)
		s.denied(ctx, q, spec.Procedure, err)
		return err
	}
}

// record is the one log line of a call that began then.
func (s *Server) record(ctx context.Context, q *request, procedure string, err error, start time.Time) {
	level := levelOf(q, err)
	log := s.recorder()
	if !log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 14)
	info, ok := connect.CallInfoForServerContext(ctx)
	switch {
	case err == nil && q.plain != nil:
		log = q.rules.plainLogs[q.plain.place]
	case ok:
		attrs = append(attrs, kindOf(procedure, codeName(err), info.Protocol, info.Codec)...)
	default:
		attrs = append(attrs, kindOf(procedure, codeName(err), "", "")...)
	}
	attrs = append(attrs, slog.String("request_id", q.id))
	if q.reason != "" {
		attrs = append(attrs, slog.String("reason", q.reason))
	}
	if q.known {
		attrs = append(attrs, slog.String("user", string(q.caller.UserID)), slog.String("session", string(q.caller.SessionID)))
	}
	now := time.Now()
	attrs = append(attrs, slog.String("address", q.device.IP), slog.Duration("duration", now.Sub(start)))
	if ok {
		attrs = append(attrs, slog.Int("bytes_in", info.ReceiveStats.Size), slog.Int("bytes_out", info.SendStats.Size))
	}
	if q.cause != nil {
		attrs = append(attrs, slog.String("cause", causeOf(q.cause)))
	}
	if caught, ok := errors.AsType[*panicError](q.cause); ok {
		attrs = append(attrs, slog.String("stack", string(caught.stack)))
	}
	line := slog.NewRecord(now.UTC(), level, "call", 0)        // by hand: a logger would look up who calls it
	line.AddAttrs(slog.Attr{Value: slog.GroupValue(attrs...)}) // without a name: they stand for themselves, and are not copied
	_ = log.Handle(ctx, line)                                  // there is nowhere to tell that the log cannot be written
}

// recorder handles the records of calls, which say themselves what [callHandler]
// adds to others.
func (s *Server) recorder() slog.Handler {
	handler := s.config.Log.Handler()
	if adds, ok := handler.(callHandler); ok {
		return adds.Handler
	}
	return handler
}

// kindOf is what a record says first: what kind of call it was.
func kindOf(procedure, code, protocol, codec string) []slog.Attr {
	kind := []slog.Attr{slog.String("procedure", procedure), slog.String("code", code)}
	if protocol != "" {
		kind = append(kind, slog.String("protocol", protocol), slog.String("codec", codec))
	}
	return kind
}

// plainLogs has that of plain calls that go well spelled out once for all, in
// each codec: those are nearly all.
func (s *Server) plainLogs(procedure string) (logs [2]slog.Handler) {
	for place := range logs {
		logs[place] = s.recorder().WithAttrs(kindOf(procedure, codeName(nil), connect.ProtocolNameConnect, laneNames[place]))
	}
	return logs
}

// levelOf keeps the probes of a load balancer out of the log, and puts what an
// operator should look at on top.
func levelOf(q *request, err error) slog.Level {
	switch {
	case q.cause != nil:
		return slog.LevelError
	case err != nil && connect.CodeOf(err) == connect.CodeUnavailable:
		return slog.LevelWarn
	case err == nil && strings.HasPrefix(q.rules.procedure, "/grpc.health."):
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// causeOf is the whole chain of an internal error.
func causeOf(err error) string {
	var wire *connect.Error
	if errors.As(err, &wire) && wire.Unwrap() != nil {
		return wire.Unwrap().Error()
	}
	return err.Error()
}

func codeName(err error) string {
	if err == nil {
		return "ok"
	}
	return connect.CodeOf(err).String()
}

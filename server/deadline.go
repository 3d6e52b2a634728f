package server

import (
	"context"
	"fmt"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/server/talk"
)

// How long calls may take. A client's own time-out is taken where it is
// shorter than the longest.
const (
	unaryDeadline = 5 * time.Second // where the client says nothing
	unaryLongest  = 30 * time.Second
	streamLongest = talk.StreamLife
)

// deadline bounds how long a call runs. The transport has put a client's own
// time-out on the context, whatever its size: it is clamped here.
func deadline(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		if err := ctx.Err(); err != nil {
			return err // nobody waits for it
		}
		_, said := ctx.Deadline()
		bounded := boundedBy(ctx, requestFrom(ctx).start().Add(bound(spec, said || asksForever(ctx))))
		defer bounded.end()
		err := next(bounded, spec, stream)
		if err != nil && bounded.Err() != nil && ctx.Err() == nil {
			// The interceptors above do not see this context: tell them why.
			return fmt.Errorf("%w: %w", err, bounded.Err())
		}
		return err
	}
}

// bound is the most that a call gets; a context keeps the earlier of two deadlines.
func bound(spec connect.Spec, said bool) time.Duration {
	switch {
	case spec.StreamType != connect.StreamTypeUnary:
		return streamLongest + streamLongest/10 // their own end comes before: see streamLife
	case said:
		return unaryLongest
	}
	return unaryDeadline
}

// asksForever reports a gRPC time-out so long that the transport ignores it.
func asksForever(ctx context.Context) bool {
	if requestFrom(ctx).plain != nil {
		return false
	}
	info, ok := connect.CallInfoForServerContext(ctx)
	return ok && info.RequestHeader().Get("Grpc-Timeout") != ""
}

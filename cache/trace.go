package cache

import (
	"context"
	"errors"
	"net"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// traced tells commands to the traces that are recorded, under the names of
// OpenTelemetry's conventions for databases. (The library's own hook spells
// every command of every call, also where nobody records them, which is a tenth
// of a call.) Arguments are somebody's data and are not told.
type traced struct{ tracer trace.Tracer }

var _ redis.Hook = traced{}

// DialHook is a [redis.Hook]'s: connections are not a call's.
func (traced) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook is a [redis.Hook]'s.
func (t traced) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if !trace.SpanFromContext(ctx).IsRecording() {
			return next(ctx, cmd)
		}
		return t.told(ctx, cmd.FullName(), func(ctx context.Context) error { return next(ctx, cmd) })
	}
}

// ProcessPipelineHook is a [redis.Hook]'s.
func (t traced) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if !trace.SpanFromContext(ctx).IsRecording() {
			return next(ctx, cmds)
		}
		return t.told(ctx, "PIPELINE", func(ctx context.Context) error { return next(ctx, cmds) }, attribute.Int("db.operation.batch.size", len(cmds)))
	}
}

// told does something in a span of its own. That a key is not there is no error.
func (t traced) told(ctx context.Context, operation string, do func(context.Context) error, more ...attribute.KeyValue) error {
	more = append(more, attribute.String("db.system.name", "redis"), attribute.String("db.operation.name", operation))
	ctx, span := t.tracer.Start(ctx, operation, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(more...))
	defer span.End()
	err := do(ctx)
	if err != nil && !errors.Is(err, redis.Nil) {
		span.SetStatus(codes.Error, "")
	}
	return err
}

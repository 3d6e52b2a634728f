package db

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// traceBatch opens a span for a batch that does not go through Bun's hooks. The
// statements' arguments are somebody's data, so only their first words are told.
func traceBatch(ctx context.Context, statements []string) (context.Context, func(error)) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, func(error) {}
	}
	ctx, span := otel.Tracer("github.com/free2talk/free2talk/db").Start(ctx, "db.batch", trace.WithSpanKind(trace.SpanKindClient))
	verbs := make([]string, len(statements))
	for i, s := range statements {
		verbs[i], _, _ = strings.Cut(s, " ")
	}
	span.SetAttributes(
		attribute.String("db.system.name", "postgresql"),
		attribute.StringSlice("db.operation.batch", verbs),
	)
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

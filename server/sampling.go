package server

import (
	"context"
	"math/rand/v2"
	"os"

	"connectrpc.com/connect/v2"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// sampledShare is how many of the calls are traced where OTEL_TRACES_SAMPLER
// says nothing.
const sampledShare = 0.01

// lots says which calls are traced before anything is made of a trace: what
// belongs to one that nobody keeps costs a call a twentieth. Where the standard
// variables name a sampler it decides, for every call.
type lots struct {
	bySDK bool // OTEL_TRACES_SAMPLER is set
	trust bool // whoever calls may have drawn already
}

func newLots(trust bool) *lots {
	return &lots{bySDK: os.Getenv("OTEL_TRACES_SAMPLER") != "", trust: trust}
}

// options has the SDK keep what was drawn, and the same share of what is no
// call. (It reads the variable by itself, but its default is all.)
func (l *lots) options() []sdktrace.TracerProviderOption {
	if l.bySDK {
		return nil
	}
	return []sdktrace.TracerProviderOption{sdktrace.WithSampler(sdktrace.ParentBased(drawnFirst{sdktrace.TraceIDRatioBased(sampledShare)}))}
}

type drawnKey struct{}

// untraced is the parent of all that happens in calls that are not traced. It
// is told to nobody.
var untraced = trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}})

// draw reports whether a call is traced, and in which context it goes on; part
// says whether it is part of its caller's trace.
func (l *lots) draw(ctx context.Context, part func(context.Context) bool) (context.Context, bool) {
	if l.bySDK || l.trust && part(ctx) {
		return ctx, true
	}
	if rand.Float64() < sampledShare {
		return context.WithValue(ctx, drawnKey{}, true), true
	}
	return trace.ContextWithSpanContext(ctx, untraced), false
}

func calledFromTrace(ctx context.Context) bool {
	info, ok := connect.CallInfoForServerContext(ctx)
	return ok && info.RequestHeader().Get("Traceparent") != ""
}

// drawnFirst samples what was drawn.
type drawnFirst struct{ sdktrace.Sampler }

// ShouldSample is a [sdktrace.Sampler]'s.
func (s drawnFirst) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if p.ParentContext.Value(drawnKey{}) == nil {
		return s.Sampler.ShouldSample(p)
	}
	return sdktrace.SamplingResult{
		Decision: sdktrace.RecordAndSample, Tracestate: trace.SpanContextFromContext(p.ParentContext).TraceState(),
	}
}

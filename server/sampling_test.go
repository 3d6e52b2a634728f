package server

import (
	"context"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// Of calls a hundredth is traced, from the first span to the last, and of the
// others nothing.
func TestAHundredthIsTraced(t *testing.T) {
	t.Setenv("OTEL_TRACES_SAMPLER", "")
	const calls = 40_000
	l, kept := newLots(false), tracetest.NewSpanRecorder()
	tracer := sdktrace.NewTracerProvider(append(l.options(), sdktrace.WithSpanProcessor(kept))...).Tracer("test")
	traced := 0
	for range calls {
		ctx, drawn := l.draw(t.Context(), calledFromTrace)
		if drawn {
			traced++
		}
		ctx, outer := tracer.Start(ctx, "call")
		_, inner := tracer.Start(ctx, "query")
		if outer.IsRecording() != drawn || inner.IsRecording() != drawn {
			t.Fatalf("drawn %v, recorded %v and %v", drawn, outer.IsRecording(), inner.IsRecording())
		}
		inner.End()
		outer.End()
	}
	if share := float64(traced) / calls; share < sampledShare*0.8 || share > sampledShare*1.2 { // four deviations
		t.Errorf("%.4f of the calls are traced", share)
	}
	if spans := len(kept.Ended()); spans != 2*traced {
		t.Errorf("%d spans of %d calls", spans, traced)
	}
}

// Whom one trusts, and the standard variable, decide for themselves.
func TestOthersDrawToo(t *testing.T) {
	part, whole := func(context.Context) bool { return true }, func(context.Context) bool { return false }
	always := func(l *lots, called func(context.Context) bool) bool {
		for range 2000 {
			if _, drawn := l.draw(t.Context(), called); !drawn {
				return false
			}
		}
		return true
	}
	t.Setenv("OTEL_TRACES_SAMPLER", "")
	if always(newLots(false), part) || always(newLots(true), whole) || !always(newLots(true), part) {
		t.Error("a caller's trace counts where it must not, or does not where it must")
	}
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	if l := newLots(false); !always(l, whole) || len(l.options()) != 0 {
		t.Error("the SDK is not asked")
	}
}

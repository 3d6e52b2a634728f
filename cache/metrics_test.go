package cache

import (
	"context"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	client "github.com/prometheus/client_golang/prometheus"

	"github.com/free2talk/free2talk/server/talk"
)

// meter returns an option that measures, and what it measured so far: the sum
// of a counter or gauge over the points that carry all of want.
func meter(t *testing.T) (func(*Config), func(name string, want ...attribute.KeyValue) float64) {
	t.Helper()
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	return func(c *Config) { c.Meter = provider.Meter("test") }, func(name string, want ...attribute.KeyValue) float64 {
		var all metricdata.ResourceMetrics
		check(t, reader.Collect(context.Background(), &all))
		for _, scope := range all.ScopeMetrics {
			for _, m := range scope.Metrics {
				if m.Name == name {
					return sum(m.Data, want)
				}
			}
		}
		return 0
	}
}

func sum(data metricdata.Aggregation, want []attribute.KeyValue) (total float64) {
	carries := func(set attribute.Set) bool {
		for _, kv := range want {
			if v, ok := set.Value(kv.Key); !ok || v != kv.Value {
				return false
			}
		}
		return true
	}
	switch data := data.(type) {
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			if carries(p.Attributes) {
				total += float64(p.Value)
			}
		}
	case metricdata.Gauge[int64]:
		for _, p := range data.DataPoints {
			if carries(p.Attributes) {
				total += float64(p.Value)
			}
		}
	case metricdata.Gauge[float64]:
		for _, p := range data.DataPoints {
			total += p.Value
		}
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			total += float64(p.Count)
		}
	}
	return total
}

func result(r string) attribute.KeyValue { return attribute.String("result", r) }

func TestMetrics(t *testing.T) {
	t.Parallel()
	server, where := own(t)
	measure, read := meter(t)
	r := where.open(t, measure) // a killed Redis refuses at once
	world := newNumbers()
	world.set(roomA, 1)
	c := world.cache(r)
	l := NewLimiter(r, nil)
	for range 4 {
		get(t, c, roomA)
		_, _, err := c.Get(t.Context(), "room:none")
		check(t, err)
		take(t, l, limitOf(2, time.Hour), "k", 1)
	}
	role := attribute.String("role", "cache")
	for what, want := range map[string]struct{ got, want float64 }{
		"misses":    {read("free2talk_cache_requests", attribute.String("cache", "room"), attribute.String("layer", "redis"), result("miss")), 2},
		"hits":      {read("free2talk_cache_requests", result("hit")), 3},
		"negatives": {read("free2talk_cache_requests", result("negative")), 3},
		"loads":     {read("free2talk_cache_load"), 2},
		"allowed":   {read("free2talk_limiter_decisions", attribute.String("policy", "api"), result("allowed"), attribute.String("mode", "redis")), 2},
		"refused":   {read("free2talk_limiter_decisions", result("refused"), attribute.String("mode", "memory")), 2},
		"degraded":  {read("free2talk_degraded", role), 0},
	} {
		equal(t, what, want.got, want.want)
	}
	server.Kill()
	await(t, "the metrics to say so", func() bool {
		get(t, c, roomA)
		return read("free2talk_degraded", role) == 1
	})
	if read("free2talk_cache_requests", result("error")) == 0 {
		t.Error("no errors counted")
	}
	_ = r.Forget(t.Context(), roomA)
	equal(t, "unforgotten", read("free2talk_cache_unforgotten"), 1)
	if age := read("free2talk_cache_heartbeat_age"); age <= 0 || age > 60 {
		t.Errorf("the last heartbeat was %v s ago", age)
	}
}

func TestARefusedFillIsCounted(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	measure, read := meter(t)
	r := where.open(t, measure)
	world := newNumbers()
	world.after = func([]talk.Key) { check(t, r.Forget(t.Context(), roomA)) }
	get0 := world.cache(r)
	_, _, err := get0.Get(t.Context(), roomA)
	check(t, err)
	equal(t, "refused", read("free2talk_cache_fills_refused"), 1)
}

// A cache that proves itself counts what it should not have served.
func TestAStaleEntryIsCounted(t *testing.T) {
	t.Parallel()
	_, where := own(t)
	measure, read := meter(t)
	r := where.open(t, measure)
	world := newNumbers()
	world.set(roomA, 1)
	c := world.cache(r)
	c.proof.each, c.proof.after = 1, 50*time.Millisecond
	get(t, c, roomA)
	get(t, c, roomA)
	await(t, "the comparison", func() bool { return world.loads.Load() == 2 && !c.proof.busy.Load() })
	equal(t, "stale", read("free2talk_cache_requests", result("stale")), 0)
	world.set(roomA, 2) // and nobody forgets
	await(t, "the stale entry to be counted", func() bool {
		get(t, c, roomA)
		return read("free2talk_cache_requests", result("stale")) > 0
	})
	if read("free2talk_cache_stale") == 0 {
		t.Error("it has no counter of its own")
	}
}

// The names are those of the dashboard once the exporter has made them its own.
func TestMetricNames(t *testing.T) {
	t.Parallel()
	registry := client.NewRegistry()
	exporter, err := prometheus.New(prometheus.WithRegisterer(registry))
	check(t, err)
	provider := metric.NewMeterProvider(metric.WithReader(exporter))
	where := embedded(t)
	r := where.open(t, func(c *Config) { c.Meter = provider.Meter("test") })
	world := newNumbers()
	get0 := world.cache(r)
	_, _, err = get0.Get(t.Context(), roomA)
	check(t, err)
	take(t, NewLimiter(r, nil), limitOf(1, time.Hour), "k", 1)
	families, err := registry.Gather()
	check(t, err)
	names := map[string]bool{}
	for _, family := range families {
		names[family.GetName()] = true
	}
	for _, name := range []string{
		"free2talk_cache_requests_total", "free2talk_cache_load_seconds", "free2talk_limiter_decisions_total",
		"free2talk_degraded", "free2talk_cache_heartbeat_age_seconds",
	} {
		if !names[name] {
			t.Errorf("no %s among %v", name, names)
		}
	}
}

func TestSpans(t *testing.T) {
	t.Parallel()
	recorder := tracetest.NewSpanRecorder()
	where := embedded(t)
	tracers := trace.NewTracerProvider(trace.WithSpanProcessor(recorder))
	r := where.open(t, func(c *Config) { c.Tracer = tracers })
	world := newNumbers()
	get0 := world.cache(r)
	_, _, err := get0.Get(t.Context(), "room:unseen")
	check(t, err)
	if spans := recorder.Ended(); len(spans) > 0 {
		t.Errorf("%d spans of what nobody records", len(spans))
	}
	ctx, call := tracers.Tracer("test").Start(t.Context(), "call")
	_, _, err = get0.Get(ctx, "room:secret")
	check(t, err)
	spans := recorder.Ended()
	if len(spans) < 2 { // the question and the fill
		t.Errorf("%d spans", len(spans))
	}
	call.End()
	for _, span := range spans {
		for _, kv := range span.Attributes() {
			if kv.Key == "db.statement" {
				t.Errorf("a span tells %s", kv.Value.AsString())
			}
		}
	}
}

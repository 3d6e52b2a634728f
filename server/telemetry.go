package server

import (
	"context"
	"errors"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/otelconnect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel/attribute"
	promexport "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/free2talk/free2talk/server/talk"
)

const (
	scopeName   = "github.com/free2talk/free2talk/server"
	serviceName = "free2talk"
)

// rpcBuckets are the bounds of the latency histogram, in seconds: fine where
// the goals are, and up to the longest unary call.
var rpcBuckets = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

// TelemetryConfig says what a process measures itself as.
type TelemetryConfig struct {
	Version string // of the program
	Node    string // of several; the resource's service.instance.id. Empty means that it has none
	// TrustRemote makes a caller's trace go on here. Otherwise it is only linked,
	// as anybody could make us sample everything.
	TrustRemote bool
	// Off measures and traces nothing, to see what measuring costs.
	Off bool
}

// Telemetry holds the meters and tracers of a process. Metrics go to
// Prometheus by [Telemetry.Handler]; the standard OTEL_* variables send traces
// and metrics elsewhere too. A nil Telemetry measures nothing.
type Telemetry struct {
	config   TelemetryConfig
	registry *prometheus.Registry
	meters   metric.MeterProvider
	tracers  trace.TracerProvider
	lots     *lots
	stop     []func(context.Context) error

	mu       sync.Mutex
	calls    metric.Float64Histogram
	prepared []*measures // of all methods; made at the start
	panics   metric.Int64Counter
}

// NewTelemetry sets up metrics, and traces where an exporter is configured.
// It must be shut down.
func NewTelemetry(ctx context.Context, c TelemetryConfig) (*Telemetry, error) {
	t := &Telemetry{config: c, registry: prometheus.NewRegistry(), lots: newLots(c.TrustRemote)}
	if c.Off {
		t.meters, t.tracers = noopmetric.NewMeterProvider(), noop.NewTracerProvider()
		return t, t.instruments()
	}
	t.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	about, err := resource.New(ctx, resource.WithAttributes(t.about()...), resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil {
		return nil, err
	}
	if err := t.startMeters(ctx, about); err != nil {
		return nil, err
	}
	if err := t.startTracers(ctx, about); err != nil {
		return nil, err
	}
	return t, t.instruments()
}

func (t *Telemetry) about() []attribute.KeyValue {
	about := []attribute.KeyValue{attribute.String("service.name", serviceName)}
	if t.config.Version != "" {
		about = append(about, attribute.String("service.version", t.config.Version))
	}
	if t.config.Node != "" {
		about = append(about, attribute.String("service.instance.id", t.config.Node))
	}
	return about
}

func (t *Telemetry) startMeters(ctx context.Context, about *resource.Resource) error {
	pulled, err := promexport.New(promexport.WithRegisterer(t.registry), promexport.WithoutScopeInfo())
	if err != nil {
		return err
	}
	options := []sdkmetric.Option{sdkmetric.WithResource(about), sdkmetric.WithReader(pulled)}
	if configured("METRICS") {
		pushed, err := autoexport.NewMetricReader(ctx)
		if err != nil {
			return err
		}
		if !autoexport.IsNoneMetricReader(pushed) {
			options = append(options, sdkmetric.WithReader(pushed))
		}
	}
	meters := sdkmetric.NewMeterProvider(options...)
	t.meters, t.stop = meters, append(t.stop, meters.Shutdown)
	return nil
}

// startTracers makes no-ops where nobody would get the traces: a span that is
// recorded and thrown away costs as much.
func (t *Telemetry) startTracers(ctx context.Context, about *resource.Resource) error {
	t.tracers = noop.NewTracerProvider()
	if !configured("TRACES") {
		return nil
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil || autoexport.IsNoneSpanExporter(exporter) {
		return err
	}
	options := []sdktrace.TracerProviderOption{sdktrace.WithResource(about), sdktrace.WithBatcher(exporter)}
	tracers := sdktrace.NewTracerProvider(append(options, t.lots.options()...)...)
	t.tracers, t.stop = tracers, append(t.stop, tracers.Shutdown)
	return nil
}

// configured reports whether the standard variables name a receiver of a signal.
func configured(signal string) bool {
	for _, name := range []string{"OTEL_" + signal + "_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_" + signal + "_ENDPOINT"} {
		if os.Getenv(name) != "" {
			return !strings.EqualFold(os.Getenv("OTEL_SDK_DISABLED"), "true")
		}
	}
	return false
}

func (t *Telemetry) instruments() error {
	meter := t.meters.Meter(scopeName)
	var calls, inFlight, panics error
	t.calls, calls = meter.Float64Histogram("free2talk.rpc.duration", metric.WithUnit("s"),
		metric.WithDescription("How long calls took, by method and code; its count is their rate."),
		metric.WithExplicitBucketBoundaries(rpcBuckets...))
	_, inFlight = meter.Int64ObservableUpDownCounter("free2talk.rpc.in_flight", metric.WithDescription("Calls and streams that are open."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			t.mu.Lock()
			defer t.mu.Unlock()
			for _, m := range t.prepared {
				o.Observe(m.open.Load(), m.method)
			}
			return nil
		}))
	t.panics, panics = meter.Int64Counter("free2talk.rpc.panics", metric.WithDescription("Panics that were contained."))
	if err := errors.Join(calls, inFlight, panics); err != nil {
		return err
	}
	t.panics.Add(context.Background(), 0) // there from the start, so that an alert sees the first one
	return nil
}

// MeterProvider is where other rooms of the house measure. Never nil.
func (t *Telemetry) MeterProvider() metric.MeterProvider { return t.meters }

// TracerProvider is where other rooms of the house trace. Never nil.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.tracers }

// Tracing is [Telemetry.TracerProvider] where traces go somewhere, else nil:
// for what costs something also where spans are thrown away.
func (t *Telemetry) Tracing() trace.TracerProvider {
	if _, off := t.tracers.(noop.TracerProvider); off {
		return nil
	}
	return t.tracers
}

// Registry takes collectors that do not speak OpenTelemetry.
func (t *Telemetry) Registry() prometheus.Registerer { return t.registry }

// Handler serves the metrics to Prometheus, with examples of traces where it
// asks for OpenMetrics, and Go's profiles under /debug/pprof/. It is for a
// listener of its own, which strangers do not reach.
func (t *Telemetry) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, EnableOpenMetrics: true}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index) // all but the next four by their names
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// Shutdown sends what is left, and stops.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	var faults []error
	for _, stop := range t.stop {
		faults = append(faults, stop(ctx))
	}
	return errors.Join(faults...)
}

// Passwords measures the gate of the password hashes.
func (t *Telemetry) Passwords(gate *talk.Passwords) error {
	meter := t.meters.Meter(scopeName)
	done, e1 := meter.Int64ObservableCounter("free2talk.argon2.done", metric.WithDescription("Password hashes that were computed."))
	refused, e2 := meter.Int64ObservableCounter("free2talk.argon2.refused", metric.WithDescription("Calls that were sent away: the queue of the password hashes was full, or their turn did not come in time."))
	queued, e3 := meter.Int64ObservableGauge("free2talk.argon2.queued", metric.WithDescription("Calls that wait for a password hash."))
	running, e4 := meter.Int64ObservableGauge("free2talk.argon2.running", metric.WithDescription("Password hashes that are computed now."))
	if err := errors.Join(e1, e2, e3, e4); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stats := gate.Stats()
		o.ObserveInt64(done, stats.Done)
		o.ObserveInt64(refused, stats.Refused)
		o.ObserveInt64(queued, stats.Queued)
		o.ObserveInt64(running, stats.Running)
		return nil
	}, done, refused, queued, running)
	return err
}

// live measures the streams of a server, the rooms, and who is there.
func (t *Telemetry) live(open *streams, c *Live) error {
	if t == nil {
		return nil
	}
	meter := t.meters.Meter(scopeName)
	count, e1 := meter.Int64ObservableGauge("free2talk.streams", metric.WithDescription("Streams that are open on this node."))
	connections, e2 := meter.Int64ObservableGauge("free2talk.connections", metric.WithDescription("Personal streams that this node counts as somebody's presence."))
	online, e3 := meter.Int64ObservableGauge("free2talk.online.users", metric.WithDescription("Users online on all nodes together, as this node last read it."))
	nodes, e4 := meter.Int64ObservableGauge("free2talk.nodes", metric.WithDescription("Nodes that live, as this node last read it."))
	rooms, e5 := meter.Int64ObservableGauge("free2talk.rooms", metric.WithDescription("Rooms that are open, on all nodes together, as this node knows."))
	if err := errors.Join(e1, e2, e3, e4, e5); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(count, int64(open.count()))
		if c.Lobby != nil {
			o.ObserveInt64(rooms, int64(c.Lobby.Size()))
		}
		if presence := c.Presence; presence != nil {
			o.ObserveInt64(connections, int64(presence.Own()))
			o.ObserveInt64(online, int64(presence.LastCount()))
			o.ObserveInt64(nodes, int64(presence.Live()))
		}
		return nil
	}, count, connections, online, nodes, rooms)
	return err
}

// Outbox measures the changes of this node, and what others left untold.
func (t *Telemetry) Outbox(outbox *talk.Outbox) error {
	meter := t.meters.Meter(scopeName)
	changes, e1 := meter.Int64ObservableCounter("free2talk.changes", metric.WithDescription("Changes that this node committed."))
	swept, e2 := meter.Int64ObservableCounter("free2talk.events.swept",
		metric.WithDescription("Events that some node committed and did not tell in time, and that this one told."))
	if err := errors.Join(e1, e2); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stats := outbox.Stats()
		o.ObserveInt64(changes, stats.Changes)
		o.ObserveInt64(swept, stats.Swept)
		return nil
	}, changes, swept)
	return err
}

// Tokens measures what became of the tokens that were shown.
func (t *Telemetry) Tokens(tokens *talk.Tokens) error {
	meter := t.meters.Meter(scopeName)
	shown, err := meter.Int64ObservableCounter("free2talk.tokens", metric.WithDescription("Tokens that were shown, by kind and by what became of them."))
	if err != nil {
		return err
	}
	labels := func(kind, result string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("kind", kind), attribute.String("result", result)))
	}
	verified, remembered := labels("access", "verified"), labels("access", "remembered")
	refused, refreshRefused := labels("access", "refused"), labels("refresh", "refused")
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stats := tokens.Stats()
		o.ObserveInt64(shown, stats.Verified, verified)
		o.ObserveInt64(shown, stats.Remembered, remembered)
		o.ObserveInt64(shown, stats.Refused, refused)
		o.ObserveInt64(shown, stats.RefreshRefused, refreshRefused)
		return nil
	}, shown)
	return err
}

func (t *Telemetry) panicked(ctx context.Context) {
	if t != nil {
		t.panics.Add(ctx, 1)
	}
}

// codes is one more than the highest code.
const codes = 17

// measures are the labels of one RPC's calls, made once: one set a code.
type measures struct {
	byCode [codes]metric.MeasurementOption
	method metric.MeasurementOption
	open   atomic.Int64 // calls and streams
}

// prepare makes the labels of r. What does not exist has one name for all.
func (t *Telemetry) prepare(r *rules) {
	if t == nil {
		return
	}
	name := strings.TrimPrefix(r.procedure, "/")
	if name == "" {
		name = "unknown"
	}
	method := attribute.String("method", name)
	r.measures.method = metric.WithAttributeSet(attribute.NewSet(method))
	t.mu.Lock()
	t.prepared = append(t.prepared, &r.measures)
	t.mu.Unlock()
	for code := range connect.Code(codes) {
		label := "ok"
		if code > 0 {
			label = code.String()
		}
		r.measures.byCode[code] = metric.WithAttributeSet(attribute.NewSet(method, attribute.String("code", label)))
	}
}

// interceptor measures every call, and traces it where traces go somewhere.
func (t *Telemetry) interceptor(s *Server) (connect.ServerInterceptor, error) {
	if t == nil || t.config.Off {
		return func(next connect.ServerFunc) connect.ServerFunc { return next }, nil
	}
	count := t.count(s)
	if _, off := t.tracers.(noop.TracerProvider); off {
		return count, nil
	}
	options := []otelconnect.Option{
		otelconnect.WithTracerProvider(t.tracers),
		otelconnect.WithPropagator(propagation.TraceContext{}),
		otelconnect.WithoutMetrics(), // ours have stable names and a tenth of the cost
		// The path of a procedure that does not exist is a stranger's text.
		otelconnect.WithFilter(func(_ context.Context, spec connect.Spec) bool { return spec.Schema != nil }),
	}
	if t.config.TrustRemote {
		options = append(options, otelconnect.WithTrustRemote())
	}
	traced, err := otelconnect.NewServerInterceptor(options...)
	if err != nil {
		return nil, err
	}
	// The span is outside: what is counted inside carries it as its example.
	return func(next connect.ServerFunc) connect.ServerFunc {
		counted := count(next)
		return t.ofBeginnings(traced, counted)
	}, nil
}

// ofBeginnings has no spans of how streams end: the span of one that goes on
// without its call is that of its beginning, which went well.
func (t *Telemetry) ofBeginnings(traced connect.ServerInterceptor, counted connect.ServerFunc) connect.ServerFunc {
	begun := traced(func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		if err := counted(ctx, spec, stream); !requestFrom(ctx).goesOn() {
			return err
		}
		return nil
	})
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		if requestFrom(ctx).ended {
			return counted(ctx, spec, stream)
		}
		ctx, drawn := t.lots.draw(ctx, calledFromTrace)
		if !drawn {
			return counted(ctx, spec, stream)
		}
		return begun(ctx, spec, stream)
	}
}

func (t *Telemetry) count(s *Server) connect.ServerInterceptor {
	return func(next connect.ServerFunc) connect.ServerFunc {
		return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
			labels := &s.rulesFor(spec.Procedure).measures
			q := requestFrom(ctx)
			if !q.ended { // else it was counted when it began
				labels.open.Add(1)
			}
			defer func() {
				if !q.goesOn() {
					labels.open.Add(-1)
				}
			}()
			start := q.start()
			err := next(ctx, spec, stream)
			if q.goesOn() {
				return err
			}
			code := connect.Code(0)
			if err != nil {
				code = connect.CodeOf(err)
			}
			if code >= codes {
				code = connect.CodeUnknown
			}
			t.calls.Record(ctx, time.Since(start).Seconds(), labels.byCode[code])
			return err
		}
	}
}

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/dustin/go-humanize"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/free2talk/free2talk/client"
)

type loadCmd struct {
	Method string        `arg:"" optional:"" predictor:"method" default:"RoomService.ListRooms" help:"What to call, as in f2t call (${default})."`
	JSON   string        `arg:"" optional:"" name:"json" help:"The request, {} if it is left out."`
	At     int           `short:"c" name:"at-once" default:"8" placeholder:"N" help:"How many calls are under way at once (${default})."`
	For    time.Duration `short:"d" name:"for" default:"10s" placeholder:"TIME" help:"For how long (${default})."`
	Rate   float64       `placeholder:"N" help:"How many calls a second are begun, be the server fast or slow. Unset: as many as it takes."`
}

// Help shows how it is used.
func (loadCmd) Help() string {
	return `With --rate, a call's time runs from when it was due: what waits behind a slow call is slow too. Every call counts against the rate limits, so a server that is to be measured runs with --rate-limits api=off.` + "\n\n" +
		examples("f2t load --for 30s --at-once 64", `f2t load GetRoom '{"slug": "tapas-y-charla-k3x9"}' --rate 500`)
}

// The histograms hold times from a microsecond to a minute, in three digits.
const (
	loadLongest = int64(time.Minute / time.Microsecond)
	loadDigits  = 3
	loadBar     = 100 * time.Millisecond // how often the bar moves
)

// Run measures.
func (l loadCmd) Run(ctx context.Context, a *app) error {
	if l.At < 1 || l.For <= 0 || l.Rate < 0 {
		return failf(exitUsage, "--at-once is at least 1, --for more than 0s, and --rate no less than 0")
	}
	s, err := a.schema(ctx)
	if err != nil {
		return err
	}
	method, err := s.find(l.Method)
	if err != nil {
		return err
	}
	if method.IsStreamingClient() || method.IsStreamingServer() {
		return failf(exitUsage, "%s is a stream: load calls what has one answer", method.Name())
	}
	requests, err := callCmd{JSON: l.JSON}.requests(ctx, a, s, method)
	if err != nil {
		return err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: l.At, MaxIdleConnsPerHost: l.At}
	speaks, err := a.client(client.WithHTTPClient(&http.Client{Transport: transport}), client.WithRetries(client.Retries{Tries: 1}))
	if err != nil {
		return err
	}
	run := &load{loadCmd: l, conn: speaks.Conn(), method: method, request: requests[0], timeout: a.Timeout}
	run.measure(ctx, a)
	if err := run.report(a); err != nil {
		return err
	}
	if run.calls() == run.failed() {
		return failf(exitNotNow, "no call succeeded")
	}
	return ctx.Err()
}

// load is one measurement.
type load struct {
	loadCmd

	conn    *connect.Client
	method  protoreflect.MethodDescriptor
	request proto.Message
	timeout time.Duration

	begun time.Time
	took  time.Duration
	next  atomic.Int64 // the call that is begun next, where there is a rate
	done  atomic.Int64

	mu     sync.Mutex
	times  *hdrhistogram.Histogram // microseconds, of what succeeded
	errors map[string]int64        // by reason
}

// measure calls until the time is over, or ctx ends.
func (l *load) measure(ctx context.Context, a *app) {
	l.times, l.errors = hdrhistogram.New(1, loadLongest, loadDigits), map[string]int64{}
	ctx, cancel := context.WithTimeout(ctx, l.For)
	defer cancel()
	stopBar := l.bar(ctx, a)
	defer stopBar()
	l.begun = time.Now()
	var callers sync.WaitGroup
	for range l.At {
		callers.Go(func() { l.caller(ctx) })
	}
	callers.Wait()
	l.took = time.Since(l.begun)
}

// bar shows how far it is, where somebody looks on.
func (l *load) bar(ctx context.Context, a *app) (stop func()) {
	fd, ok := descriptor(a.log)
	if !ok || !term.IsTerminal(fd) {
		return func() {}
	}
	bar := progressbar.NewOptions64(int64(l.For/loadBar), progressbar.OptionSetWriter(a.log), progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false),
		progressbar.OptionUseANSICodes(false))
	ctx, cancel := context.WithCancel(ctx)
	var shown sync.WaitGroup
	shown.Go(func() {
		tick := time.NewTicker(loadBar)
		defer tick.Stop()
		for begun := time.Now(); ; {
			since := time.Since(begun)
			bar.Describe(fmt.Sprintf("%s calls, %.0f a second", humanize.Comma(l.done.Load()), float64(l.done.Load())/max(since.Seconds(), 0.1)))
			_ = bar.Set64(min(int64(since/loadBar), int64(l.For/loadBar)-1)) // a bar that cannot be drawn is no reason to stop
			select {
			case <-tick.C:
			case <-ctx.Done():
				_ = bar.Finish()
				return
			}
		}
	})
	return func() { cancel(); shown.Wait() }
}

// caller makes one call after the other.
func (l *load) caller(ctx context.Context) {
	times, failures := hdrhistogram.New(1, loadLongest, loadDigits), map[string]int64{}
	for ctx.Err() == nil {
		due, ok := l.due(ctx)
		if !ok {
			break
		}
		err := l.call(ctx)
		if ctx.Err() != nil && err != nil {
			break // cut off by the end: neither slow nor failed
		}
		l.done.Add(1)
		if err != nil {
			failures[reasonOf(err)]++
			continue
		}
		_ = times.RecordValue(min(max(time.Since(due).Microseconds(), 1), loadLongest)) // within its bounds
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times.Merge(times)
	for reason, n := range failures {
		l.errors[reason] += n
	}
}

// due waits for the time of the next call, and returns it.
func (l *load) due(ctx context.Context) (time.Time, bool) {
	if l.Rate == 0 {
		return time.Now(), true
	}
	at := l.begun.Add(time.Duration(float64(l.next.Add(1)-1) / l.Rate * float64(time.Second)))
	if wait := time.Until(at); wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return at, false
		}
	}
	return at, true
}

func (l *load) call(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	return l.conn.CallUnary(ctx, spec(l.method), l.request, dynamicpb.NewMessage(l.method.Output()))
}

func reasonOf(err error) string {
	if reason := client.Reason(err); reason != "" {
		return reason
	}
	return connect.CodeOf(err).String()
}

func (l *load) failed() (n int64) {
	for _, of := range l.errors {
		n += of
	}
	return n
}

func (l *load) calls() int64 { return l.times.TotalCount() + l.failed() }

// quantiles are the rows of the table, in percent.
var quantiles = []float64{50, 90, 95, 99, 99.9, 100}

// report shows what was measured.
func (l *load) report(a *app) error {
	rate := float64(l.calls()) / l.took.Seconds()
	if a.json() {
		milliseconds := map[string]float64{}
		for _, q := range quantiles {
			milliseconds[quantile(q)] = float64(l.times.ValueAtQuantile(q)) / 1000
		}
		return a.value(map[string]any{
			"method": strings.Trim(procedure(l.method), "/"), "seconds": l.took.Seconds(), "calls": l.calls(), "perSecond": rate,
			"succeeded": l.times.TotalCount(), "failed": l.errors, "milliseconds": milliseconds,
		})
	}
	if err := a.say("%s calls of %s in %s, %.0f a second\n", humanize.Comma(l.calls()), l.method.Name(), duration(l.took), rate); err != nil {
		return err
	}
	if l.times.TotalCount() > 0 {
		if _, err := io.WriteString(a.out, "\n"); err != nil {
			return err
		}
		g := a.grid("latency", ">time")
		for _, q := range quantiles {
			g.row(quantile(q), time.Duration(l.times.ValueAtQuantile(q))*time.Microsecond)
		}
		if err := g.print(""); err != nil {
			return err
		}
	}
	return l.reportFailures(a)
}

func (l *load) reportFailures(a *app) error {
	if len(l.errors) == 0 {
		return nil
	}
	g := a.grid("failed", ">calls")
	for _, reason := range sortedKeys(l.errors) {
		g.row(reason, humanize.Comma(l.errors[reason]))
	}
	if _, err := io.WriteString(a.out, "\n"); err != nil {
		return err
	}
	if err := g.print(""); err != nil {
		return err
	}
	if l.errors[client.ReasonRateLimited] > 0 {
		a.notef("the rate limits refused calls: a server that is to be measured runs with --rate-limits api=off")
	}
	return nil
}

func quantile(q float64) string {
	if q == 100 {
		return "max"
	}
	return fmt.Sprintf("p%v", q)
}

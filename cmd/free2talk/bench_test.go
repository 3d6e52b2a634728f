package main

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BenchmarkInstrumentation compares a GetRoom that the cache answers with all
// metrics, and one trace in a hundred sent to a collector, with one that is not
// measured at all. It reports the processor time of both, Redis's left out, and
// their ratio, the median of rounds that take turns. There is no network before
// the handler, which would only make the ratio better. A few callers keep the
// processors busy: one that waits for Redis looks for work meanwhile, and how
// long it does depends on everything.
func BenchmarkInstrumentation(b *testing.B) {
	sink := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer sink.Close()
	b.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	b.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	b.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", sink.URL+"/v1/traces")
	with := newGetRoom(b, false)
	without := newGetRoom(b, true)
	const each = 400 // so that what else the machine does falls on both
	var ratios, on, off []float64
	for round := range max(b.N/each, 151) {
		var bare, measured float64
		if round%2 == 0 {
			bare, measured = without(each), with(each)
		} else {
			measured, bare = with(each), without(each)
		}
		ratios, on, off = append(ratios, measured/bare), append(on, measured), append(off, bare)
	}
	b.ReportMetric(middle(off), "µs-off")
	b.ReportMetric(middle(on), "µs-on")
	b.ReportMetric(middle(ratios), "ratio")
	b.ReportMetric(0, "ns/op")
}

func middle(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// newGetRoom starts a node and returns what gets a room so many times and says
// how many microseconds of this process's processors each took.
func newGetRoom(b *testing.B, unmeasured bool) func(times int) float64 {
	b.Helper()
	const callers = 8
	w := newWorld(b, onPostgres, 1, withLimits(b, "api=100000/1s"), func(s *Settings) { s.unmeasured = unmeasured })
	w.redisUsed()
	ada := w.person()
	body := `{"id": "` + w.room(ada, 4).GetId() + `"}`
	get := func(times int) {
		for range times {
			r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/free2talk.v1.RoomService/GetRoom", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Authorization", "Bearer "+ada.grant.AccessToken)
			answer := httptest.NewRecorder()
			w.nodes[0].server.ServeHTTP(answer, r)
			if answer.Code != http.StatusOK {
				b.Fatal(answer.Body)
			}
		}
	}
	get(200)
	return func(times int) float64 {
		before := processor(b)
		var all sync.WaitGroup
		for range callers {
			all.Go(func() { get(times / callers) })
		}
		all.Wait()
		return float64((processor(b) - before).Nanoseconds()) / 1e3 / float64(times)
	}
}

func processor(b *testing.B) time.Duration {
	b.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

package main

import (
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/free2talk/free2talk/internal/testenv"
)

// TestLoginTiming measures what a clock tells of an account. `make test` takes
// a few samples, to see that it runs, and judges nothing; `make faults` takes a
// thousand of each kind, at idle and with the gate saturated.
func TestLoginTiming(t *testing.T) {
	samples := testenv.Effort(2, 1000)
	w := newWorld(t, onPostgres, 1)
	w.withGuests()
	for _, mode := range []string{"idle", "saturated"} {
		t.Run("checklist_10_"+mode, func(t *testing.T) {
			if mode == "saturated" {
				defer w.saturated()()
			}
			times := w.timed(samples)
			base := times[0]
			for i, guess := range guesses[1:5] {
				gap := median(times[i+1])/median(base) - 1
				p := mannWhitney(times[i+1], base)
				t.Logf("%s against %s: median %.3f ms and %.3f ms, %+.2f %%, p = %.3f", guess.name, guesses[0].name, median(times[i+1])*1e3, median(base)*1e3, gap*100, p)
				if samples == 1000 && (math.Abs(gap) >= 0.02 || p <= 0.01) {
					t.Errorf("the clock tells of %s", guess.name)
				}
			}
		})
	}
}

// timed takes samples of the first five guesses, interleaved in a new order
// each time, in seconds.
func (w *world) timed(samples int) [5][]float64 {
	w.Helper()
	var times [5][]float64
	for range samples {
		for _, i := range rand.Perm(len(times)) {
			began := time.Now()
			a := w.knock(w.nodes[0], guesses[i].login, guesses[i].with, "Connect-Timeout-Ms", "30000")
			times[i] = append(times[i], time.Since(began).Seconds())
			a.refusedAs(w, guesses[i].name, "unauthenticated", "BAD_CREDENTIALS")
		}
	}
	return times
}

// saturated keeps a line of four at the gate, until it is told to end.
func (w *world) saturated() (end func()) {
	ended := make(chan struct{})
	var line sync.WaitGroup
	for range 4 {
		line.Go(func() {
			for {
				select {
				case <-ended:
					return
				default:
					w.knock(w.nodes[0], "nobody", password, "Connect-Timeout-Ms", "30000")
				}
			}
		})
	}
	return func() {
		close(ended)
		line.Wait()
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	return (sorted[middle] + sorted[(len(sorted)-1)/2]) / 2
}

// mannWhitney is the two-sided p of the hypothesis that neither of a and b
// tends to be larger, by the normal approximation; equal times do not occur.
func mannWhitney(a, b []float64) float64 {
	all := slices.Sorted(slices.Values(slices.Concat(a, b)))
	ranks := 0.0
	for _, value := range a {
		at, _ := slices.BinarySearch(all, value)
		ranks += float64(at + 1)
	}
	n, m := float64(len(a)), float64(len(b))
	u := ranks - n*(n+1)/2
	z := (u - n*m/2) / math.Sqrt(n*m*(n+m+1)/12)
	return math.Erfc(math.Abs(z) / math.Sqrt2)
}

// TestMannWhitney is the arithmetic of the above.
func TestMannWhitney(t *testing.T) {
	var a, b, later []float64
	for i := range 1000 {
		a, b = append(a, float64(2*i)), append(b, float64(2*i+1))
		later = append(later, float64(2*i)+200.5)
	}
	if p := mannWhitney(a, b); p < 0.9 {
		t.Errorf("the same: p = %v", p)
	}
	if p := mannWhitney(a, later); p > 1e-6 {
		t.Errorf("shifted: p = %v", p)
	}
	if got := median([]float64{3, 1, 2, 10}); got != 2.5 {
		t.Errorf("median %v", got)
	}
}

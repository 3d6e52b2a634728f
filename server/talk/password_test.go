package talk

import (
	"context"
	"errors"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestPasswords(t *testing.T) {
	ctx := t.Context()
	p := NewPasswords(1)
	phc, err := p.Hash(ctx, "correct horse")
	if err != nil || !strings.HasPrefix(phc, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("Hash: %q, %v", phc, err)
	}

	t.Run("the right password is known again", func(t *testing.T) {
		if ok, rehash, err := p.Verify(ctx, phc, "correct horse"); !ok || rehash || err != nil {
			t.Errorf("Verify: %t, %t, %v", ok, rehash, err)
		}
	})
	t.Run("checklist_2_only_the_exact_bytes_log_in", func(t *testing.T) {
		for _, near := range []string{"correct horse ", " correct horse", "Correct horse", "correct\u00a0horse", ""} {
			if ok, rehash, err := p.Verify(ctx, phc, near); ok || rehash || err != nil {
				t.Errorf("Verify(%q): %t, %t, %v", near, ok, rehash, err)
			}
		}
	})
	t.Run("two hashes of one password differ", func(t *testing.T) {
		if again, _ := p.Hash(ctx, "correct horse"); again == phc {
			t.Error("the salt was used twice")
		}
	})
	t.Run("a hash with other parameters is to be made again", func(t *testing.T) {
		old := argon{memory: 64, time: 1, lanes: 2, salt: 8, key: 16}
		salt := random(old.salt)
		stored := old.encode(salt, argon2id(old, "correct horse", salt))
		if ok, rehash, err := p.Verify(ctx, stored, "correct horse"); !ok || !rehash || err != nil {
			t.Errorf("right: %t, %t, %v", ok, rehash, err)
		}
		if ok, rehash, err := p.Verify(ctx, stored, "wrong horse"); ok || rehash || err != nil {
			t.Errorf("wrong: %t, %t, %v", ok, rehash, err)
		}
	})
	t.Run("checklist_9_10_nobody_is_hashed_with_the_parameters_of_somebody", func(t *testing.T) {
		before := p.Stats().Done
		if err := p.VerifyNobody(ctx, "correct horse"); err != nil {
			t.Fatal(err)
		}
		params, _, _, err := decodeHash(p.nobody)
		if err != nil || params != today || p.Stats().Done != before+1 {
			t.Errorf("%+v, %v, %d hashes", params, err, p.Stats().Done-before)
		}
	})
}

func TestDecodeHash(t *testing.T) {
	t.Parallel()
	good := today.encode(make([]byte, 16), make([]byte, 32))
	if _, _, _, err := decodeHash(good); err != nil {
		t.Fatalf("%s: %v", good, err)
	}
	swap := func(from, to string) string { return strings.Replace(good, from, to, 1) }
	for name, phc := range map[string]string{
		"empty":              "",
		"another function":   swap("argon2id", "argon2i"),
		"another version":    swap("v=19", "v=16"),
		"leading zero":       swap("m=19456", "m=019456"),
		"plus sign":          swap("t=2", "t=+2"),
		"space":              swap("t=2", "t= 2"),
		"another order":      swap("t=2,p=1", "p=1,t=2"),
		"no passes":          swap("t=2", "t=0"),
		"no lanes":           swap("p=1", "p=0"),
		"lanes overflow":     swap("p=1", "p=257"),
		"too much memory":    swap("m=19456", "m=4294967295"),
		"too little memory":  swap("m=19456", "m=7"),
		"padding":            good + "=",
		"line break":         good + "\n",
		"loose last bits":    good[:len(good)-1] + "B",
		"short salt":         swap("$AAAAAAAAAAAAAAAAAAAAAA$", "$AAAA$"),
		"short key":          strings.TrimRight(good, "A") + "$AAAA",
		"one part more":      good + "$",
		"parameters missing": swap("m=19456,t=2,p=1", ""),
		"tail of parameters": swap("p=1", "p=1,x=1"),
	} {
		if _, _, _, err := decodeHash(phc); err == nil {
			t.Errorf("%s: %q was accepted", name, phc)
		} else if phc != "" && strings.Contains(err.Error(), phc) {
			t.Errorf("%s: the error tells the hash", name)
		}
	}
}

func TestPasswordGate(t *testing.T) {
	t.Run("hashes run GOMAXPROCS at a time, in the order in which they came", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := NewPasswords(2)
			turn := make(chan struct{})
			var begun []string
			var mu sync.Mutex
			p.hash = func(a argon, password string, _ []byte) []byte {
				mu.Lock()
				begun = append(begun, password)
				mu.Unlock()
				<-turn
				return make([]byte, a.key)
			}
			var want []string
			for i := range 20 {
				name := strconv.Itoa(i)
				want = append(want, name)
				go p.Hash(t.Context(), name)
				synctest.Wait()
			}
			if got := p.Stats(); got != (PasswordStats{Done: 2, Running: 2, Queued: 18}) {
				t.Errorf("%+v", got)
			}
			for range 20 {
				turn <- struct{}{}
				synctest.Wait()
			}
			if !slices.Equal(begun, want) {
				t.Errorf("begun: %v", begun)
			}
			if got := p.Stats(); got != (PasswordStats{Done: 20}) {
				t.Errorf("%+v", got)
			}
		})
	})
}

func TestPasswordGateIsBounded(t *testing.T) {
	t.Run("checklist_11_beyond_the_queue_the_answer_is_busy_at_once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := NewPasswords(2)
			turn := make(chan struct{})
			p.hash = func(a argon, _ string, _ []byte) []byte { <-turn; return make([]byte, a.key) }
			for range 2 + HashQueue {
				go p.Hash(t.Context(), "x")
			}
			synctest.Wait()
			start := time.Now()
			_, _, err := p.Verify(t.Context(), p.nobody, "x")
			var busy *Error
			if !errors.As(err, &busy) || busy.Reason != ErrBusy.Reason || busy.Retry == 0 || time.Since(start) != 0 {
				t.Errorf("%v after %s", err, time.Since(start))
			}
			if got := p.Stats(); got.Refused != 1 || got.Queued != HashQueue || got.Running != 2 {
				t.Errorf("%+v", got)
			}
			close(turn)
			synctest.Wait()
			if _, err := p.Hash(t.Context(), "x"); err != nil {
				t.Errorf("when the queue is empty again: %v", err)
			}
		})
	})
	t.Run("whose turn does not come in time is told before the call ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := NewPasswords(1)
			turn := make(chan struct{})
			p.hash = func(a argon, _ string, _ []byte) []byte { <-turn; return make([]byte, a.key) }
			go p.Hash(t.Context(), "first")
			synctest.Wait()
			for _, has := range []time.Duration{30 * time.Second, 5 * time.Second, time.Second} {
				ctx, cancel := context.WithTimeout(t.Context(), has)
				_, _, err := p.Verify(ctx, p.nobody, "x")
				var busy *Error
				if !errors.As(err, &busy) || busy.Reason != ErrBusy.Reason || busy.Retry == 0 || ctx.Err() != nil {
					t.Errorf("with %s: %v, %v", has, err, ctx.Err())
				}
				cancel()
			}
			if got := p.Stats(); got != (PasswordStats{Done: 1, Refused: 3, Running: 1}) {
				t.Errorf("%+v", got)
			}
			close(turn)
			synctest.Wait()
		})
	})
	t.Run("a hash that nobody waits for is not begun", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			p := NewPasswords(1)
			turn := make(chan struct{})
			p.hash = func(a argon, _ string, _ []byte) []byte { <-turn; return make([]byte, a.key) }
			go p.Hash(t.Context(), "first")
			synctest.Wait()
			ctx, cancel := context.WithCancelCause(t.Context())
			gone := errors.New("gone")
			failed := make(chan error, 1)
			go func() { _, err := p.Hash(ctx, "second"); failed <- err }()
			synctest.Wait()
			cancel(gone)
			if err := <-failed; !errors.Is(err, gone) {
				t.Errorf("queued: %v", err)
			}
			close(turn)
			if _, err := p.Hash(ctx, "third"); !errors.Is(err, gone) {
				t.Errorf("with an open gate: %v", err)
			}
			synctest.Wait()
			if got := p.Stats(); got != (PasswordStats{Done: 1}) {
				t.Errorf("%+v", got)
			}
		})
	})
}

// BenchmarkPasswords shows what the gate costs beside bare argon2id on all
// processors, and the memory that 256 log-ins at once take.
func BenchmarkPasswords(b *testing.B) {
	const crowd = 256
	p, salt := NewPasswords(0), random(today.salt)
	phc, _ := p.Hash(b.Context(), "correct horse")
	// The best of each: the machine's other work slows now one, now the other.
	alone, behind, most := time.Hour, time.Hour, int64(0)
	for range b.N {
		debug.FreeOSMemory() // both begin with no memory of the other's
		alone = min(alone, timed(func() { together(runtime.GOMAXPROCS(0), crowd, func() { argon2id(today, "correct horse", salt) }) }))
		debug.FreeOSMemory()
		idle := resident()
		var peak atomic.Int64
		stop := make(chan struct{})
		go watch(&peak, stop)
		behind = min(behind, timed(func() { together(crowd, crowd, func() { p.Verify(b.Context(), phc, "correct horse") }) }))
		close(stop)
		most = max(most, peak.Load()-idle)
	}
	b.ReportMetric(float64(alone)/float64(behind), "÷bare")
	b.ReportMetric(crowd/behind.Seconds(), "hashes/s")
	b.ReportMetric(float64(most)/(1<<20), "MiB-over-idle")
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// together does f so many times with so many goroutines.
func together(goroutines, times int, f func()) {
	var left atomic.Int64
	left.Store(int64(times))
	var group sync.WaitGroup
	for range goroutines {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				f()
			}
		})
	}
	group.Wait()
}

// resident is this process's memory in bytes, where the system tells it.
func resident() int64 {
	b, _ := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

func watch(peak *atomic.Int64, stop <-chan struct{}) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			peak.Store(max(peak.Load(), resident()))
		}
	}
}

package main

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// row is one line of the table.
type row struct {
	what, goal string
	value      float64
	beside     string // what was measured beside it
}

// table is what a run came to.
type table struct{ rows []row }

// ratio adds the CPU time of a call over that of a no-op.
func (t *table) ratio(what, goal string, f, noop figures) {
	t.add(what, goal, f.cpuPerCall()/noop.cpuPerCall(), f)
}

func (t *table) add(what, goal string, value float64, f figures) {
	t.rows = append(t.rows, row{what, goal, value, fmt.Sprintf("%.0f µs CPU, %.0f/s, p50 %v, p99 %v",
		f.cpuPerCall(), f.rate(), f.p50.Round(10*time.Microsecond), f.p99.Round(10*time.Microsecond))})
}

func (t *table) plain(what, goal string, value float64) {
	t.rows = append(t.rows, row{what: what, goal: goal, value: value})
}

func (t *table) show(w io.Writer) {
	fmt.Fprintln(w, "| figure | measured | goal | beside it |")
	fmt.Fprintln(w, "|---|---|---|---|")
	for _, r := range t.rows {
		fmt.Fprintf(w, "| %s | %.2f | %s | %s |\n", r.what, r.value, r.goal, r.beside)
	}
}

// write makes the page, with where and when it was measured.
func (t *table) write(path string) error {
	var page bytes.Buffer
	fmt.Fprintf(&page, `# Performance, as measured

Written by %[1]smake bench%[1]s; never by hand. What is compared, and how, stands in the comment at the head of %[1]sbench/doc.go%[1]s.

- when: %[2]s
- commit: %[3]s
- machine: %[4]s
- Go: %[5]s, Postgres and Redis as %[1]smake deps%[1]s installs them

`, "`", time.Now().UTC().Format(time.DateOnly), commit(), machine(), runtime.Version())
	t.show(&page)
	return os.WriteFile(path, page.Bytes(), 0o644)
}

func commit() string {
	head, err := exec.Command("git", "rev-parse", "--short", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(head))
}

func machine() string {
	model := "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d × %s, %s/%s", runtime.NumCPU(), model, runtime.GOOS, runtime.GOARCH)
}

func median[T cmp.Ordered](of []T) T {
	slices.Sort(of)
	return of[len(of)/2]
}

// medianOf is the round whose CPU time a call is the median.
func medianOf(rounds []figures) figures { return medianBy(rounds, figures.cpuPerCall) }

func medianBy[T any](rounds []T, figure func(T) float64) T {
	slices.SortFunc(rounds, func(a, b T) int { return cmp.Compare(figure(a), figure(b)) })
	return rounds[len(rounds)/2]
}

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
	"strconv"
	"strings"
	"time"
)

// row is one line of the table.
type row struct {
	what   string // begins with the goal's name where there is one: "G9 a delivery ..."
	goal   string // "≤ 1.0" or "≥ 8", with words behind it if need be; "–" where nothing is wanted
	value  float64
	beside string // what was measured beside it
}

// goalOrder is the order of the table, whatever was measured first. What has no
// goal comes last.
var goalOrder = []string{"G1", "G2", "G3", "G4", "G5", "G6", "G7", "G8", "G9", "G10", "G11", "G12", "G13", "G14", "G17", "G15", "G16"}

func (r row) place() int {
	name, _, _ := strings.Cut(r.what, " ")
	if at := slices.Index(goalOrder, name); at >= 0 {
		return at
	}
	return len(goalOrder)
}

// verdict says whether the goal is met.
func (r row) verdict() string {
	words := strings.Fields(r.goal)
	if len(words) < 2 || words[0] != "≤" && words[0] != "≥" {
		return ""
	}
	limit, err := strconv.ParseFloat(words[1], 64)
	switch {
	case err != nil:
		return ""
	case words[0] == "≤" && r.value <= limit, words[0] == "≥" && r.value >= limit:
		return "met"
	}
	return "**not met**"
}

// table is what a run came to. Parts add rows in any order.
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
	rows := slices.Clone(t.rows)
	slices.SortStableFunc(rows, func(a, b row) int { return cmp.Compare(a.place(), b.place()) })
	fmt.Fprintln(w, "| figure | measured | goal | | beside it |")
	fmt.Fprintln(w, "|---|---|---|---|---|")
	for _, r := range rows {
		fmt.Fprintf(w, "| %s | %.2f | %s | %s | %s |\n", r.what, r.value, r.goal, r.verdict(), r.beside)
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

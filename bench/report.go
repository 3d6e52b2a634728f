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

// why is what stands in the way of the goals that are not met, as profiles of
// 2026-11-30 show. Take them anew with -profiles when the figures move.
const why = `
## What stands in the way

By %[1]sgo run ./bench -only reads -profiles DIR%[1]s, on the machine above.

- **G1, G3, G4**: of the CPU of a GetRoom that is near, 19 %% is the system call that writes the answer, 10 %% reading the question's head, 15 %% the
  rest of net/http around the handler: a no-op pays that as well. 14 %% the limiter, half of it the trip that 20 calls share; 9 %% the handler
  with the question and the reply; 5 %% who calls; 3 %% the line of the log, 1 %% the metrics; 8 %% the collection of garbage, as much as the no-op's, which has
  nothing in use and collects a hundred times a second; the rest is the links of the chain, their contexts and headers, and the scheduler's. The
  cache itself is 2 %%. Of Redis (G3) it is one script for some 20 calls: five commands a log, whose places lie far apart in its memory.
- **G2**: a binary no-op has no JSON to write, so the same chain weighs twice as much beside it: 1.25 leaves a quarter of 18 µs for
  everything, and 1.05 over h2c two of 40. That is less than what G14 grants to the limits alone. Over h2c the head of a question carries an access
  token, of which a no-op knows nothing: to read its 400 Huffman-coded bytes takes net/http 6 %%, 3.5 µs, and nine more headers of the answer 2.
- **G6**: the load is part of the whole machine, and takes as much for each side; the original asks for no token. A handler that does nothing,
  beside it, is as far as any handler of Connect's can come there.
- **G9**: two thirds, 12.4 of 18.5 µs, are the system call that writes one delivery to one connection, the same for both sides. With nothing
  besides it the server would stand at about 0.65 to socket.io, which is the goal.
- **G12 over h2c**: 4 KB are net/http's buffer of a handler, 7 what the stream and its call hold besides, 4 the stack, 4 what the heap's spans
  leave empty (of the 80 KB that are allocated as a stream begins, 11 stay), the rest what the runtime keeps about them.
- **G13**: a connect is four commands and a disconnect six, in two scripts that sixteen people share; half is finding names, a third Lua.
- **G14, G17**: by themselves (%[1]s-only inside%[1]s) 4.0 to 4.7 µs, 1.17 to 1.30 and 0.16 to 0.18, which meets the goals but for the highest. In a whole
  run, in a process that holds what the parts before have left, they come out up to two thirds higher.
- **G15**: a log-in is more than its hash: the limit, a session, two tokens, the transaction.
- **G17 from Redis**: half is go-redis and the system calls, as in a bare GET; a tenth decoding; the rest the time-out, the breaker and the
  queue of the shared trips, which one caller alone has nobody to share with.
`

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
	fmt.Fprintf(&page, why, "`")
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
// medianOf is the round with the median CPU, and the median of the allocations: in
// some other round the server may have done what it does once a minute.
func medianOf(rounds []figures) figures {
	m := medianBy(rounds, figures.cpuPerCall)
	m.mallocs = medianBy(rounds, figures.mallocsPerCall).mallocsPerCall() * float64(m.calls)
	return m
}

func medianBy[T any](rounds []T, figure func(T) float64) T {
	slices.SortFunc(rounds, func(a, b T) int { return cmp.Compare(figure(a), figure(b)) })
	return rounds[len(rounds)/2]
}

// Command board writes docs/reliability.md from what the tests recorded.
//
//	FREE2TALK_TEST_BOARD=dir make faults && go run ./internal/board dir > docs/reliability.md
//
// A row that no test has recorded anything for says "not proven", and one
// whose test failed says so: nothing on the page is written by hand but the
// names of the rows.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/free2talk/free2talk/internal/testenv"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: board DIRECTORY")
		os.Exit(2)
	}
	figures, err := read(os.Args[1])
	if err == nil {
		_, err = io.WriteString(os.Stdout, page(figures))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "board:", err)
		os.Exit(1)
	}
}

// read returns all that tests wrote into a directory.
func read(dir string) ([]testenv.Figure, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		return nil, err
	}
	var all []testenv.Figure
	for _, name := range files {
		file, err := os.Open(name) //nolint:gosec // the directory is the command line's
		if err != nil {
			return nil, err
		}
		figures, err := parse(file)
		file.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, figures...)
	}
	return all, nil
}

func parse(r io.Reader) (figures []testenv.Figure, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		var f testenv.Figure
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return nil, err
		}
		if !known(f.Row) {
			return nil, fmt.Errorf("%s: the board has no row %q", f.Test, f.Row)
		}
		figures = append(figures, f)
	}
	return figures, lines.Err()
}

func known(name string) bool {
	return slices.ContainsFunc(append(slices.Clone(invariants), board...), func(r row) bool { return r.name == name })
}

// page is the whole of docs/reliability.md.
func page(figures []testenv.Figure) string {
	var b strings.Builder
	b.WriteString(head)
	if last := latest(figures); !last.IsZero() {
		fmt.Fprintf(&b, "The runs below are of %s.\n", last.Format(time.DateOnly))
	}
	b.WriteString("\n## Figures\n\n| figure | reference | goal | seen |\n|---|---|---|---|\n")
	for _, r := range board {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.title, r.reference, r.goal, seen(r.name, figures))
	}
	b.WriteString("\n## Invariants\n\n| | must always hold | seen | by |\n|---|---|---|---|\n")
	for _, r := range invariants {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.name, r.title, seen(r.name, figures), tests(r.name, figures))
	}
	return b.String()
}

func latest(figures []testenv.Figure) (last time.Time) {
	for _, f := range figures {
		if f.At.After(last) {
			last = f.At
		}
	}
	return last
}

// sum is all runs of one thing that is counted or measured.
type sum struct {
	testenv.Figure

	runs int
}

// seen is what the runs of a row found: trials are added up, of measurements
// the worst is told.
func seen(name string, figures []testenv.Figure) string {
	var sums []sum
	var failed []string
	for _, f := range figures {
		if f.Row != name {
			continue
		}
		if f.Failed {
			failed = append(failed, "`"+f.Test+"`")
		}
		i := slices.IndexFunc(sums, func(s sum) bool { return s.What == f.What && s.Each == f.Each })
		if i < 0 {
			sums = append(sums, sum{f, 1})
			continue
		}
		sums[i].runs++
		sums[i].Bad += f.Bad
		sums[i].Of += f.Of
		sums[i].Took = max(sums[i].Took, f.Took)
		sums[i].Race = sums[i].Race || f.Race
	}
	if len(sums) == 0 {
		return "not proven"
	}
	said := make([]string, len(sums))
	for i, s := range sums {
		said[i] = s.String()
	}
	text := strings.Join(said, "; ")
	if len(failed) > 0 {
		text = "**failed**: " + strings.Join(slices.Compact(failed), ", ") + "; " + text
	}
	return text
}

// String never rounds: what was tried less often than the goal says so.
func (s sum) String() string {
	if s.Of > 0 {
		return fmt.Sprintf("%s: %s of %s %s", s.What, grouped(s.Bad), grouped(s.Of), s.Each)
	}
	text := fmt.Sprintf("%s: %s", s.What, s.Took.Round(10*time.Microsecond))
	if s.runs > 1 {
		text += fmt.Sprintf(" (worst of %d runs)", s.runs)
	}
	if s.Each != "" {
		text += ", " + s.Each
	}
	if s.Race {
		text += ", under the race detector"
	}
	return text
}

// grouped is n with commas.
func grouped(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// tests are the tests that recorded something for a row, each once.
func tests(name string, figures []testenv.Figure) string {
	var names []string
	for _, f := range figures {
		if f.Row == name {
			names = append(names, "`"+f.Test+"`")
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

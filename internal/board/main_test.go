package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/free2talk/free2talk/internal/testenv"
)

func TestPage(t *testing.T) {
	day := time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	text := page([]testenv.Figure{
		{Row: "R1", What: "over", Of: 1000, Each: "rooms", Test: "TestB", At: day},
		{Row: "R1", What: "over", Bad: 1, Of: 500, Each: "rooms", Test: "TestA", At: day},
		{Row: "redis-frozen", What: "worst", Took: 5 * time.Millisecond, Test: "TestC", At: day},
		{Row: "redis-frozen", What: "worst", Took: 7 * time.Millisecond, Test: "TestC", At: day, Race: true},
		{Row: "C2", What: "decided", Of: 3, Each: "rounds", Test: "TestD", Failed: true, At: day},
	})
	for _, want := range []string{
		"| over: 1 of 1,500 rooms |",
		"worst: 7ms (worst of 2 runs), under the race detector",
		"**failed**: `TestD`; decided: 0 of 3 rounds",
		"`TestA`, `TestB` |",
		"| C3 | a thousand misses of one key at once: at most two database reads a node | not proven |",
		"are of 2026-01-02",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q:\n%s", want, text)
		}
	}
}

func TestNothingIsProvenByNothing(t *testing.T) {
	text := page(nil)
	if got, want := strings.Count(text, "| not proven |"), len(board)+len(invariants); got != want {
		t.Errorf("%d rows are not proven, want %d", got, want)
	}
}

func TestRead(t *testing.T) {
	dir := t.TempDir()
	put := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, "some.test.jsonl"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(`{"row":"R1","what":"over","bad":0,"of":2,"test":"TestA","at":"2026-01-02T00:00:00Z"}` + "\n")
	if figures, err := read(dir); err != nil || len(figures) != 1 || figures[0].Of != 2 {
		t.Errorf("%v, %v", figures, err)
	}
	put(`{"row":"R99","test":"TestA"}` + "\n")
	if _, err := read(dir); err == nil || !strings.Contains(err.Error(), `no row "R99"`) {
		t.Errorf("an unknown row: %v", err)
	}
	put("{\n")
	if _, err := read(dir); err == nil {
		t.Error("half a line is no error")
	}
}

func TestGrouped(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 12345678: "12,345,678"} {
		if got := grouped(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

// Every row of the invariants has a test that carries its name.
func TestEveryInvariantHasATest(t *testing.T) {
	var all strings.Builder
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, entry os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range invariants {
		if !strings.Contains(all.String(), "func Test"+r.name+"_") && !strings.Contains(all.String(), `Run("`+r.name+"_") && !strings.Contains(all.String(), "_"+r.name+"_") {
			t.Errorf("no test is called after %s", r.name)
		}
	}
}

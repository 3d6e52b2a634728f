// Command mutants shows that the tests of the cache would notice if one of the
// rules that keep it coherent were missing: it takes each rule away, in a copy
// that nobody sees, and expects the test that is named to fail.
//
//	go run ./internal/testenv/run -- go run ./internal/mutants
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// mutant is a change that takes a rule away.
type mutant struct {
	rule string
	file string
	edit [2]string // what is replaced, and by what; it must be there once
	test string    // of ./cache, which must fail
}

var mutants = []mutant{
	{"an entry is near only while the own heartbeat is heard", "cache/near.go", [2]string{
		"return now < n.until.Load() && e.epoch == n.epoch.Load()", "return e.epoch == n.epoch.Load()",
	}, "TestNearBelievesNoSilence"},
	{"an entry is unlinked with its being told, not after", "cache/forget.go", [2]string{
		"calls[i] = scriptForget.run(r.keys.entry(key), r.keys.invalidations(), string(key))",
		"_ = r.cache.do(ctx, command(\"publish\", r.keys.invalidations(), string(key)))\n\t\tcalls[i] = command(\"unlink\", r.keys.entry(key))",
	}, "TestNearIsToldNoSooner"},
	{"a fill needs its lease", "cache/lua/entry_fill.lua", [2]string{
		"if redis.call('GET', KEYS[1]) ~= ARGV[1] then", "if false then",
	}, "TestTyped"},
	{"who comes later waits for the next load", "cache/group.go", [2]string{
		"\t\tcase l.next == nil:\n\t\t\tl.next = newFlight[T](ctx, since)\n\t\t\tflights[i] = l.next\n", "\t\tcase l.running != nil:\n\t\t\tflights[i] = l.running\n",
	}, "TestGroup"},
	{"a connection that broke ends the epoch", "cache/hear.go", [2]string{
		"up:      h.up,\n\t\tdown:    r.near.deaf,",
		"up:      func() {},\n\t\tdown:    func() {},",
	}, "TestNearEndsItsEpochWithTheConnection"},
	{"a heartbeat that was lost ends the epoch", "cache/hear.go", [2]string{
		"if h.overtakes(number) {", "if h.overtakes(number) && false {",
	}, "TestNearEndsItsEpochWithALost"},
	{"what was asked for before a write is not kept after it", "cache/near.go", [2]string{
		"if since.epoch == n.epoch.Load() && since.moves == s.moves {", "if since.epoch == n.epoch.Load() {",
	}, "TestNear$"},
	{"what a look is kept under was noted before it asked", "cache/look.go", [2]string{
		"return t.seen(ctx, key, entry, since)", "_ = since\n\treturn t.seen(ctx, key, entry, r.near.stamp(nearKey{t.kind, name}))",
	}, "TestNear$"},
	{"what was loaded from another history is not seen", "cache/look.go", [2]string{
		"case !t.redis.history.has(entry):", "case false:",
	}, "TestHistories"},
	{"the node that acknowledges a write forgets what it has near", "cache/forget.go", [2]string{
		"r.near.forget(keys...) // after Redis did", "_ = 0 // after Redis did",
	}, "TestC1_near"},
}

func main() {
	survived := 0
	for _, m := range mutants {
		caught, err := m.caught()
		switch {
		case err != nil:
			fmt.Fprintf(os.Stderr, "%s: %v\n", m.rule, err)
			survived++
		case caught:
			fmt.Fprintf(os.Stdout, "caught by %s: without the rule that %s\n", strings.TrimSuffix(m.test, "$"), m.rule)
		default:
			fmt.Fprintf(os.Stdout, "NOT caught by %s: without the rule that %s\n", strings.TrimSuffix(m.test, "$"), m.rule)
			survived++
		}
	}
	if survived > 0 {
		os.Exit(1)
	}
}

// caught reports whether the test fails without the rule.
func (m mutant) caught() (bool, error) {
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	overlay, err := m.overlay(dir)
	if err != nil {
		return false, err
	}
	binary := filepath.Join(dir, "cache.test")
	if reply, err := exec.Command("go", "test", "-c", "-overlay", overlay, "-o", binary, "./cache").CombinedOutput(); err != nil {
		return false, fmt.Errorf("it does not build: %w\n%s", err, reply)
	}
	test := exec.Command(binary, "-test.run", m.test, "-test.timeout", "5m")
	test.Dir = "cache"
	reply, err := test.CombinedOutput()
	if ended, ok := errors.AsType[*exec.ExitError](err); ok && strings.Contains(string(reply), "--- FAIL") {
		return ended.ExitCode() == 1, nil
	}
	return false, err
}

// overlay writes the changed file, and what tells the compiler of it.
func (m mutant) overlay(dir string) (string, error) {
	text, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	if strings.Count(string(text), m.edit[0]) != 1 {
		return "", fmt.Errorf("%s does not hold, once: %s", m.file, m.edit[0])
	}
	changed := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(changed, []byte(strings.Replace(string(text), m.edit[0], m.edit[1], 1)), 0o600); err != nil {
		return "", err
	}
	original, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {original: changed}})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, replace, 0o600)
}

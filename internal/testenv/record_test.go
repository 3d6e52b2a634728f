package testenv

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRecord(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(envBoard, dir)
	for _, name := range []string{"first", "second"} {
		t.Run(name, func(t *testing.T) {
			Record(t, Figure{Row: "C2", What: "decisions from a cache", Of: 7, Each: "rounds"})
		})
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines: %s", len(lines), text)
	}
	var f Figure
	if err := json.Unmarshal([]byte(lines[1]), &f); err != nil {
		t.Fatal(err)
	}
	if f.Row != "C2" || f.Of != 7 || f.Failed || f.At.IsZero() || f.Test != "TestRecord/second" {
		t.Errorf("%+v", f)
	}
}

func TestRecordNowhere(t *testing.T) {
	if err := write("", Figure{}); err != nil {
		t.Error(err)
	}
	if err := write(filepath.Join(t.TempDir(), "missing"), Figure{}); err == nil {
		t.Error("a missing directory is no error")
	}
}

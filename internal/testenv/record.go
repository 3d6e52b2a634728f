package testenv

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// envBoard names the directory that figures are written to. Empty: nowhere.
const envBoard = "FREE2TALK_TEST_BOARD"

// Figure is what one run of a test found out about a row of the board.
type Figure struct {
	// Row is the row's name: an invariant ("C2") or a figure ("redis-frozen").
	Row string `json:"row"`
	// What is counted or measured: "rooms over capacity", "worst added latency".
	What string `json:"what"`
	// Bad of Of trials broke the promise. Of zero means that it is a measurement.
	Bad int64 `json:"bad"`
	Of  int64 `json:"of,omitempty"`
	// Each is what one trial is: "rooms × 64 joiners, 2 nodes".
	Each string `json:"each,omitempty"`
	// Took is the measurement.
	Took time.Duration `json:"took,omitempty"`

	Test   string    `json:"test"`
	Failed bool      `json:"failed,omitempty"` // the test, by whatever of it
	At     time.Time `json:"at"`
	Race   bool      `json:"race,omitempty"` // measured under the race detector
}

// Record notes a figure for the board once the test has ended, and whether it
// failed. Without FREE2TALK_TEST_BOARD it notes nothing.
func Record(t testing.TB, f Figure) {
	t.Helper()
	t.Cleanup(func() {
		f.Test, f.Failed, f.At, f.Race = t.Name(), t.Failed(), time.Now().UTC().Truncate(time.Second), underRace
		check(t, write(os.Getenv(envBoard), f))
	})
}

// write appends a line to a file of this process, so that packages that are
// tested at once do not write over each other.
func write(dir string, f Figure) error {
	if dir == "" {
		return nil
	}
	line, err := json.Marshal(f)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, filepath.Base(os.Args[0])+".jsonl")
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(line, '\n'))
	if closed := file.Close(); err == nil {
		err = closed
	}
	return err
}

package testenv

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"
)

// shared returns the address of a shared server, or fails the test with what
// to do about its absence.
func shared(t testing.TB, name string) string {
	t.Helper()

	value := os.Getenv(name)
	if value == "" {
		t.Fatalf("%s is not set: run `make test`, or `go run ./internal/testenv/run -- go test PACKAGE`", name)
	}
	return value
}

// unique returns a name that no other call returns, made of the test's name
// so that a person finds it again: lower case, digits and underscores, short
// enough for a database.
func unique(t testing.TB) string {
	t.Helper()

	const longest = 40 // of Postgres's 63, with the rest random

	name := strings.Map(func(r rune) rune {
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') {
			return r
		}
		return '_'
	}, strings.ToLower(t.Name()))
	return "t_" + name[:min(longest, len(name))] + "_" + strings.ToLower(rand.Text()[:12])
}

// Effort returns how much a test is to do: short in `make test`, long in
// `make faults`. It takes numbers of rounds as well as durations.
//
//	for seed := range testenv.Effort(5, 500) {
func Effort[N int | time.Duration](short, long N) N {
	if os.Getenv("FREE2TALK_TEST_LONG") != "" {
		return long
	}
	return short
}

// check fails the test where err is one, from whatever goroutine.
func check(t testing.TB, err error) {
	t.Helper()

	if err != nil {
		t.Errorf("testenv: %v", err)
	}
}

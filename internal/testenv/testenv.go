package testenv

import (
	"crypto/rand"
	"os"
	"strings"
	"testing"
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

// check fails the test where err is one, from whatever goroutine.
func check(t testing.TB, err error) {
	t.Helper()

	if err != nil {
		t.Errorf("testenv: %v", err)
	}
}

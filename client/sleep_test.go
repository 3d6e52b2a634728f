package client

import (
	"testing"
	"time"

	"connectrpc.com/connect/v2"
)

// The end of a token goes by the wall clock: the monotonic one stands while a
// machine sleeps, and a token that ran out meanwhile would seem to hold.
func TestATokenRunsOutWhileTheMachineSleeps(t *testing.T) {
	t.Parallel()
	s := &session{store: new(memory), clock: wallClock{}}
	if err := s.replace(t.Context(), Tokens{Access: "a", AccessExpiresAt: time.Now().Add(time.Minute)}, new(connect.Header)); err != nil {
		t.Fatal(err)
	}
	if !s.rests() || s.ends != s.ends.Round(0) {
		t.Errorf("it ends %v", s.ends)
	}
}

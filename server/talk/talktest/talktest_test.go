package talktest_test

import (
	"testing"

	"github.com/free2talk/free2talk/server/talk"
	"github.com/free2talk/free2talk/server/talk/talktest"
)

func TestMemory(t *testing.T) {
	t.Parallel()
	talktest.RunStore(t, func(_ *testing.T, clock talk.Clock) talk.Store { return talktest.NewMemory(clock) })
}

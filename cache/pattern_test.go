package cache

import (
	"sync"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// A Redis that misses time-outs while an administrator's flush walks through it
// is no reason to begin anew.
func TestInvalidatePatternOutlastsTimeouts(t *testing.T) {
	t.Parallel()
	server, where := own(t)
	r, world := where.open(t, quick), newNumbers()
	c := world.cache(r)
	keys := []talk.Key{"room:a", "room:b", "room:c"}
	for _, key := range keys {
		world.set(key, 1)
		equal(t, "loaded", get(t, c, key), 1)
	}
	var once sync.Once
	raw(r).AddHook(answered{"scan", func() {
		once.Do(func() {
			server.Stop()
			time.AfterFunc(5*defaultTimeout, server.Cont)
		})
	}})
	_, err := r.InvalidatePattern(t.Context(), "room:*") // what was dropped by a command that was not answered is not counted
	check(t, err)
	for _, key := range keys {
		equal(t, "there", raw(r).Exists(t.Context(), r.keys.entry(key)).Val(), 0)
	}
}

package cache

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// What was too much to remember stays so for as long as it would have been
// remembered: a failover loses what was unlinked in the minute before.
func TestAFloodIsRememberedAsLongAsItsKeys(t *testing.T) {
	t.Parallel()
	d, now := newDirty(), time.Now()
	many := make([]talk.Key, mostRecent)
	for i := range many {
		many[i] = talk.Key("room:" + strconv.Itoa(i))
	}
	d.remember(many, now)
	_, flood := d.lately()
	equal(t, "as much as can be remembered is a flood", flood, false)
	d.remember([]talk.Key{roomA}, now.Add(recentLasts-time.Second))
	d.remember([]talk.Key{roomNear}, now.Add(recentLasts+time.Second))
	keys, flood := d.lately()
	equal(t, "two seconds later it is known, or said to be a flood", flood || slices.Contains(keys, roomA), true)
	d.remember([]talk.Key{roomNear}, now.Add(2*recentLasts+2*time.Second))
	_, flood = d.lately()
	equal(t, "a minute later it is a flood", flood, false)
}

package main

import (
	"context"
	"os"
	"runtime/debug"
	rtmetrics "runtime/metrics"
	"time"
)

// How much garbage may lie about before it is collected, in per cent of what is
// in use, where GOGC does not say: four times Go's own share while little is in
// use, which spares most of what collecting costs, an eighth of the processor under load; and
// no more than Go's own once memory is what counts, as with many streams.
const (
	garbageMost  = 400
	garbageLeast = 100
	garbageSize  = 256 << 20 // bytes that it may come to while it is more than the least
	garbageLook  = time.Second
)

// Memory that was needed once, as when many streams came at once, is given back
// where nothing has been collected for a while: Go itself keeps what the next
// collection might let it fill, which with such a share is several times what is
// in use.
const (
	calmAfter  = 30       // looks without a collection: what is given back costs to be had again
	spareLeast = 32 << 20 // bytes that are worth one
)

// tuneGarbage keeps to that until ctx ends.
func tuneGarbage(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	var g garbage
	look := time.NewTicker(garbageLook)
	defer look.Stop()
	for {
		now := readMemory()
		if share := garbageShare(now.live); share != g.share {
			g.share = share
			debug.SetGCPercent(share)
		}
		if g.giveBack(now) {
			debug.FreeOSMemory()
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// heap is what the process' memory holds.
type heap struct {
	live   uint64 // bytes that the last collection found in use
	spare  uint64 // bytes that are held though nothing in use is in them, all of it garbage or free
	cycles uint64 // collections so far
}

func readMemory() heap {
	all := []rtmetrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"},
	}
	rtmetrics.Read(all)
	live, objects, free := all[0].Value.Uint64(), all[1].Value.Uint64(), all[2].Value.Uint64()
	return heap{live: live, spare: max(objects, live) - live + free, cycles: all[3].Value.Uint64()}
}

// garbage is what has been decided and seen of it.
type garbage struct {
	share  int
	cycles uint64
	calm   int // looks since there was a collection
}

// giveBack is whether now is the time: at a calm moment, and for half as much as is
// in use at least, so that what is given back is not soon asked for again.
func (g *garbage) giveBack(now heap) bool {
	if now.cycles != g.cycles {
		g.cycles, g.calm = now.cycles, 0
		return false
	}
	g.calm++
	return g.calm >= calmAfter && now.spare > max(spareLeast, now.live/2)
}

// garbageShare is in steps of ten: it is not set anew for every little change.
func garbageShare(live uint64) int {
	share := garbageSize * 100 / max(live, 1) / 10 * 10
	return int(min(max(share, garbageLeast), garbageMost))
}

package main

import (
	"context"
	"os"
	"runtime/debug"
	rtmetrics "runtime/metrics"
	"slices"
	"time"
)

// How much garbage may lie about before it is collected, in per cent of what is
// in use, where GOGC does not say: four times Go's own share while little is in
// use, which spares most of what collecting costs, an eighth of the processor under load;
// no more than Go's own once memory is what counts, as with many streams; and half of
// that while more and more is in use: what stays then lies between garbage, and holes
// remain.
const (
	garbageMost  = 400
	garbageLeast = 100
	garbageGrows = 50
	garbageSize  = 256 << 20 // bytes that it may come to while it is more than the least
	growLeast    = 4 << 20   // bytes that more is in use than at any of the last looks, beside a twentieth
	growMany     = 500       // goroutines that are more than then
	growLooks    = 8         // of those that saw another collection
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
		before := g.share
		share, giveBack := g.look(readMemory())
		if share != before {
			debug.SetGCPercent(share)
		}
		if giveBack {
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

	goroutines uint64 // each stream is one
}

func readMemory() heap {
	all := []rtmetrics.Sample{
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/sched/goroutines:goroutines"},
	}
	rtmetrics.Read(all)
	live, objects, free := all[0].Value.Uint64(), all[1].Value.Uint64(), all[2].Value.Uint64()
	return heap{
		live: live, spare: max(objects, live) - live + free,
		cycles: all[3].Value.Uint64(), goroutines: all[4].Value.Uint64(),
	}
}

// garbage is what has been decided and seen of it.
type garbage struct {
	share int
	last  heap // as of the look that saw the last collection first
	calm  int  // looks since

	// lives is what was in use at the last such looks. A collection under load also
	// counts what began while it ran, more or less of it: only what is above all of
	// them is more and more.
	lives [growLooks]uint64
}

// look decides how much garbage may lie, and whether to give memory back: at a calm
// moment, and where it is a quarter of what is in use at least, so that it is not soon
// asked for again. That streams begin is seen at once: by the next collection they
// would lie between as much garbage as may lie where nothing grows.
func (g *garbage) look(now heap) (share int, giveBack bool) {
	begins := now.goroutines > g.last.goroutines+growMany
	if g.share != 0 && now.cycles == g.last.cycles {
		if begins {
			g.share = min(g.share, garbageGrows)
		}
		g.calm++
		return g.share, g.calm >= calmAfter && now.spare > max(spareLeast, now.live/4)
	}
	g.share = garbageShare(now.live)
	most := slices.Max(g.lives[:])
	if begins || now.live > most+most/20+growLeast {
		g.share = garbageGrows
	}
	g.last, g.calm = now, 0
	copy(g.lives[1:], g.lives[:])
	g.lives[0] = now.live
	return g.share, false
}

// garbageShare is in steps of ten: it is not set anew for every little change.
func garbageShare(live uint64) int {
	share := garbageSize * 100 / max(live, 1) / 10 * 10
	return int(min(max(share, garbageLeast), garbageMost))
}

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

// tuneGarbage keeps to that until ctx ends.
func tuneGarbage(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	live := []rtmetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	share := 0
	look := time.NewTicker(garbageLook)
	defer look.Stop()
	for {
		rtmetrics.Read(live)
		if now := garbageShare(live[0].Value.Uint64()); now != share {
			share = now
			debug.SetGCPercent(share)
		}
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// garbageShare is in steps of ten: it is not set anew for every little change.
func garbageShare(live uint64) int {
	share := garbageSize * 100 / max(live, 1) / 10 * 10
	return int(min(max(share, garbageLeast), garbageMost))
}

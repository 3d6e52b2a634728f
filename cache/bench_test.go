package cache

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
)

func benchCorner(b *testing.B) corner {
	b.Helper()
	url, prefix := testenv.Redis(b)
	return corner{url, prefix}
}

// BenchmarkRead compares a hit with a bare GET of as many bytes.
func BenchmarkRead(b *testing.B) {
	r := benchCorner(b).open(b)
	w := newWorld()
	w.putRoom("r1", strings.Repeat("s", 500), 4)
	reader := w.reader(r)
	read := func(b *testing.B) {
		if _, err := reader.Room(b.Context(), "r1"); err != nil {
			b.Error(err)
		}
	}
	bare := func(b *testing.B) {
		if _, err := raw(r).Get(b.Context(), r.keys.entry("room:r1")).Bytes(); err != nil {
			b.Error(err)
		}
	}
	read(b)
	for name, do := range map[string]func(*testing.B){"hit": read, "bare GET": bare} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				do(b)
			}
		})
		b.Run(name+", 64 at once", func(b *testing.B) {
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					do(b)
				}
			})
		})
	}
	b.Run("hit, 64 at once, of 1000 rooms", func(b *testing.B) { manyRooms(b, w, reader) })
}

func manyRooms(b *testing.B, w *world, reader *Reader) {
	for i := range 1000 {
		w.putRoom(roomID(i), "", 4)
	}
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := reader.Room(b.Context(), roomID(i%1000)); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkTake is a decision that allows, alone and with 64 callers, and one
// that refuses by memory.
func BenchmarkTake(b *testing.B) {
	r := benchCorner(b).open(b)
	l := NewLimiter(r, nil)
	limit := limitOf(100, 15*time.Minute)
	decide := func(i int) {
		if v, err := l.Take(b.Context(), limit, fmt.Sprint(b.Name(), i/50), 1); err != nil || v.Local {
			b.Errorf("%+v, %v", v, err)
		}
	}
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			decide(i)
		}
	})
	b.Run("64 at once", func(b *testing.B) {
		b.SetParallelism(32)
		var next atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				decide(int(next.Add(1)))
			}
		})
	})
	b.Run("refused", func(b *testing.B) {
		b.ReportAllocs()
		one := talk.Limit{Policy: "strict", Places: 1, Window: time.Hour}
		for b.Loop() {
			_, _ = l.Take(b.Context(), one, "k", 1)
		}
	})
}

package talk_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// backlog is a table of untold rows, and a cache that may be away.
type backlog struct {
	talk.Store
	talk.Cache

	mu    sync.Mutex
	rows  []int64
	away  bool
	asked []int // how many rows each look asked for, at most
}

// Unpublished is talk.Store's.
func (b *backlog) Unpublished(_ context.Context, _ time.Time, limit int) (rows []talk.Outgoing, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, limit)
	for _, id := range b.rows[:min(limit, len(b.rows))] {
		rows = append(rows, talk.Outgoing{ID: id, Keys: []talk.Key{"a"}})
	}
	return rows, nil
}

// Published is talk.Store's.
func (b *backlog) Published(_ context.Context, ids []int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows = b.rows[len(ids):]
	return nil
}

// Forget is talk.Cache's.
func (b *backlog) Forget(context.Context, ...talk.Key) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away {
		return errors.New("redis is away")
	}
	return nil
}

func (b *backlog) set(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	do()
}

// TestABacklogIsNotReadForNothing: while nobody can be told, most looks read
// one row, and the log has one line; then all is told.
func TestABacklogIsNotReadForNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &backlog{rows: make([]int64, 1200), away: true}
		var lines bytes.Buffer
		o := talk.NewOutbox(b, b, time.Now, slog.New(slog.NewTextHandler(&lines, nil)))
		ctx, stop := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { o.Run(ctx) })
		time.Sleep(30 * time.Second)
		b.set(func() {
			read := 0
			for _, limit := range b.asked {
				read += min(limit, len(b.rows))
			}
			if len(b.asked) < 90 || read > 60*len(b.asked) || strings.Count(lines.String(), "step=sweep") != 1 {
				t.Errorf("%d looks read %d rows, logged %s", len(b.asked), read, &lines)
			}
			b.away = false
		})
		time.Sleep(3 * time.Second)
		b.set(func() {
			if len(b.rows) != 0 || o.Stats().Swept != 1200 {
				t.Errorf("%d rows are left, %d were told", len(b.rows), o.Stats().Swept)
			}
		})
		stop()
		run.Wait()
	})
}

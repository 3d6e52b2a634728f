package db

import (
	"context"
	"slices"
	"sync"
)

// gates are doors that one change passes at a time, in the order of coming.
// Whoever waits here holds no connection. The zero value is open.
type gates struct {
	mu    sync.Mutex
	lines map[string][]chan struct{} // present while somebody is inside
}

// enter passes the gates of keys, in their order, and returns the way out.
func (g *gates) enter(ctx context.Context, keys []string) (leave func(), err error) {
	for i, key := range keys {
		if err := g.pass(ctx, key); err != nil {
			g.leave(keys[:i])
			return nil, err
		}
	}
	return func() { g.leave(keys) }, nil
}

func (g *gates) pass(ctx context.Context, key string) error {
	turn := g.line(key)
	if turn == nil {
		return nil
	}
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		g.giveUp(key, turn)
		return ctx.Err()
	}
}

// line takes the gate, or a place in its line.
func (g *gates) line(key string) chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.lines == nil {
		g.lines = map[string][]chan struct{}{}
	}
	line, taken := g.lines[key]
	if !taken {
		g.lines[key] = nil
		return nil
	}
	turn := make(chan struct{})
	g.lines[key] = append(line, turn)
	return turn
}

func (g *gates) giveUp(key string, turn chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.lines[key], turn); i >= 0 {
		g.lines[key] = slices.Delete(g.lines[key], i, i+1)
		return
	}
	g.next(key) // it was this one's turn already
}

func (g *gates) leave(keys []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, key := range keys {
		g.next(key)
	}
}

func (g *gates) next(key string) {
	line := g.lines[key]
	if len(line) == 0 {
		delete(g.lines, key)
		return
	}
	close(line[0])
	g.lines[key] = line[1:]
}

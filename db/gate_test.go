package db

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
)

// waiting is how many stand in line at a gate.
func (g *gates) waiting(key string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.lines[key])
}

func enter(t *testing.T, g *gates, keys ...string) (leave func()) {
	t.Helper()
	leave, err := g.enter(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

// lined waits until n stand in line: the line is part of this process.
func lined(g *gates, key string, n int) {
	for g.waiting(key) != n {
		runtime.Gosched()
	}
}

func TestGatesPassInTheOrderOfComing(t *testing.T) {
	t.Parallel()
	var g gates
	leave := enter(t, &g, "room")
	var order []int
	var all sync.WaitGroup
	for i := range 10 {
		all.Go(func() {
			leave, err := g.enter(t.Context(), []string{"room"})
			if err != nil {
				t.Error(err)
				return
			}
			order = append(order, i) // alone in there: the race detector would see
			leave()
		})
		lined(&g, "room", i+1)
	}
	leave()
	all.Wait()
	if !slices.IsSorted(order) || len(order) != 10 {
		t.Errorf("passed in the order %v", order)
	}
	if len(g.lines) != 0 {
		t.Errorf("lines are left: %v", g.lines)
	}
}

func TestGatesOfOthersAreOpen(t *testing.T) {
	t.Parallel()
	var g gates
	leave := enter(t, &g, "a", "b")
	enter(t, &g, "c", "d")()
	leave()
	enter(t, &g, "a", "b", "c", "d")()
}

func TestWhoGivesUpHoldsNothing(t *testing.T) {
	t.Parallel()
	var g gates
	leave := enter(t, &g, "b")
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := g.enter(ctx, []string{"a", "b", "c"})
		gone <- err
	}()
	lined(&g, "b", 1)
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	enter(t, &g, "a", "c")()
	leave()
	enter(t, &g, "b")()
	if len(g.lines) != 0 {
		t.Errorf("lines are left: %v", g.lines)
	}
}

func TestATurnThatComesWithTheEndIsPassedOn(t *testing.T) {
	t.Parallel()
	for range 200 {
		var g gates
		leave := enter(t, &g, "room")
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if leave, err := g.enter(ctx, []string{"room"}); err == nil {
				leave()
			}
		})
		lined(&g, "room", 1)
		all.Go(cancel)
		all.Go(leave)
		all.Wait()
		if len(g.lines) != 0 {
			t.Fatal("the gate stays shut")
		}
	}
}

package main

import (
	"net/http"
	"testing"
	"time"

	"github.com/free2talk/free2talk/internal/testenv"
)

// A node that starts is not ready before it has read what is asked for most,
// and tells how long that took.
func TestWarming(t *testing.T) {
	server := testenv.StartRedis(t)
	w := newWorld(t, onOwnRedis(server), 1)
	owner := w.player()
	room := w.room(owner.person, 4).GetId()
	fresh := w.start()
	w.eventually(10*time.Second, "the node is ready", func() bool {
		code, _ := w.get(fresh, "/readyz")
		return code == http.StatusOK
	})
	if w.measured(fresh, "free2talk_cache_warming_seconds") <= 0 {
		t.Error("nobody tells how long it took")
	}
	if _, err := w.client(fresh).Rooms.GetRoom(t.Context(), roomByID(room)); err != nil {
		t.Error(err)
	}
	if near := w.measured(fresh, "free2talk_cache_requests_total", `cache="room"`, `layer="near"`, `result="hit"`); near == 0 {
		t.Error("the room was not near")
	}
}

// Where Redis is away a node is ready all the same.
func TestWarmingWithoutRedis(t *testing.T) {
	server := testenv.StartRedis(t)
	w := newWorld(t, onOwnRedis(server), 1)
	server.Stop()
	defer server.Cont()
	fresh := w.start()
	w.eventually(10*time.Second, "the node is ready", func() bool {
		code, _ := w.get(fresh, "/readyz")
		return code == http.StatusOK
	})
}

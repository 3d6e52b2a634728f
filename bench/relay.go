package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"time"

	"github.com/free2talk/free2talk/cache"
	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/server/talk"
)

// relay tells a room's events to the nodes as a node's relay does, with as
// little before it as the other servers have: what is measured is who has the
// subscribers, and a change by way of Postgres takes longer than to tell a
// thousand people of it.
type relay struct {
	store *db.Store
	redis *cache.Redis
	bus   *cache.Bus
	http  *httptest.Server

	mu    sync.Mutex
	event talk.Event
}

func (r *run) newRelay(c *crowd, prefix, room string) (_ *relay, err error) {
	y := &relay{}
	if y.store, err = db.Open(r.ctx, db.Config{URL: c.dsn}); err != nil {
		return nil, err
	}
	history, err := y.store.HistoryID(r.ctx)
	if err != nil {
		return nil, errors.Join(err, y.store.Close())
	}
	if y.redis, err = cache.Open(cache.Config{URL: r.redis.URL(), Prefix: prefix, History: history, Timeout: 10 * time.Second}); err != nil {
		return nil, errors.Join(err, y.store.Close())
	}
	y.bus = cache.NewBus(y.redis, nil)
	live, err := y.store.LiveRoom(r.ctx, talk.RoomID(room))
	if err != nil {
		return nil, errors.Join(err, y.redis.Close(), y.store.Close())
	}
	y.event = talk.Event{Topic: talk.RoomTopic(live.ID), Fact: talk.RoomUpdated{Room: live.Room}}
	y.http = httptest.NewServer(http.HandlerFunc(y.publish))
	return y, nil
}

// begin is called before subscribers come: they learn from the table where the
// room stands. From then on, the relay alone says what happens in it.
func (y *relay) begin(ctx context.Context) error {
	fact := y.event.Fact.(talk.RoomUpdated)
	live, err := y.store.LiveRoom(ctx, fact.Room.ID)
	if err != nil {
		return err
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	y.event.Seq = max(y.event.Seq, live.Seq)
	_, err = y.store.DB().NewRaw("UPDATE rooms SET seq = ? WHERE id = ?", y.event.Seq, string(fact.Room.ID)).Exec(ctx)
	return err
}

func (y *relay) publish(w http.ResponseWriter, q *http.Request) {
	n, err := strconv.Atoi(q.FormValue("n"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	events := make([]talk.Event, n)
	for i := range events {
		y.event.Seq++
		y.event.At = time.Now()
		fact := y.event.Fact.(talk.RoomUpdated)
		fact.Room.Topic = fmt.Sprintf("What one would do with a year off, %d", y.event.Seq)
		fact.Room.Version = y.event.Seq
		y.event.Fact = fact
		events[i] = y.event
	}
	if err := y.bus.Publish(q.Context(), events); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (y *relay) close() {
	y.http.Close()
	_ = errors.Join(y.redis.Close(), y.store.Close()) // what matters was said where it was measured
}

package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

const (
	historyEvery = time.Second     // a pool of connections between may hide that the server is another
	historyAsk   = 3 * time.Second // bounds the question
)

// watchHistory notes when the database's history is not the one any more that
// this node has read: then what it knows may never have happened.
func (n *node) watchHistory(ctx context.Context) {
	tick := time.NewTicker(historyEvery)
	defer tick.Stop()
	for !n.isAnother(ctx) {
		select {
		case <-ctx.Done():
			return
		case <-n.store.Replaced():
		case <-tick.C:
		}
	}
	close(n.astray)
}

func (n *node) isAnother(ctx context.Context) bool {
	select {
	case <-n.store.Replaced():
		return true
	default:
	}
	short, cancel := context.WithTimeout(ctx, historyAsk)
	defer cancel()
	history, err := n.store.HistoryID(short)
	return err == nil && history != n.history
}

// host is this process: a node answers in it, and another in its place where the
// history of the database became another one, as after a failover that lost what
// was committed last.
type host struct {
	now      atomic.Pointer[node]
	retiring sync.WaitGroup
}

// serve answers until ctx ends, then drains and closes everything. The
// node it begins with is the one that was opened.
func serve(ctx context.Context, n *node, clients, metrics net.Listener) error {
	h := &host{}
	h.now.Store(n)
	served := make(chan error, 2) // one for each listener
	go func() { served <- n.server.Serve(clients) }()
	scraped := &http.Server{Handler: http.HandlerFunc(h.scrape), ReadHeaderTimeout: 5 * time.Second}
	if metrics != nil {
		go func() {
			if err := scraped.Serve(metrics); !errors.Is(err, http.ErrServerClosed) {
				served <- err
			}
		}()
	}
	err := h.stay(ctx, served)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWithin)
	defer cancel()
	newest := h.now.Load()
	err = errors.Join(err, newest.server.Shutdown(last), scraped.Close())
	h.retiring.Wait()
	return errors.Join(err, newest.close())
}

const drainWithin = 18 * time.Second

func (h *host) scrape(w http.ResponseWriter, r *http.Request) {
	h.now.Load().telemetry.Handler().ServeHTTP(w, r)
}

// stay returns when ctx ends, or with what makes it impossible to go on.
func (h *host) stay(ctx context.Context, served <-chan error) error {
	for {
		n := h.now.Load()
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
			n.log.Info("draining")
			return nil
		case <-n.astray:
		}
		n.log.Warn("the database has another history: this node begins anew")
		next, err := n.again(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		if err == nil {
			h.succeed(ctx, n, next)
		}
	}
}

// again opens the node that takes n's place. It waits for the database, which
// may fail over once more meanwhile.
func (n *node) again(ctx context.Context) (*node, error) {
	settings := n.settings
	settings.anew = true
	for {
		next, err := open(ctx, settings, n.log)
		if !errors.Is(err, talk.ErrDatabaseUnavailable) {
			return next, err
		}
		n.log.Warn("not begun anew yet", "error", err)
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(awaitEvery):
		}
	}
}

// succeed has next answer in the place of old, whose streams go away: they come
// back, with a cursor of another history, and are told the state.
func (h *host) succeed(ctx context.Context, old, next *node) {
	next.server.Succeed(old.server)
	h.now.Store(next)
	next.log.Info("begun anew", "was", old.id, "node", next.id)
	h.retiring.Go(func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWithin)
		defer cancel()
		name := old.presence.Name()
		err := errors.Join(old.server.Retire(last), old.close())
		// It could not say so itself, and may be on the list of those that live.
		if err = errors.Join(err, next.store.Retire(last, name)); err != nil {
			next.log.Info("retired in part", "node", old.id, "error", err)
		}
	})
}

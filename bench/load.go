package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// connections is how many callers call at once.
const connections = 64

// request is one call: what is posted where, by whom.
type request struct {
	path, body, token string
	binary            bool   // the body is protobuf, else JSON
	from              string // address, as a proxy tells it; "" is this machine's
}

// figures are what one turn of load came to.
type figures struct {
	calls    int
	failed   int
	sample   string        // of a failure
	cpu      time.Duration // of the server
	redis    time.Duration // CPU of Redis, where it was asked
	mallocs  float64       // of the server, where it was asked
	took     time.Duration
	p50, p99 time.Duration
}

func (f figures) cpuPerCall() float64     { return f.cpu.Seconds() * 1e6 / float64(max(1, f.calls)) }
func (f figures) mallocsPerCall() float64 { return f.mallocs / float64(max(1, f.calls)) }
func (f figures) rate() float64           { return float64(f.calls) / f.took.Seconds() }

// withRedis is the figures with Redis's CPU counted as the server's.
func (f figures) withRedis() figures {
	f.cpu += f.redis
	return f
}

// transport is what carries calls: HTTP/1.1, or HTTP/2 without TLS.
func transport(h2c bool, callers int) *http.Transport {
	t := &http.Transport{MaxIdleConnsPerHost: callers, DisableCompression: true}
	if h2c {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	return t
}

// drive calls p for a while over HTTP/1.1, with next making each call of a
// worker, and measures.
func drive(ctx context.Context, p *process, callers int, d time.Duration, next func(worker int, n int64) request) (figures, error) {
	return driveBy(ctx, []*http.Client{{Transport: transport(false, callers)}}, p, callers, d, next)
}

// driveBy is drive with clients that workers take in turn.
func driveBy(ctx context.Context, clients []*http.Client, p *process, callers int, d time.Duration, next func(worker int, n int64) request) (figures, error) {
	for _, client := range clients {
		defer client.CloseIdleConnections()
	}
	var n atomic.Int64
	warm, cancel := context.WithTimeout(ctx, d/6)
	burst(warm, clients, p, callers, &n, next)
	cancel()
	before, err := p.spent(ctx)
	if err != nil {
		return figures{}, err
	}
	began := time.Now()
	timed, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	f := burst(timed, clients, p, callers, &n, next)
	f.took = time.Since(began)
	after, err := p.spent(ctx)
	f.cpu, f.redis, f.mallocs = after.cpu-before.cpu, after.redis-before.redis, after.mallocs-before.mallocs
	return f, err
}

// burst calls until ctx ends.
func burst(ctx context.Context, clients []*http.Client, p *process, callers int, n *atomic.Int64, next func(int, int64) request) figures {
	var mu sync.Mutex
	var all figures
	var took []time.Duration
	var done sync.WaitGroup
	for worker := range callers {
		done.Go(func() {
			var mine []time.Duration
			for ctx.Err() == nil {
				began := time.Now()
				err := call(clients[worker%len(clients)], p.url, next(worker, n.Add(1)))
				mine = append(mine, time.Since(began))
				if err != nil {
					mu.Lock()
					all.failed, all.sample = all.failed+1, err.Error()
					mu.Unlock()
				}
			}
			mu.Lock()
			took = append(took, mine...)
			mu.Unlock()
		})
	}
	done.Wait()
	slices.Sort(took)
	all.calls = len(took)
	if len(took) > 0 {
		all.p50, all.p99 = took[len(took)/2], took[len(took)*99/100]
	}
	return all
}

// call is one call. What was begun is finished.
func call(client *http.Client, url string, r request) error {
	post, err := http.NewRequest(http.MethodPost, url+r.path, bytes.NewReader([]byte(r.body)))
	if err != nil {
		return err
	}
	post.Header.Set("Content-Type", "application/json")
	if r.binary {
		post.Header.Set("Content-Type", "application/proto")
	}
	post.Header.Set("Connect-Timeout-Ms", "30000") // a busy machine is slow, and fails nothing
	if r.token != "" {
		post.Header.Set("Authorization", "Bearer "+r.token)
	}
	if r.from != "" {
		post.Header.Set("X-Forwarded-For", r.from)
	}
	reply, err := client.Do(post)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", reply.Status, body)
	}
	return err
}

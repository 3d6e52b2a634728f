package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"
)

// result is what a turn came to.
type result struct {
	Events     int     `json:"events"`
	Deliveries int     `json:"deliveries"`
	Seconds    float64 `json:"seconds"` // from the first event's publishing to the last delivery
	P50, P99   float64 // ms from an event's publishing to its delivery
	Worst      float64
}

// mostBehind is how many events the slowest subscriber may lack before the next
// is published: a subscriber that falls too far behind would be cut.
const mostBehind = 64

// atOnce is how many events are asked for at once where the server is to be
// saturated: a request for each would measure who asks.
const atOnce = 32

// publisher has events published, one request after the other.
type publisher struct {
	options

	client *http.Client
	crowd  *crowd
	base   int64   // what had been seen before
	times  []int64 // when each event was posted
}

func publish(o options, c *crowd) (result, error) {
	p := &publisher{options: o, client: &http.Client{}, crowd: c, base: c.slowest()}
	began := time.Now()
	end := began.Add(o.last)
	var err error
	switch o.mode {
	case "steady":
		err = p.ticking(end, time.Second/time.Duration(o.rate), 1)
	case "burst":
		err = p.ticking(end, time.Second, o.rate)
	default:
		for err == nil && time.Now().Before(end) {
			err = p.several(atOnce)
		}
	}
	if err != nil {
		return result{}, err
	}
	if err := p.settle(0); err != nil {
		return result{}, err
	}
	return p.result(time.Since(began)), nil
}

// ticking posts so many events at each tick.
func (p *publisher) ticking(end time.Time, every time.Duration, events int) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for now := time.Now(); now.Before(end); now = <-tick.C {
		if err := p.several(events); err != nil {
			return err
		}
	}
	return nil
}

// several has so many events published, once nobody is too far behind.
func (p *publisher) several(events int) error {
	if err := p.settle(mostBehind); err != nil {
		return err
	}
	for range events {
		p.times = append(p.times, int64(time.Since(began)))
	}
	post, err := http.NewRequest(http.MethodPost, fmt.Sprintf("%s?n=%d", p.publish, events), strings.NewReader(p.publishBody))
	if err != nil {
		return err
	}
	post.Header.Set("Content-Type", "application/json")
	reply, err := p.client.Do(post)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && reply.StatusCode != http.StatusOK {
		err = fmt.Errorf("publish: %s: %s", reply.Status, text)
	}
	return err
}

// settle waits until the slowest subscriber lacks no more than so many events.
func (p *publisher) settle(behind int64) error {
	want := p.base + int64(len(p.times)) - behind
	deadline := time.Now().Add(30 * time.Second)
	for p.crowd.slowest() < want {
		if time.Now().After(deadline) {
			return p.missing(want)
		}
		time.Sleep(200 * time.Microsecond)
	}
	return nil
}

func (p *publisher) missing(want int64) error {
	for i, s := range p.crowd.all {
		if seen := s.seen.Load(); seen < want {
			return fmt.Errorf("subscriber %d has seen %d of %d events: %w", i, seen-p.base, want-p.base, s.err)
		}
	}
	return nil
}

func (p *publisher) result(took time.Duration) result {
	r := result{Events: len(p.times), Seconds: took.Seconds()}
	var late []int64
	for _, s := range p.crowd.all {
		for k, at := range s.times[p.base:] {
			late = append(late, at-p.times[k])
		}
	}
	slices.Sort(late)
	r.Deliveries = len(late)
	ms := func(n int) float64 { return float64(late[n]) / 1e6 }
	r.P50, r.P99, r.Worst = ms(len(late)/2), ms(len(late)*99/100), ms(len(late)-1)
	return r
}

package main

import (
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
)

// originalCallers have tokens of their own; all come from one address.
const originalCallers = 1_000

// nothing is the stack that bounds what any handler of ours can reach.
const nothing = "no-op"

// original measures goal G6: rooms that are cached, read from the shipped
// server and from the original's stack, each with the whole machine, which it
// shares with the stores and the load.
func (r *run) original() error {
	install := exec.CommandContext(r.ctx, "npm", "ci", "--prefix", "bench/original", "--no-audit", "--no-fund")
	if reply, err := install.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, reply)
	}
	c, err := r.crowd("original", 1_000, originalCallers)
	if err != nil {
		return err
	}
	// What was pinned stays so; only the servers are let free, and this process.
	const whole = serverCPU + "," + othersCPU
	if err := pinSelf(whole); err != nil {
		return err
	}
	defer func() { _ = pinSelf(othersCPU) }()
	rate, err := r.ratesOnWhole(c, whole)
	if err != nil {
		return err
	}
	for _, g := range [][2]string{{"documented", "≥ 10"}, {"tuned", "≥ 3.5"}} {
		r.table.rows = append(r.table.rows, row{
			"G6 cached room, requests a second ÷ the original's stack as " + g[0] + ", cluster of two, whole machine", g[1],
			rate[ours] / rate[g[0]], fmt.Sprintf("%.0f/s; the other: %.0f/s", rate[ours], rate[g[0]]),
		}, row{
			"G6 a handler that does nothing ÷ the same", "–",
			rate[nothing] / rate[g[0]], fmt.Sprintf("%.0f/s: as many as the load and plain Connect leave room for", rate[nothing]),
		})
	}
	return nil
}

// ratesOnWhole are the replies a second of each stack, by name: medians, the
// stacks taken in turn.
func (r *run) ratesOnWhole(c *crowd, cpus string) (map[string]float64, error) {
	type stack struct {
		name     string
		program  []string
		args     []string
		request  func(p *process, n int) ([]byte, error)
		on       *process
		requests [][]byte
	}
	stacks := []*stack{
		{name: ours, program: []string{filepath.Join(r.dir, "free2talk")}, request: c.readOurs},
		{name: nothing, program: []string{filepath.Join(r.dir, "noop")}, request: c.readOurs},
		{name: "documented", program: []string{"node", "bench/original/server.js"}, request: c.readOriginal},
		{name: "tuned", program: []string{"node", "bench/original/server.js"}, args: []string{"--tuned"}, request: c.readOriginal},
	}
	for _, s := range stacks {
		var err error
		if s.on, err = startOn(r.ctx, cpus, s.program, append(r.environment(c, "original:"), "GOMAXPROCS=2"), s.args...); err != nil {
			return nil, err
		}
		defer s.on.stop()
		for n := range originalCallers {
			request, err := s.request(s.on, n)
			if err != nil {
				return nil, err
			}
			s.requests = append(s.requests, request)
		}
	}
	rounds := map[string][]float64{}
	for round := range r.rounds + 1 {
		for _, s := range stacks {
			got, err := lightly(r.ctx, s.on.url, s.requests, r.turn)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", s.name, err)
			}
			if round > 0 { // the first one fills caches, and has code compiled
				rounds[s.name] = append(rounds[s.name], got)
			}
		}
	}
	rate := map[string]float64{}
	for name, of := range rounds {
		rate[name] = median(of)
	}
	return rate, nil
}

func (c *crowd) readOurs(p *process, n int) ([]byte, error) {
	return spelled(p.url+getRoom, http.MethodPost, fmt.Sprintf(`{"id":%q}`, c.rooms[n%hot]), c.tokens[n])
}

func (c *crowd) readOriginal(p *process, n int) ([]byte, error) {
	return spelled(p.url+"/api/v1/rooms/"+c.rooms[n%hot], http.MethodGet, "", "")
}

// environment is what a server has to know of the stores; one that knows less
// looks at less.
func (r *run) environment(c *crowd, prefix string) []string {
	return []string{
		"DATABASE_URL=" + c.dsn, "REDIS_URL=" + r.redis.URL(),
		"FREE2TALK_REDIS_PREFIX=" + prefix,
		"FREE2TALK_RATE_LIMITS=api=100000/15m,auth=100000/15m",
		"FREE2TALK_LOG_FORMAT=json",
		"FREE2TALK_TRUSTED_PROXIES=127.0.0.1/32",
	}
}

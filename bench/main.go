package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/free2talk/free2talk/internal/testenv/service"
)

// run is one run of the table.
type run struct {
	ctx    context.Context
	dir    string // for programs and data; gone afterwards
	rounds int
	turn   time.Duration // of load, for one variant in one round
	rooms  []int         // how many, in the databases of ListRooms
	people int           // who have idle streams
	online int           // who are in Redis
	only   []string      // parts of the table; none is all of it
	// profiles is where a CPU profile of each turn of the shipped server is
	// written; "" is nowhere. Figures taken meanwhile are those of a profiled server.
	profiles string

	postgres *service.Postgres
	redis    *service.Redis
	table    table
}

func main() {
	if err := bench(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench() error {
	quick := flag.Bool("quick", false, "one short round, to see that it runs; writes nothing")
	only := flag.String("only", "", "some parts, as in reads,lists,inside,writes,logins,starts,fanout,streams,presence,store,original; writes nothing")
	profiles := flag.String("profiles", "", "directory for profiles of the shipped server: CPU of its turns, memory of idle streams")
	turn := flag.Duration("turn", 3*time.Second, "how long the load lasts, for one variant in one round")
	out := flag.String("o", "docs/performance.md", "where the table is written")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	r := &run{ctx: ctx, profiles: *profiles, rounds: 3, turn: *turn, rooms: []int{1_000, 100_000}, people: 10_000, online: 1_000_000}
	if *only != "" {
		r.only, *out = strings.Split(*only, ","), ""
	}
	if *quick {
		r.rounds, r.turn, r.rooms, *out = 1, *turn/3, []int{1_000, 2_000}, ""
		r.people, r.online = 1_000, 20_000
	}
	return r.all(*out)
}

func (r *run) all(out string) (err error) {
	if r.dir, err = os.MkdirTemp("", "free2talk-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.dir)) }()
	if err := r.build(); err != nil {
		return err
	}
	// Everything but what is measured shares the other processor: what this
	// process starts inherits it.
	if err := pinSelf(othersCPU); err != nil {
		return err
	}
	if r.postgres, err = service.StartPostgres(r.ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.postgres.Close()) }()
	if r.redis, err = service.StartRedis(r.ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.redis.Close()) }()
	defer func() { r.table.show(os.Stdout) }() // what there is, also where a part failed
	for _, part := range []struct {
		name    string
		measure func() error
	}{
		{"inside", r.inside}, // first: what others leave in this process would count
		{"reads", r.reads}, {"lists", r.lists}, {"writes", r.writes}, {"logins", r.logins}, {"starts", r.starts},
		{"fanout", r.fanout}, {"streams", r.streams}, {"presence", r.presence}, {"store", r.store}, {"original", r.original},
	} {
		if len(r.only) > 0 && !slices.Contains(r.only, part.name) {
			continue
		}
		if err := part.measure(); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if out == "" {
		return nil
	}
	return r.table.write(out)
}

func pinSelf(cpu string) error {
	reply, err := exec.Command("taskset", "-a", "-c", "-p", cpu, fmt.Sprint(os.Getpid())).CombinedOutput()
	if err != nil {
		return fmt.Errorf("taskset: %w: %s", err, reply)
	}
	return nil
}

// build makes the programs that are measured, as they are shipped.
func (r *run) build() error {
	for _, program := range []string{"./cmd/free2talk", "./bench/noop"} {
		command := exec.CommandContext(r.ctx, "go", "build", "-o", r.dir+"/", program)
		if reply, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", program, err, reply)
		}
	}
	return nil
}

func (r *run) noop() (*process, error) { return start(r.ctx, filepath.Join(r.dir, "noop"), nil) }

// shipped is the server as it is shipped, with everything on: tokens verified,
// limits counted (and too high to be met), traces sampled at one per cent.
func (r *run) shipped(c *crowd, prefix string, flags ...string) (*process, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	metrics := net.JoinHostPort("127.0.0.1", port)
	p, err := startOn(r.ctx, serverCPU, []string{filepath.Join(r.dir, "free2talk")}, r.environment(c, prefix), append([]string{"--metrics-listen", metrics}, flags...)...)
	if err != nil {
		return p, err
	}
	p.metrics = "http://" + metrics
	p.redis, err = r.redisClient()
	return p, err
}

// database makes an empty one.
func (r *run) database(name string) (dsn string, err error) {
	reply, err := exec.CommandContext(r.ctx, "psql", r.postgres.AdminDSN(), "-c", "CREATE DATABASE "+name).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("create database: %w: %s", err, reply)
	}
	return service.DSN(r.postgres.Addr(), "postgres", name), nil
}

// variant is one row's server and load.
type variant struct {
	name    string
	on      *process
	next    func(worker int, n int64) request
	callers int  // at once; zero means connections
	h2c     bool // over HTTP/2, else HTTP/1.1
}

// h2cConnections is over how many connections the callers of HTTP/2 are spread.
const h2cConnections = 8

func (v variant) clients() []*http.Client {
	callers := cmp.Or(v.callers, connections)
	if !v.h2c {
		return []*http.Client{{Transport: transport(false, callers)}}
	}
	clients := make([]*http.Client, h2cConnections)
	for i := range clients {
		clients[i] = &http.Client{Transport: transport(true, callers)}
	}
	return clients
}

// parts is in how many a turn is cut: the machine is faster and slower from second
// to second, and the shorter the turns the more alike is what variants have of it.
const parts = 5

// turns drives the variants in turn, round after round, and returns the
// medians by name.
func (r *run) turns(variants ...variant) (map[string]figures, error) {
	rounds := map[string][]figures{}
	times, turn := parts*r.rounds, r.turn/parts
	if r.profiles != "" { // which count seconds
		times, turn = r.rounds, r.turn
	}
	for range times {
		for _, v := range variants {
			profiled := r.profile(v.on, v.name)
			f, err := driveBy(r.ctx, v.clients(), v.on, cmp.Or(v.callers, connections), turn, v.next)
			if err := errors.Join(err, profiled()); err != nil {
				return nil, err
			}
			if f.failed > 0 {
				return nil, fmt.Errorf("%s: %d of %d calls failed: %s", v.name, f.failed, f.calls, f.sample)
			}
			rounds[v.name] = append(rounds[v.name], f)
		}
	}
	medians := map[string]figures{}
	for name, all := range rounds {
		medians[name] = medianOf(all)
	}
	return medians, nil
}

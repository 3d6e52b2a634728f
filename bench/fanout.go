package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// crier is a server whose subscribers are measured, and how one has it publish.
type crier struct {
	name string
	on   *process
	load []string // arguments of the load
	from *relay   // of the shipped server's events; or nil
}

// fan is what one turn of a crier came to.
type fan struct {
	Events     int
	Deliveries int
	Seconds    float64
	P50, P99   float64 // ms
	Worst      float64

	cpu time.Duration
}

func (f fan) cpuPerDelivery() float64 { return f.cpu.Seconds() * 1e6 / float64(max(1, f.Deliveries)) }
func (f fan) rate() float64           { return float64(f.Deliveries) / f.Seconds }

// fanout measures goals G9 to G11: the events of one room, to all who watch it.
func (r *run) fanout() error {
	if err := r.buildFanout(); err != nil {
		return err
	}
	criers, err := r.criers()
	defer func() {
		for _, c := range criers {
			_ = c.on.stop() // what matters was said where it was measured
			if c.from != nil {
				c.from.close()
			}
		}
	}()
	if err != nil {
		return err
	}
	few, many := fmt.Sprint(1_000), fmt.Sprint(5_000)
	steady, err := r.fans(criers, "-mode", "steady", "-rate", "20", "-subscribers", few)
	if err != nil {
		return err
	}
	burst, err := r.fans(criers, "-mode", "burst", "-rate", "100", "-subscribers", few)
	if err != nil {
		return err
	}
	full, err := r.fans(criers, "-mode", "full", "-subscribers", few)
	if err != nil {
		return err
	}
	crowded, err := r.fans(criers[:2], "-mode", "steady", "-rate", "4", "-subscribers", many)
	if err != nil {
		return err
	}
	r.tellFans(steady, burst, full, crowded)
	return nil
}

// tellFans fills the table.
func (r *run) tellFans(steady, burst, full, crowded map[string]fan) {
	for _, other := range []struct{ name, steady, full string }{
		{"centrifuge", "≤ 1.0", "≥ 2"}, {"socket.io", "≤ 0.65", "≥ 20"}, {"plain Connect", "–", "≥ 8"},
	} {
		r.table.fan("G9 20 events a second to 1,000: CPU a delivery ÷ "+other.name, other.steady,
			steady[ours].cpuPerDelivery()/steady[other.name].cpuPerDelivery(), steady[ours], steady[other.name])
		r.table.fan("G9 bursts of 100 to 1,000: CPU a delivery ÷ "+other.name, "–",
			burst[ours].cpuPerDelivery()/burst[other.name].cpuPerDelivery(), burst[ours], burst[other.name])
		r.table.fan("G10 saturated, one room of 1,000: deliveries a second ÷ "+other.name, other.full,
			full[ours].rate()/full[other.name].rate(), full[ours], full[other.name])
		r.table.fan("G10 the same, deliveries a second of the server's processor ÷ "+other.name, other.full,
			full[other.name].cpuPerDelivery()/full[ours].cpuPerDelivery(), full[ours], full[other.name])
	}
	r.table.fan("G11 p99 of a delivery with 5,000 subscribers ÷ centrifuge", "≤ 1.0",
		crowded[ours].P99/crowded["centrifuge"].P99, crowded[ours], crowded["centrifuge"])
}

func (t *table) fan(what, goal string, value float64, mine, other fan) {
	say := func(f fan) string {
		return fmt.Sprintf("%.2f µs CPU, %.0f/s, p50 %.1f ms, p99 %.1f ms", f.cpuPerDelivery(), f.rate(), f.P50, f.P99)
	}
	t.rows = append(t.rows, row{what, goal, value, say(mine) + "; the other: " + say(other)})
}

// ours is the shipped server among the criers.
const ours = "free2talk"

// buildFanout makes the programs that are no part of this module.
func (r *run) buildFanout() error {
	for _, command := range []*exec.Cmd{
		exec.CommandContext(r.ctx, "go", "-C", "bench/live", "build", "-o", r.dir+"/", "./..."),
		exec.CommandContext(r.ctx, "npm", "ci", "--prefix", "bench/live/socketio", "--no-audit", "--no-fund"),
	} {
		if reply, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(command.Args, " "), err, reply)
		}
	}
	return nil
}

// criers starts them all; those that did start are returned also with an error.
func (r *run) criers() ([]crier, error) {
	var criers []crier
	shipped, err := r.shippedCrier()
	criers = append(criers, shipped...)
	if err != nil {
		return criers, err
	}
	event, err := eventJSON()
	if err != nil {
		return criers, err
	}
	for _, c := range []struct{ name, kind, program, script string }{
		{"centrifuge", "centrifuge", filepath.Join(r.dir, "centrifuge"), ""},
		{"socket.io", "socketio", "node", "bench/live/socketio/server.js"},
		{"plain Connect", "connect", filepath.Join(r.dir, "noop"), ""},
	} {
		var first []string
		if c.script != "" {
			first = []string{c.script}
		}
		p, err := startOn(r.ctx, serverCPU, append([]string{c.program}, first...), nil)
		if err != nil {
			return criers, err
		}
		criers = append(criers, crier{
			name: c.name, on: p, load: []string{"-kind", c.kind, "-publish", p.url + "/publish", "-publish-body", event},
		})
	}
	return criers, nil
}

// shippedCrier is the shipped server, which hears the events of another node:
// what is measured is what they cost who has the subscribers.
func (r *run) shippedCrier() ([]crier, error) {
	c, err := r.crowd("fanout", 1_000, 6_000)
	if err != nil {
		return nil, err
	}
	measured, err := r.shipped(c, "fanout:")
	if err != nil {
		return nil, err
	}
	criers := []crier{{name: ours, on: measured}}
	room, err := openRoom(r.ctx, measured.url, c.tokens[0])
	if err != nil {
		return criers, err
	}
	if criers[0].from, err = r.newRelay(c, "fanout:", room); err != nil {
		return criers, err
	}
	tokens := filepath.Join(r.dir, "tokens")
	if err := os.WriteFile(tokens, []byte(strings.Join(c.tokens[1:], "\n")), 0o600); err != nil {
		return criers, err
	}
	criers[0].load = []string{
		"-kind", "connect", "-tokens", tokens, "-body", fmt.Sprintf(`{"roomId":%q}`, room),
		"-publish", criers[0].from.http.URL,
	}
	return criers, nil
}

func openRoom(ctx context.Context, url, token string) (string, error) {
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/free2talk.v1.RoomService/CreateRoom",
		strings.NewReader(`{"name":"A room to talk in","languages":["es-mx","en"],"level":"LEVEL_BEGINNER"}`))
	if err != nil {
		return "", err
	}
	post.Header.Set("Content-Type", "application/json")
	post.Header.Set("Authorization", "Bearer "+token)
	reply, err := http.DefaultClient.Do(post)
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err != nil || reply.StatusCode != http.StatusOK {
		return "", fmt.Errorf("open a room: %s: %s: %w", reply.Status, body, err)
	}
	var opened freev1.CreateRoomResponse
	if err := protojson.Unmarshal(body, &opened); err != nil {
		return "", err
	}
	return opened.GetRoom().GetId(), nil
}

// eventJSON is what the others publish: an event as ours is on the wire.
func eventJSON() (string, error) {
	at := timestamppb.New(time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC))
	event, err := protojson.Marshal(&freev1.WatchRoomResponse{
		Cursor: "AYsfZxLYOx97AaIX3lILeT2pD87ojmlpdwAAAAAAAAABrnjmgCCn9KtUOdUAdRvhCKr4auStZJe87JnMXDEhlfg", Time: at,
		Event: &freev1.WatchRoomResponse_RoomUpdated{RoomUpdated: &freev1.RoomUpdated{Room: &freev1.Room{
			Id: "01a20543-7a88-715b-b71f-2d02a3eef732", Slug: "a-room-to-talk-in-aaaaaaaa", Name: "A room to talk in",
			Topic: "What one would do with a year off, 100", Languages: []string{"es-mx", "en"}, Level: freev1.Level_LEVEL_BEGINNER,
			Capacity: 12, ParticipantCount: 1, Status: freev1.RoomStatus_ROOM_STATUS_OPEN, Version: 100, CreatedAt: at, UpdatedAt: at,
			Owner: &freev1.UserSummary{Id: "01a20543-74d4-7ee7-b190-4e547e354f38", Username: "person-4000", DisplayName: "Person 4000"},
		}}},
	})
	return string(event), err
}

// fans drives the criers in turn, round after round, and returns the medians.
func (r *run) fans(criers []crier, mode ...string) (map[string]fan, error) {
	rounds := map[string][]fan{}
	for range r.rounds {
		for _, c := range criers {
			f, err := r.fanTurn(c, mode)
			if err != nil {
				return nil, fmt.Errorf("%s, %s: %w", c.name, strings.Join(mode, " "), err)
			}
			rounds[c.name] = append(rounds[c.name], f)
		}
	}
	medians := map[string]fan{}
	for name, all := range rounds {
		medians[name] = medianBy(all, fan.cpuPerDelivery)
	}
	return medians, nil
}

// fanTurn has the load subscribe, and measures the server from there on.
func (r *run) fanTurn(c crier, mode []string) (f fan, err error) {
	if c.from != nil {
		if err := c.from.begin(r.ctx); err != nil {
			return f, err
		}
	}
	_, address, _ := strings.Cut(c.on.url, "://")
	arguments := append(append([]string{"-address", address, "-for", r.turn.String()}, c.load...), mode...)
	load, err := startLoad(r.ctx, filepath.Join(r.dir, "load"), arguments...)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, load.stop()) }()
	before, err := c.on.cpu()
	if err != nil {
		return f, err
	}
	profiled := r.profile(c.on, strings.Join(mode, "")) // while the load goes on
	if err := errors.Join(load.proceed(&f), profiled()); err != nil {
		return f, err
	}
	after, err := c.on.cpu()
	f.cpu = after - before
	return f, err
}

// profile takes a profile of a turn, where that is wanted; what it returns waits
// for it.
func (r *run) profile(p *process, name string) (taken func() error) {
	if r.profiles == "" || p.metrics == "" {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() { done <- p.profile(r.ctx, r.turn, filepath.Join(r.profiles, name+".pprof")) }()
	return func() error {
		return errors.Join(<-done, p.fetch(r.ctx, "/debug/pprof/allocs", filepath.Join(r.profiles, name+".allocs.pprof")))
	}
}

// load is a program that gets ready, waits for a line, and prints what it did.
type load struct {
	command *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
	log     bytes.Buffer
}

func startLoad(ctx context.Context, program string, arguments ...string) (*load, error) {
	l := &load{command: exec.CommandContext(ctx, program, arguments...)}
	l.command.Stderr = &l.log
	in, err := l.command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := l.command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l.in, l.out = in, bufio.NewReader(out)
	if err := l.command.Start(); err != nil {
		return nil, err
	}
	if _, err := l.out.ReadString('\n'); err != nil {
		return nil, errors.Join(fmt.Errorf("load: %w", err), l.stop())
	}
	return l, nil
}

// proceed lets the load go on, and reads what it prints.
func (l *load) proceed(into any) error {
	if _, err := io.WriteString(l.in, "\n"); err != nil {
		return err
	}
	line, err := l.out.ReadBytes('\n')
	if err != nil {
		return errors.Join(fmt.Errorf("load: %w", err), l.stop())
	}
	return json.Unmarshal(line, into)
}

// stop returns when the load has gone.
func (l *load) stop() error {
	_ = l.in.Close()
	if err := l.command.Wait(); err != nil && l.log.Len() > 0 {
		return fmt.Errorf("load: %w: %s", err, l.log.String())
	}
	return nil
}

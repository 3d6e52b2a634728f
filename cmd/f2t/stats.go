package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/dustin/go-humanize"
	"github.com/guptarohit/asciigraph"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/free2talk/free2talk/client"
	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
)

// restEvery is how often a watch asks that leaves others room: of the hundred
// calls in 15 minutes that an account has, it takes sixty.
const restEvery = 15 * time.Second

type statsCmd struct {
	Watch bool          `short:"w" help:"Go on, until Ctrl-C."`
	Every time.Duration `default:"15s" placeholder:"TIME" help:"How often, with --watch (${default})."`
}

// Help shows how it is used.
func (statsCmd) Help() string {
	return "With --watch it goes on while the server is away, and says so. With -o json, one line each time.\n\n" +
		"Each time is a call that counts: every 15s takes 60 of the 100 that an account has in 15 minutes (api), and leaves the rest to " +
		"what else you do. A watch that asks more often is refused in the end; it then waits as long as the server says, and goes on " +
		"every 15s.\n\n" +
		examples("f2t stats", "f2t stats --watch", "f2t stats -o json | jq .onlineUsers")
}

// Run shows how the server does.
func (s statsCmd) Run(ctx context.Context, a *app) error {
	if s.Watch {
		return s.watch(ctx, a)
	}
	stats, err := a.stats(ctx)
	if err != nil {
		return err
	}
	return a.print(stats, func() error { return a.showStats(stats) })
}

func (a *app) stats(ctx context.Context, opts ...client.Option) (*adminv1.GetStatsResponse, error) {
	admin, _, err := a.admin(opts...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	return admin.GetStats(ctx, &adminv1.GetStatsRequest{})
}

// screen is the part of a terminal that is drawn anew and anew. What was on it
// before comes back at the end.
type screen struct{ a *app }

const (
	screenOpen  = "\x1b[?1049h\x1b[?25l" // another screen, without a cursor
	screenClose = "\x1b[?25h\x1b[?1049l"
	screenHome  = "\x1b[H"
	lineRest    = "\x1b[K" // what is left of the line before goes
	screenRest  = "\x1b[J"
)

func (s screen) open() error {
	_, err := io.WriteString(s.a.out, screenOpen)
	return err
}

func (s screen) close() error {
	_, err := io.WriteString(s.a.out, screenClose)
	return err
}

// draw shows text in place of what was shown, without a moment of nothing.
func (s screen) draw(text string) error {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if _, height := s.a.size(); len(lines) > height {
		lines = lines[:height]
	}
	_, err := io.WriteString(s.a.out, screenHome+strings.Join(lines, lineRest+"\n")+lineRest+screenRest)
	return err
}

const leastEvery = 200 * time.Millisecond

func (s statsCmd) watch(ctx context.Context, a *app) error {
	if s.Every < leastEvery {
		return failf(exitUsage, "--every is at least %v", leastEvery)
	}
	if _, _, err := a.admin(); err != nil {
		return err
	}
	once := client.WithRetries(client.Retries{Tries: 1}) // the next time is the retry, and each counts
	return s.follow(ctx, a, func() (*adminv1.GetStatsResponse, error) { return a.stats(ctx, once) })
}

// follow asks again and again, and shows what it hears.
func (s statsCmd) follow(ctx context.Context, a *app, ask func() (*adminv1.GetStatsResponse, error)) (err error) {
	draws := a.terminal && !a.json()
	frame := &statsFrame{every: s.Every}
	for {
		stats, away := ask()
		switch {
		case ctx.Err() != nil:
			return nil
		case away != nil && !passes(away):
			return away
		case away == nil:
			frame.add(stats)
		}
		if draws && !frame.opened {
			frame.opened = true
			if err := (screen{a}).open(); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, screen{a}.close()) }()
		}
		pause := frame.pause(away)
		if err := frame.show(a, away, draws); err != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
	}
}

// passes reports whether a watch goes on in spite of an error.
func passes(err error) bool {
	return codeOf(err) == exitNotNow && connect.CodeOf(err) != connect.CodeUnknown
}

// statsFrame is what a watch has seen.
type statsFrame struct {
	every  time.Duration
	opened bool
	last   *adminv1.GetStatsResponse
	at     time.Time
	online []float64
}

const framesKept = 300

func (f *statsFrame) add(stats *adminv1.GetStatsResponse) {
	f.last, f.at = stats, time.Now()
	f.online = append(f.online, float64(stats.GetOnlineUsers()))
	f.online = f.online[max(0, len(f.online)-framesKept):]
}

// pause is how long to wait before the next question. Who has used a limit up
// does not take each place that comes free: others of the account need some.
func (f *statsFrame) pause(away error) time.Duration {
	if client.Reason(away) == client.ReasonRateLimited {
		f.every = max(f.every, restEvery)
	}
	told, _ := client.RetryAfter(away)
	return max(f.every, told)
}

// show writes one moment of a watch. away is why there is nothing new.
func (f *statsFrame) show(a *app, away error, draws bool) error {
	if away != nil {
		line, _ := a.explain(away)
		if !draws {
			a.notef("%s", line)
			return nil
		}
		shown, err := f.text(a)
		if err != nil {
			return err
		}
		return screen{a}.draw(a.bold("away: ") + clean(line) + "\n" + shown)
	}
	if a.json() {
		return a.line(f.last)
	}
	shown, err := f.text(a)
	if err != nil {
		return err
	}
	if draws {
		return screen{a}.draw(shown)
	}
	return a.say("%s\n\n", strings.TrimRight(shown, "\n"))
}

// text is the whole of it as one text.
func (f *statsFrame) text(a *app) (string, error) {
	if f.last == nil {
		return "waiting for the server\n", nil
	}
	var b bytes.Buffer
	on := *a
	on.out, on.wide = &b, a.width()
	head := a.address() + " · " + f.at.Format(time.TimeOnly) + " · every " + duration(f.every)
	if err := on.say("%s\n\n", a.dim(head)); err != nil {
		return "", err
	}
	if len(f.online) > 1 && a.terminal {
		width := max(20, min(on.width()-12, framesKept))
		graph := asciigraph.Plot(f.online[max(0, len(f.online)-width):], asciigraph.Height(4), asciigraph.Precision(0),
			asciigraph.AxisColor(on.axis()), asciigraph.SeriesColors(on.series()))
		if err := on.say("%s\n\n", graph); err != nil {
			return "", err
		}
	}
	err := on.showStats(f.last)
	return b.String(), err
}

// showStats shows the numbers for people.
func (a *app) showStats(s *adminv1.GetStatsResponse) error {
	stale := ""
	if s.GetStale() {
		stale = " (as last known)"
	}
	err := a.say("%s online%s   %s   %s   %s\n\n", a.bold(number(s.GetOnlineUsers())), stale,
		a.counted(s.GetActiveRooms(), "room", "rooms"), a.counted(s.GetActiveSessions(), "session", "sessions"),
		a.counted(int32(len(s.GetNodes())), "node", "nodes"))
	if err != nil {
		return err
	}
	for i, part := range []func(*adminv1.GetStatsResponse) error{a.nodesTable, a.storesTable, a.cacheTable, a.limitsTable} {
		if i > 0 {
			if err := a.say("\n"); err != nil {
				return err
			}
		}
		if err := part(s); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) counted(n int32, one, more string) string {
	noun := more
	if n == 1 {
		noun = one
	}
	return a.bold(number(n)) + " " + noun
}

// number is a number with its thousands apart.
func number[N int | int32 | int64](n N) string { return humanize.Comma(int64(n)) }

// took is how long something took, or "" where nothing did.
func took(d *durationpb.Duration) string {
	if d.AsDuration() <= 0 {
		return ""
	}
	return significant(d.AsDuration())
}

// significant is a short time in two or three digits.
func significant(d time.Duration) string {
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= unit {
			return d.Round(unit / 100).String()
		}
	}
	return d.String()
}

func (a *app) nodesTable(s *adminv1.GetStatsResponse) error {
	g := a.grid("node", "seen", "")
	for _, n := range s.GetNodes() {
		answering := ""
		if n.GetAnswering() {
			answering = "answered this"
		}
		g.row(n.GetId(), ago(n.GetSeenAt()), answering)
	}
	return g.print("No node lives.")
}

func (a *app) storesTable(s *adminv1.GetStatsResponse) error {
	redis, database := s.GetRedis(), s.GetDatabase()
	g := a.grid("store", "there", "")
	where := redis.GetServers()
	if roles := redis.GetDegraded(); len(roles) > 0 {
		where += ", done without as " + strings.Join(roles, ", ")
	}
	g.row("redis", yes(redis.GetAvailable()), where)
	g.row(or(database.GetKind(), "database"), yes(database.GetAvailable()), fmt.Sprintf("%d of %s in use, at most %d",
		database.GetUsedConnections(), count(database.GetOpenConnections(), "connection", "connections"), database.GetMaxConnections()))
	return g.print("")
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/free2talk/free2talk/cache"
	"github.com/free2talk/free2talk/server/talk"
)

const (
	presenceCallers = 256    // that connect at once
	nodePeople      = 50_000 // that one node has
)

// presence measures goal G13: the store of connections by itself, on a Redis
// in which nothing else goes on.
func (r *run) presence() error {
	client, err := r.redisClient()
	if err != nil {
		return err
	}
	defer client.Close()
	store, err := cache.Open(cache.Config{URL: r.redis.URL(), Prefix: "presence:", Timeout: 10 * time.Second})
	if err != nil {
		return err
	}
	defer store.Close()
	s := &masses{run: r, conns: cache.NewConnections(store, nil), client: client}
	each, calls, err := s.comeAndGo()
	if err != nil {
		return err
	}
	r.table.rows = append(r.table.rows, row{
		"G13 presence: Redis CPU of a connect and disconnect, µs", "≤ 5", each,
		fmt.Sprintf("of that in the commands themselves %.1f µs; %d at once", calls, presenceCallers),
	})
	return s.million()
}

// masses are many people who are online.
type masses struct {
	run    *run
	conns  *cache.Connections
	client *redis.Client
}

func somebody(n int) talk.Connection {
	return talk.Connection{User: talk.UserID(fmt.Sprintf("00000000-0000-7000-8000-%012x", n)), ID: strconv.FormatInt(int64(n), 36)}
}

func nodeOf(n int) string { return fmt.Sprint("node-", n/nodePeople) }

// each does something for so many people, many at once.
func (s *masses) each(from, to int, do func(ctx context.Context, n int) error) error {
	all, ctx := errgroup.WithContext(s.run.ctx)
	part := (to - from + presenceCallers - 1) / presenceCallers
	for first := from; first < to; first += part {
		all.Go(func() error {
			for n := first; n < min(to, first+part); n++ {
				if err := do(ctx, n); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return all.Wait()
}

func (s *masses) open(ctx context.Context, n int) error {
	return s.conns.Open(ctx, nodeOf(n), somebody(n))
}

// comeAndGo is the CPU time that Redis spends on a connect and a disconnect, in
// µs: of the process, and of the commands.
func (s *masses) comeAndGo() (whole, commands float64, err error) {
	pairs := min(20_000, s.run.online)
	var wholes, within []float64
	for range s.run.rounds {
		before, err := redisInfo(s.run.ctx, s.client, "cpu")
		if err != nil {
			return 0, 0, err
		}
		if err := s.client.ConfigResetStat(s.run.ctx).Err(); err != nil {
			return 0, 0, err
		}
		err = s.each(0, pairs, func(ctx context.Context, n int) error {
			if err := s.open(ctx, n); err != nil {
				return err
			}
			_, err := s.conns.Close(ctx, nodeOf(n), somebody(n), 0)
			return err
		})
		if err != nil {
			return 0, 0, err
		}
		after, err := redisInfo(s.run.ctx, s.client, "cpu")
		if err != nil {
			return 0, 0, err
		}
		spent, err := s.evaluated()
		if err != nil {
			return 0, 0, err
		}
		cpu := after["used_cpu_user"] + after["used_cpu_sys"] - before["used_cpu_user"] - before["used_cpu_sys"]
		wholes, within = append(wholes, cpu*1e6/float64(pairs)), append(within, spent/float64(pairs))
	}
	return median(wholes), median(within), nil
}

// evaluated is how long scripts ran since the statistics were reset, in µs.
func (s *masses) evaluated() (float64, error) {
	text, err := s.client.Info(s.run.ctx, "commandstats").Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_evalsha:"); ok {
			_, rest, _ = strings.Cut(rest, "usec=")
			usec, _, _ := strings.Cut(rest, ",")
			return strconv.ParseFloat(usec, 64)
		}
	}
	return 0, fmt.Errorf("no script was run by Redis:\n%s", text)
}

// slowLogged is from how many µs on a command is written down.
const slowLogged = 100

// million has many people online on many nodes, does everything that is done
// then, and looks for the command that took longest, round after round. Redis
// tells what passed by the clock, also while another process had its processor.
func (s *masses) million() error {
	people := s.run.online
	if err := s.each(0, people, s.open); err != nil {
		return err
	}
	for name, value := range map[string]string{"slowlog-log-slower-than": fmt.Sprint(slowLogged), "slowlog-max-len": "10000"} {
		if err := s.client.ConfigSet(s.run.ctx, name, value).Err(); err != nil {
			return err
		}
	}
	var longest []float64
	var which []string
	for round := range s.run.rounds {
		if err := s.client.Do(s.run.ctx, "slowlog", "reset").Err(); err != nil {
			return err
		}
		if err := s.everything(people, round); err != nil {
			return err
		}
		took, what, err := s.longest()
		if err != nil {
			return err
		}
		longest, which = append(longest, took.Seconds()*1000), append(which, fmt.Sprintf("%.1f by %s", took.Seconds()*1000, what))
	}
	s.run.table.rows = append(s.run.table.rows, row{
		fmt.Sprintf("G13 presence: longest single command with %d people online, ms", people), "≤ 5", median(longest),
		strings.Join(which, ", ") + "; connects, reports, pages, counts, looks, and a node of " + fmt.Sprint(min(people, nodePeople)) + " swept and expired",
	})
	return nil
}

// longest is the command that took longest since the slow log was reset, beside
// those that ask for the log.
func (s *masses) longest() (took time.Duration, what string, err error) {
	slow, err := s.client.SlowLogGet(s.run.ctx, -1).Result()
	slow = slices.DeleteFunc(slow, func(l redis.SlowLog) bool { return strings.EqualFold(l.Args[0], "slowlog") })
	if err != nil || len(slow) == 0 {
		return slowLogged * time.Microsecond, "none", err
	}
	worst := slices.MaxFunc(slow, func(a, b redis.SlowLog) int { return cmp.Compare(a.Duration, b.Duration) })
	return worst.Duration, fmt.Sprintf("%s of %d words", worst.Args[0], len(worst.Args)), nil
}

// everything is what nodes do when so many people are online; the node of that
// number is swept.
func (s *masses) everything(people, dies int) error {
	ctx := s.run.ctx
	var nodes []string
	for n := 0; n < people; n += nodePeople {
		nodes = append(nodes, nodeOf(n))
	}
	dies %= len(nodes)
	first := dies * nodePeople
	if err := s.each(first, min(people, first+5_000), s.open); err != nil {
		return err
	}
	for shard := range talk.PresenceShards {
		for i, node := range nodes[dies:] {
			i += dies
			var own []talk.Connection
			for n := i * nodePeople; n < min(people, (i+1)*nodePeople); n++ {
				if c := somebody(n); talk.PresenceShard(c.User) == shard {
					own = append(own, c)
				}
			}
			if i == dies { // counts otherwise: all that the node has is compared
				own = own[:len(own)-1]
			}
			if _, err := s.conns.Report(ctx, shard, node, nodes[dies:], own); err != nil {
				return err
			}
		}
		if _, err := s.conns.Page(ctx, shard, "", 1000); err != nil {
			return err
		}
	}
	if _, err := s.conns.Count(ctx); err != nil {
		return err
	}
	var looked []talk.UserID
	for n := range 1000 {
		looked = append(looked, somebody(n*people/1000).User)
	}
	if _, err := s.conns.Online(ctx, looked); err != nil {
		return err
	}
	return s.sweep(nodes[dies])
}

// sweep takes a node's people offline.
func (s *masses) sweep(node string) error {
	for shard := range talk.PresenceShards {
		for more := true; more; {
			var err error
			if _, more, err = s.conns.Sweep(s.run.ctx, shard, node, 0); err != nil {
				return err
			}
		}
		for {
			gone, err := s.conns.Expire(s.run.ctx, shard)
			if err != nil {
				return err
			}
			if len(gone) == 0 {
				break
			}
		}
	}
	return nil
}

// redisInfo is the numbers of a section of Redis' INFO.
func redisInfo(ctx context.Context, client *redis.Client, section string) (map[string]float64, error) {
	text, err := client.Info(ctx, section).Result()
	if err != nil {
		return nil, err
	}
	said := map[string]float64{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			said[name] = n
		}
	}
	return said, nil
}

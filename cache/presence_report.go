package cache

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

const (
	unsteadyAfter = 10 * time.Second // between two reports: who did not live by both may have lived in between
	sweepsAtOnce  = 10               // of what an unknown node holds in a shard

	compareEvery = 24 // reports of a node, a minute: then all that it has is compared, though both count the same
)

// unknown is what a shard has of nodes that do not live.
type unknown struct {
	reports int            // of this node
	at      time.Time      // the last of them
	since   map[string]int // by node, at which of them it was met; none since has it among those who live
}

// Report says which connections a node has, and puts right what Redis knows.
func (c *Connections) Report(ctx context.Context, shard int, node string, live []string, own []talk.Connection) (bool, error) {
	c.met(shard, live)
	args := []any{node, len(own), presenceTTL.Milliseconds(), wholeTTL.Milliseconds()}
	for _, n := range live {
		args = append(args, n)
	}
	report := scriptReport.run(c.redis.keys.presence(shard), args...)
	if err := c.redis.presence.do(ctx, report); err != nil {
		return false, err
	}
	switch n, err := report.replied(); {
	case err != nil:
		return false, err
	case n == -1:
		return false, talk.ErrNodeSwept
	case n == -2:
		return false, c.replace(ctx, shard, node, own)
	default:
		if !c.compares(shard, node) {
			c.redis.drift[shard].Store(0)
			return n == 1, nil
		}
		err := errors.Join(c.replace(ctx, shard, node, own), c.sweepUnknown(ctx, shard, live))
		if errors.Is(err, errAway) { // what was reported holds, and the next report compares
			c.putOff(shard, node)
			err = nil
		}
		return n == 1, err
	}
}

// putOff has the next report compare that agrees.
func (c *Connections) putOff(shard int, node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.agreed[ofNode(shard, node)]--
}

// compares reports whether to compare all that a node has with what Redis has of it
// though both count the same. Redis may have lost one that came and one that went, as
// where a replica takes over that had heard of neither.
func (c *Connections) compares(shard int, node string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := ofNode(shard, node)
	if len(c.doubted[key]) > 0 {
		return true
	}
	c.agreed[key]++
	return (c.agreed[key]+shard)%compareEvery == 0 // not all shards at once
}

func ofNode(shard int, node string) string { return strconv.Itoa(shard) + " " + node }

// replace makes Redis know what a node has. What only Redis has of it is taken
// away the second time: it may have come between the node's count and now, or be
// about to go.
func (c *Connections) replace(ctx context.Context, shard int, node string, own []talk.Connection) error {
	extra, err := c.members(ctx, c.redis.keys.presence(shard)+"node:"+node)
	if err != nil {
		return err
	}
	var calls []*call
	for _, conn := range own {
		name := member(conn)
		if _, there := extra[name]; there {
			delete(extra, name)
			continue
		}
		calls = append(calls, c.opening(node, conn))
	}
	c.redis.drift[shard].Store(int64(len(calls) + len(extra)))
	before := c.doubt(shard, node, extra)
	for name := range extra {
		if _, twice := before[name]; !twice {
			continue
		}
		user, id, _ := strings.Cut(name, " ")
		calls = append(calls, c.closing(node, talk.Connection{User: talk.UserID(user), ID: id}, lostGrace))
	}
	for part := range slices.Chunk(calls, presenceMost) {
		if err := c.redis.presence.do(ctx, part...); err != nil {
			return err
		}
		c.redis.metrics.repairs.Add(ctx, int64(len(part)))
	}
	return nil
}

// met notes a report, and who lives by it.
func (c *Connections) met(shard int, live []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := &c.unknown[shard]
	if time.Since(u.at) > unsteadyAfter || u.since == nil {
		u.since = map[string]int{}
	}
	u.reports, u.at = u.reports+1, time.Now()
	for _, node := range live {
		delete(u.since, node)
	}
}

// missing notes which of those nodes do not live, and returns who has not for a
// minute of reports.
func (c *Connections) missing(shard int, nodes, live []string) (gone []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := &c.unknown[shard]
	since := map[string]int{}
	for _, node := range nodes {
		if slices.Contains(live, node) {
			continue
		}
		first, known := u.since[node]
		if !known {
			first = u.reports
		}
		if since[node] = first; u.reports-first >= compareEvery-1 {
			gone = append(gone, node)
		}
	}
	u.since = since
	return gone
}

// sweepUnknown takes away what nodes hold that have not lived for a minute: by
// then a node that died was swept. But Redis may have lost that it was, as where
// a replica takes over that had not heard of it. What it does not get to it does
// the next time.
func (c *Connections) sweepUnknown(ctx context.Context, shard int, live []string) error {
	holding := command("hget", c.redis.keys.presence(shard)+"counts", "#")
	if err := c.redis.presence.do(ctx, holding); err != nil {
		return err
	}
	nodes, err := holding.text()
	if err != nil {
		return err
	}
	for _, node := range c.missing(shard, strings.Fields(nodes), live) {
		more := true
		for n := 0; more && n < sweepsAtOnce; n++ {
			if _, more, err = c.Sweep(ctx, shard, node, lostGrace); err != nil {
				return err
			}
		}
	}
	return nil
}

// members are those of a set, read step by step: a node may have so many that
// reading them at once would hold Redis up. One that comes or goes meanwhile may
// be among them or not.
func (c *Connections) members(ctx context.Context, set string) (map[string]struct{}, error) {
	members := map[string]struct{}{}
	for cursor := "0"; ; {
		step := command("sscan", set, cursor, "count", scanCount)
		if err := c.redis.presence.do(ctx, step); err != nil {
			return nil, err
		}
		next, found, err := step.scanned()
		if err != nil {
			return nil, err
		}
		for _, member := range found {
			members[member] = struct{}{}
		}
		if cursor = next; cursor == "0" {
			return members, nil
		}
	}
}

// doubt notes what only Redis has of a node, and returns what it was last time.
func (c *Connections) doubt(shard int, node string, extra map[string]struct{}) (before map[string]struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := ofNode(shard, node)
	before = c.doubted[key]
	if delete(c.doubted, key); len(extra) > 0 {
		c.doubted[key] = extra
	}
	return before
}

// lostGrace is what is left of the grace of a connection whose end Redis did
// not hear of: a report and more of it has passed.
const lostGrace = 7500 * time.Millisecond

package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/server/talk"
)

const (
	presenceTTL  = 10 * time.Minute
	wholeTTL     = 10 * time.Second // renewed with each report of any node
	sweptTTL     = time.Hour
	presenceMost = 100 // members that one script touches
	sweepMost    = 40  // that one takes away: it looks for each whether its user has another

	unsteadyAfter = 10 * time.Second // between two reports: who did not live by both may have lived in between
	sweepsAtOnce  = 10               // of what an unknown node holds in a shard

	compareEvery = 24 // reports of a node, a minute: then all that it has is compared, though both count the same
)

// Connections keeps who is connected in Redis, in sixteen shards. It
// implements [talk.Connections].
type Connections struct {
	redis  *Redis
	listen talk.FlipListener
	flips  *subscription

	mu      sync.Mutex
	doubted map[string]map[string]struct{} // by node and shard, what Redis had of it last time and it had not
	agreed  map[string]int                 // likewise, how often both counted the same
	unknown [talk.PresenceShards]unknown
}

// unknown is what a shard has of nodes that do not live.
type unknown struct {
	reports int            // of this node
	at      time.Time      // the last of them
	since   map[string]int // by node, at which of them it was met; none since has it among those who live
}

var _ talk.Connections = (*Connections)(nil)

// NewConnections makes the connections that r knows of. Flips are heard from
// [Connections.Run] on; l may be nil where nobody listens.
func NewConnections(r *Redis, l talk.FlipListener) *Connections {
	c := &Connections{redis: r, listen: l, doubted: map[string]map[string]struct{}{}, agreed: map[string]int{}}
	if l != nil {
		c.flips = r.subscribe(false, ears{message: c.message, up: l.Unsure, down: func() {}}, r.keys.flips()...)
	}
	return c
}

// Run hears flips until ctx ends.
func (c *Connections) Run(ctx context.Context) {
	if c.flips != nil {
		c.flips.run(ctx)
	}
}

func (c *Connections) message(_, payload string) {
	for line := range strings.SplitSeq(payload, "\n") {
		if user, online, ok := strings.Cut(line, " "); ok {
			c.listen.Flipped(talk.UserID(user), online == "1")
		}
	}
}

func (c *Connections) shard(user talk.UserID) string {
	return c.redis.keys.presence(talk.PresenceShard(user))
}

// Open adds a connection.
func (c *Connections) Open(ctx context.Context, node string, conn talk.Connection) error {
	open := c.opening(node, conn)
	if err := c.redis.presence.do(ctx, open); err != nil {
		return err
	}
	return swept(open)
}

func (c *Connections) opening(node string, conn talk.Connection) *call {
	return scriptOpen.run(c.shard(conn.User), node, presenceTTL.Milliseconds()).of(string(conn.User), conn.ID)
}

func (c *Connections) closing(node string, conn talk.Connection, grace time.Duration) *call {
	return scriptClose.run(c.shard(conn.User), node, grace.Milliseconds(), presenceTTL.Milliseconds()).of(string(conn.User), conn.ID)
}

// swept is ErrNodeSwept where a script refused the node.
func swept(c *call) error {
	n, err := c.replied()
	if err == nil && n == -1 {
		return talk.ErrNodeSwept
	}
	return err
}

// Close takes a connection away.
func (c *Connections) Close(ctx context.Context, node string, conn talk.Connection, grace time.Duration) (int, error) {
	closing := c.closing(node, conn, grace)
	if err := c.redis.presence.do(ctx, closing); err != nil {
		return 0, err
	}
	left, err := closing.replied()
	return int(left), err
}

// Online says who is online.
func (c *Connections) Online(ctx context.Context, users []talk.UserID) (map[talk.UserID]bool, error) {
	return whether(c.read(ctx, "online", users))
}

// Connected says who has a connection.
func (c *Connections) Connected(ctx context.Context, users []talk.UserID) (map[talk.UserID]bool, error) {
	return whether(c.read(ctx, "conns", users))
}

func whether(answers map[talk.UserID]int64, err error) (map[talk.UserID]bool, error) {
	found := make(map[talk.UserID]bool, len(answers))
	for user, answer := range answers {
		found[user] = answer == 1
	}
	return found, err
}

// Leaving says of those who have no connection what is left of their grace.
func (c *Connections) Leaving(ctx context.Context, users []talk.UserID) (map[talk.UserID]time.Duration, error) {
	answers, err := c.read(ctx, "leaving", users)
	found := make(map[talk.UserID]time.Duration, len(answers))
	for user, left := range answers {
		if left >= 0 {
			found[user] = time.Duration(left) * time.Millisecond
		}
	}
	return found, err
}

func (c *Connections) read(ctx context.Context, what string, users []talk.UserID) (map[talk.UserID]int64, error) {
	var byShard [talk.PresenceShards][]talk.UserID
	for _, user := range users {
		shard := talk.PresenceShard(user)
		byShard[shard] = append(byShard[shard], user)
	}
	var calls []*call
	var parts [][]talk.UserID
	for shard, of := range byShard {
		for part := range slices.Chunk(of, presenceMost) {
			args := []any{what}
			for _, user := range part {
				args = append(args, string(user))
			}
			calls, parts = append(calls, scriptRead.run(c.redis.keys.presence(shard), args...)), append(parts, part)
		}
	}
	if len(calls) == 0 {
		return nil, nil //nolint:nilnil // nobody was asked for
	}
	if err := c.redis.presence.do(ctx, calls...); err != nil {
		return nil, err
	}
	found := make(map[talk.UserID]int64, len(users))
	for i, part := range parts {
		answers, err := calls[i].ints()
		if err != nil {
			return nil, err
		}
		if len(answers) == len(part) {
			for j, user := range part {
				found[user] = answers[j]
			}
		}
	}
	return found, nil
}

// Expire takes people offline whose grace is over.
func (c *Connections) Expire(ctx context.Context, shard int) ([]talk.UserID, error) {
	expire := scriptExpire.run(c.redis.keys.presence(shard), sweepMost)
	if err := c.redis.presence.do(ctx, expire); err != nil {
		return nil, err
	}
	users, err := expire.texts()
	return asUsers(users), err
}

// Sweep takes connections of a dead node away.
func (c *Connections) Sweep(ctx context.Context, shard int, node string, left time.Duration) ([]talk.UserID, bool, error) {
	sweep := scriptSweep.run(c.redis.keys.presence(shard), node, max(0, left.Milliseconds()), sweepMost,
		presenceTTL.Milliseconds(), sweptTTL.Milliseconds())
	if err := c.redis.presence.do(ctx, sweep); err != nil {
		return nil, false, err
	}
	answer, err := sweep.texts()
	if err != nil || len(answer) == 0 {
		return nil, false, fmt.Errorf("sweep: %w", err)
	}
	return asUsers(answer[1:]), answer[0] != "0", nil
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
		member := string(conn.User) + " " + conn.ID
		if _, there := extra[member]; there {
			delete(extra, member)
			continue
		}
		calls = append(calls, c.opening(node, conn))
	}
	c.redis.drift[shard].Store(int64(len(calls) + len(extra)))
	before := c.doubt(shard, node, extra)
	for member := range extra {
		if _, twice := before[member]; !twice {
			continue
		}
		user, id, _ := strings.Cut(member, " ")
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

// Retire takes back what a node reported. It fails where Redis still has
// connections of it.
func (c *Connections) Retire(ctx context.Context, node string) error {
	var calls []*call
	for shard := range talk.PresenceShards {
		base := c.redis.keys.presence(shard)
		calls = append(calls, command("srem", base+"reported", node), command("scard", base+"node:"+node))
	}
	if err := c.redis.presence.do(ctx, calls...); err != nil {
		return err
	}
	left := int64(0)
	for i := 1; i < len(calls); i += 2 {
		n, err := calls[i].replied()
		if err != nil {
			return err
		}
		left += n
	}
	if left > 0 {
		return fmt.Errorf("%d connections are left", left)
	}
	return nil
}

// Count is how many are online.
func (c *Connections) Count(ctx context.Context) (int, error) {
	calls := make([]*call, talk.PresenceShards)
	for shard := range calls {
		calls[shard] = command("zcard", c.redis.keys.presence(shard)+"online")
	}
	if err := c.redis.presence.do(ctx, calls...); err != nil {
		return 0, err
	}
	total := 0
	for _, c := range calls {
		n, err := c.replied()
		if err != nil {
			return 0, err
		}
		total += int(n)
	}
	return total, nil
}

// Page lists people of a shard who are online.
func (c *Connections) Page(ctx context.Context, shard int, after talk.UserID, limit int) ([]talk.UserID, error) {
	from := "-"
	if after != "" {
		from = "(" + string(after)
	}
	page := command("zrangebylex", c.redis.keys.presence(shard)+"online", from, "+", "limit", 0, limit)
	if err := c.redis.presence.do(ctx, page); err != nil {
		return nil, err
	}
	users, err := page.texts()
	return asUsers(users), err
}

func asUsers(texts []string) []talk.UserID {
	users := make([]talk.UserID, len(texts))
	for i, text := range texts {
		users[i] = talk.UserID(text)
	}
	return users
}

// text returns the string of a reply, "" where there is none.
func (c *call) text() (string, error) {
	switch err := c.err(); {
	case errors.Is(err, redis.Nil):
		return "", nil
	case err != nil:
		return "", err
	}
	return c.reply.Text()
}

// texts returns the strings of a reply; numbers are spelled out.
func (c *call) texts() ([]string, error) {
	if err := c.err(); err != nil {
		return nil, err
	}
	all, err := c.reply.Slice()
	return asTexts(all), err
}

// scanned returns the cursor and the strings of a reply to a step of SCAN's kind.
func (c *call) scanned() (next string, found []string, err error) {
	if err := c.err(); err != nil {
		return "", nil, err
	}
	reply, err := c.reply.Slice()
	if err != nil {
		return "", nil, err
	}
	if len(reply) == 2 {
		if all, ok := reply[1].([]any); ok {
			return fmt.Sprint(reply[0]), asTexts(all), nil
		}
	}
	return "", nil, fmt.Errorf("a step of a scan answered %T", c.reply.Val())
}

func asTexts(all []any) []string {
	texts := make([]string, len(all))
	for i, one := range all {
		texts[i] = fmt.Sprint(one)
	}
	return texts
}

// presence is in front of everything of a shard.
func (k keys) presence(shard int) string {
	return k.prefix + "presence:{" + strconv.Itoa(shard) + "}:"
}

// flips are the channels of all shards.
func (k keys) flips() []string {
	all := make([]string, talk.PresenceShards)
	for shard := range all {
		all[shard] = k.presence(shard) + "flips"
	}
	return all
}

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
	return scriptOpen.run(c.shard(conn.User), node, presenceTTL.Milliseconds()).of(string(conn.User), member(conn))
}

func (c *Connections) closing(node string, conn talk.Connection, grace time.Duration) *call {
	return scriptClose.run(c.shard(conn.User), node, grace.Milliseconds(), presenceTTL.Milliseconds()).of(string(conn.User), member(conn))
}

// member is a connection as it is in the set of its node.
func member(c talk.Connection) string { return string(c.User) + " " + c.ID }

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

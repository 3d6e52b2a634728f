package cache

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// keyRow is a line of the table of keys: every key of Redis belongs to one.
type keyRow struct {
	name   string // for metrics and the documentation
	format string
	holds  string
	ttl    time.Duration
	owner  string // who writes it
	entry  bool   // named by a talk.Key and kept by a Typed
}

// What lives how long. Every TTL is varied by a tenth when it is set.
const (
	leaseTTL    = 3 * time.Second
	absentTTL   = 22500 * time.Millisecond // varied by a third: 15 to 30 s
	roomTTL     = 5 * time.Minute
	slugTTL     = 30 * time.Minute
	userTTL     = 30 * time.Minute
	usernameTTL = 30 * time.Minute
	sessionTTL  = 7 * 24 * time.Hour
)

// table is every key that this package writes. The part in braces is the hash
// tag: what a script touches together shares it.
var table = []keyRow{
	{"room", "room:{<id>}", "string: a room with its participants", roomTTL, "Reader", true},
	{"slug", "slug:{<slug>}", "string: a room's id", slugTTL, "Reader", true},
	{"user", "user:{<id>}", "string: a public profile with the current room", userTTL, "Reader", true},
	{"username", "username:{<folded>}", "string: a user's id", usernameTTL, "Reader", true},
	{"session", "session:{<id>}", "hash: last use, address, device, generation", sessionTTL, "Sessions", false},
	{"presence", "presence:{<shard>}:counts", "hash: user → connections, 0 while their grace runs; #<node> → how many of its own are in them; # → those nodes", presenceTTL, "Connections", false},
	{"presence", "presence:{<shard>}:node:<node>", "set: the node's connections, as user and connection", presenceTTL, "Connections", false},
	{"presence", "presence:{<shard>}:online", "sorted set: who is online, all scores 0", presenceTTL, "Connections", false},
	{"presence", "presence:{<shard>}:leaving", "sorted set: user → when the grace ends, ms; #, so that it is there", presenceTTL, "Connections", false},
	{"presence", "presence:{<shard>}:reported", "set: nodes that have said what they hold", presenceTTL, "Connections", false},
	{"presence", "presence:{<shard>}:whole", "string: every live node has", wholeTTL, "Connections", false},
	{"presence", "presence:{<shard>}:swept:<node>", "string: this node is refused", sweptTTL, "Connections", false},
	{"rl", "rl:<policy>:<limit>/<window>:{<key>}", "sorted set: reservation → when, µs", 0, "Limiter", false},
	{"analytics", "analytics:{all}:place", "string: up to where events were counted", talliesTTL, "Tallies", false},
	{"analytics", "analytics:{all}:hours", "set: the hours that are not written down", talliesTTL, "Tallies", false},
	{"analytics", "analytics:{all}:hour:<hour>", "hash: sums", talliesTTL, "Tallies", false},
	{"analytics", "analytics:{all}:active:<hour>", "HyperLogLog: people", talliesTTL, "Tallies", false},
	{"analytics", "analytics:{all}:day:<day>", "HyperLogLog: people", talliesTTL, "Tallies", false},
	{"analytics", "analytics:{all}:rooms:<hour>", "sorted set: room → ms together", talliesTTL, "Tallies", false},
	{"analytics", "analytics:{all}:joins:<hour>", "hash: room → joins", talliesTTL, "Tallies", false},
	{"analytics", "analytics:{all}:languages:<hour>", "hash: joins and ms together of each language", talliesTTL, "Tallies", false},
	{"rl", "rl-resets", "sorted set: log of a limit → when it was last reset, µs", resetsKept, "Limiter", false},
}

// KeyTable renders the table of keys for the documentation.
func KeyTable() string {
	var b strings.Builder
	b.WriteString("| key | holds | TTL | written by |\n|---|---|---|---|\n")
	for _, row := range table {
		ttl := "the window"
		if row.ttl > 0 {
			ttl = row.ttl.String() + " ± 10 %"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", row.format, row.holds, ttl, row.owner)
	}
	return b.String()
}

// keys builds the names of keys. Nothing else does.
type keys struct {
	prefix  string
	history historyTag // that events are of
}

// entry is where the cache holds what key names.
func (k keys) entry(key talk.Key) string {
	kind, name := key.Split()
	return k.prefix + kind + ":{" + name + "}"
}

func (k keys) session(id talk.SessionID) string {
	return k.prefix + "session:{" + string(id) + "}"
}

// limit carries the numbers, so that nodes with other numbers count apart.
func (k keys) limit(limit talk.Limit, key string) string { return k.limitUpTo(limit) + key + "}" }

// limitUpTo is what the logs of a limit are called, up to the key.
func (k keys) limitUpTo(limit talk.Limit) string {
	return k.prefix + "rl:" + limit.Policy + ":" + strconv.Itoa(limit.Places) + "/" + seconds(limit.Window) + ":{"
}

// analytics is what all keys of analytics begin with.
func (k keys) analytics() string { return k.prefix + "analytics:{all}" }

// resets is the list of logs of limits that administrators have reset.
func (k keys) resets() string { return k.prefix + "rl-resets" }

// invalidations is the channel on which the keys that changed are told, in
// the spelling of talk.Key.
func (k keys) invalidations() string { return k.prefix + "invalidate" }

// nothing is a key that never exists.
func (k keys) nothing() string { return k.prefix + "nothing" }

// heartbeats is the channel on which a node hears itself.
func (k keys) heartbeats(node string) string { return k.invalidations() + ":" + node }

// rowOf is the place of a kind of entries in the table; -1 where it has none.
func rowOf(kind string) int {
	return slices.IndexFunc(table, func(row keyRow) bool { return row.entry && row.name == kind })
}

// kindOf is the byte that a row's entries are marked with.
func kindOf(row int) byte { return byte('a' + row) }

// seconds has no exponent and no trailing zeros: 900, 0.25.
func seconds(d time.Duration) string {
	return strconv.FormatFloat(d.Seconds(), 'f', -1, 64)
}

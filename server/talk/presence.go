package talk

import (
	"context"
	"time"
)

// Presence is whether somebody is there, and where.
type Presence struct {
	UserID     UserID
	Online     bool
	LastSeenAt time.Time // zero where they never were
	RoomID     RoomID    // where they sit; "" for who is offline
	Stale      bool      // Redis is away: this is what the node last knew
}

// Whereabouts is what the database knows of somebody's presence.
type Whereabouts struct {
	UserID     UserID
	Seq        int64 // of their topic, as of RoomID
	RoomID     RoomID
	LastSeenAt time.Time
}

// Connection is one open personal stream.
type Connection struct {
	User UserID
	ID   string
}

// PresenceShards is over how many shards people are spread; see [PresenceShard].
const PresenceShards = 16

// PresenceShard is which shard somebody belongs to.
func PresenceShard(user UserID) int {
	var h uint32 = 2166136261 // FNV-1a
	for i := range len(user) {
		h = (h ^ uint32(user[i])) * 16777619
	}
	return int(h % PresenceShards)
}

// Connections is who is connected, over all nodes. An error is that Redis is
// away; nothing is known then. A node that was swept is refused with
// ErrNodeSwept.
type Connections interface {
	// Open adds a connection of a node, and takes back that its user was leaving.
	Open(ctx context.Context, node string, c Connection) error
	// Close takes a connection away, and returns how many its user has left,
	// wherever. Where none is left they go offline after the grace, or at once.
	Close(ctx context.Context, node string, c Connection, grace time.Duration) (left int, err error)
	// Online says who is online, the grace included. Those of a shard that is not
	// whole are left out: what is known there may be wrong.
	Online(ctx context.Context, users []UserID) (map[UserID]bool, error)
	// Connected says who has a connection now, under the same rule.
	Connected(ctx context.Context, users []UserID) (map[UserID]bool, error)
	// Leaving says of those who have no connection what is left of their grace,
	// under the same rule: nothing where that is not known.
	Leaving(ctx context.Context, users []UserID) (map[UserID]time.Duration, error)
	// Expire takes up to a hundred people of a shard offline whose grace is over,
	// and returns them; nobody where the shard is not whole.
	Expire(ctx context.Context, shard int) ([]UserID, error)
	// Sweep takes up to a hundred connections of a dead node out of a shard. It
	// returns whose last they were, and whether there may be more. Their grace
	// ends after left.
	Sweep(ctx context.Context, shard int, node string, left time.Duration) (last []UserID, more bool, err error)
	// Report says which connections a node has in a shard, and which nodes live.
	// Where Redis knows others it is put right. It reports whether the shard is
	// whole: every live node has reported.
	Report(ctx context.Context, shard int, node string, live []string, own []Connection) (whole bool, err error)
	// Retire takes back what a node reported: it leaves, without connections. An
	// error is that some of its connections may be left.
	Retire(ctx context.Context, node string) error
	// Count is how many are online.
	Count(ctx context.Context) (int, error)
	// Page lists people of a shard who are online, by id, after one.
	Page(ctx context.Context, shard int, after UserID, limit int) ([]UserID, error)
}

// FlipListener hears who goes online and offline. Its methods must not wait.
type FlipListener interface {
	// Flipped says that somebody is online now, or offline; it may say so twice.
	Flipped(user UserID, online bool)
	// Unsure says that flips may have been missed.
	Unsure()
}

package talk

import (
	"sync"
	"sync/atomic"
	"time"
)

// tokenMemory remembers tokens that were verified, by the SHA-256 of the
// token, so that memory holds none. It is bounded: each shard has two
// generations, and when the young one is full it becomes the old one, whose
// tokens are forgotten unless they were seen again. At most 128 Ki tokens,
// some 40 MiB.
type tokenMemory struct {
	shards [tokenShards]tokenShard
}

const (
	tokenShards = 16
	tokensYoung = 4 << 10 // a shard's generation
)

type tokenShard struct {
	mu         sync.Mutex
	young, old map[tokenName]*knownToken
}

type tokenName [32]byte

// knownToken is a token that was verified: by which key, and what it says.
type knownToken struct {
	key    string
	claims Claims
	times  tokenTimes
	noted  atomic.Int64 // in Unix nanoseconds: no use of it has to be noted before
}

// due reports whether a use of the token has to be noted.
func (k *knownToken) due(now time.Time) bool { return now.UnixNano() >= k.noted.Load() }

func (k *knownToken) caller() Caller {
	return Caller{UserID: k.claims.UserID, SessionID: k.claims.SessionID, Generation: k.claims.Generation}
}

func newTokenMemory() *tokenMemory { return &tokenMemory{} }

func (m *tokenMemory) get(name tokenName) (*knownToken, bool) {
	shard := &m.shards[name[0]%tokenShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if known, ok := shard.young[name]; ok {
		return known, true
	}
	known, ok := shard.old[name]
	if ok {
		shard.keep(name, known)
	}
	return known, ok
}

func (m *tokenMemory) put(name tokenName, known *knownToken) {
	shard := &m.shards[name[0]%tokenShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	shard.keep(name, known)
}

func (s *tokenShard) keep(name tokenName, known *knownToken) {
	if len(s.young) >= tokensYoung {
		s.old, s.young = s.young, nil
	}
	if s.young == nil {
		s.young = map[tokenName]*knownToken{}
	}
	s.young[name] = known
}

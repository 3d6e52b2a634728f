package cache

import (
	"context"
	"strconv"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// Sessions notes when and from where sessions were last used: what a list of
// devices shows before the same reaches the database in its next batch. It is
// a hint. Whether a session lives is never read from here.
type Sessions struct{ redis *Redis }

// NewSessions returns the sessions that r knows of.
func NewSessions(r *Redis) *Sessions { return &Sessions{redis: r} }

// Touch notes uses, where nothing newer is noted and there is memory for it, in
// one round trip.
func (s *Sessions) Touch(ctx context.Context, uses []talk.SessionUse) error {
	calls := make([]*call, len(uses))
	for i, use := range uses {
		calls[i] = scriptTouch.run(s.redis.keys.session(use.ID), use.At.UnixMicro(), use.IP, use.UserAgent,
			use.Generation, jitter(sessionTTL).Milliseconds()).ifSpace()
	}
	if len(calls) == 0 {
		return nil
	}
	err := s.redis.cache.do(ctx, calls...)
	s.mend(ctx, uses, calls)
	return err
}

// mend drops what is no hash.
func (s *Sessions) mend(ctx context.Context, uses []talk.SessionUse, calls []*call) {
	for i, c := range calls {
		if isWrongType(c.err()) {
			_ = s.redis.cache.do(ctx, command("unlink", s.redis.keys.session(uses[i].ID)))
		}
	}
}

// Used returns the last uses of those of ids that have any noted.
func (s *Sessions) Used(ctx context.Context, ids []talk.SessionID) (map[talk.SessionID]talk.SessionUse, error) {
	calls := make([]*call, len(ids))
	for i, id := range ids {
		calls[i] = command("hmget", s.redis.keys.session(id), "at", "ip", "agent", "generation")
	}
	uses := make(map[talk.SessionID]talk.SessionUse, len(ids))
	if len(calls) == 0 {
		return uses, nil
	}
	if err := s.redis.cache.do(ctx, calls...); err != nil {
		return nil, err
	}
	for i, c := range calls {
		if use, ok := parseUse(ids[i], c); ok {
			uses[ids[i]] = use
		}
	}
	return uses, nil
}

func parseUse(id talk.SessionID, c *call) (talk.SessionUse, bool) {
	fields, err := c.reply.Slice()
	if err != nil || len(fields) != 4 {
		return talk.SessionUse{}, false
	}
	at, _ := fields[0].(string)
	ip, _ := fields[1].(string)
	agent, _ := fields[2].(string)
	generation, _ := fields[3].(string)
	micros, err := strconv.ParseInt(at, 10, 64)
	if err != nil {
		return talk.SessionUse{}, false
	}
	n, err := strconv.ParseInt(generation, 10, 64)
	return talk.SessionUse{ID: id, At: time.UnixMicro(micros).UTC(), IP: ip, UserAgent: agent, Generation: n}, err == nil
}

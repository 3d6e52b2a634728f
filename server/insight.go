package server

import (
	"context"
	"net/netip"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// About is what a node can say of where it keeps things.
type About struct {
	Redis    string // the servers, such as "10.0.0.5:6379"; no password
	Database string // "postgres" or "sqlite"
}

// GetStats tells how the service is doing.
func (h adminHandler) GetStats(ctx context.Context, _ *adminv1.GetStatsRequest) (*adminv1.GetStatsResponse, error) {
	online := h.live.Presence.Count(ctx) // which is what the figures tell from now on
	nodes, err := h.insight.Nodes.SeenNodes(ctx)
	if err != nil {
		return nil, err
	}
	f, err := h.telemetry.figures()
	if err != nil {
		return nil, err
	}
	redis := h.redisStats(f)
	return &adminv1.GetStatsResponse{
		OnlineUsers: int32(online), ActiveRooms: int32(f.sum("free2talk_rooms", nil)), ActiveSessions: int32(f.sum("free2talk_sessions", nil)),
		Nodes: h.wireNodes(nodes), Redis: redis, Database: h.databaseStats(f),
		Cache: cacheStats(f), RateLimits: limitStats(f), Stale: !h.live.Presence.Certain() || !redis.GetAvailable(),
	}, nil
}

func (h adminHandler) wireNodes(nodes []talk.SeenNode) (wire []*adminv1.Node) {
	self := h.live.Presence.Name()
	for _, node := range nodes {
		if id, _, _ := strings.Cut(node.Name, "."); !node.Dead { // another incarnation is no other node
			wire = append(wire, &adminv1.Node{Id: id, SeenAt: wireTime(node.SeenAt), Answering: node.Name == self})
		}
	}
	return wire
}

func (h adminHandler) redisStats(f figures) *adminv1.RedisStats {
	stats := &adminv1.RedisStats{Servers: h.about.Redis, Available: true}
	for _, role := range f.values("free2talk_degraded", "role") {
		if f.sum("free2talk_degraded", labels{"role": role}) > 0 {
			stats.Degraded, stats.Available = append(stats.Degraded, role), false
		}
	}
	return stats
}

// databaseStats is of a database that has just answered.
func (h adminHandler) databaseStats(f figures) *adminv1.DatabaseStats {
	const connections = "free2talk_database_connections"
	return &adminv1.DatabaseStats{
		Available: true, Kind: h.about.Database,
		OpenConnections: int32(f.sum(connections, nil)),
		UsedConnections: int32(f.sum(connections, labels{"state": "used"})),
		MaxConnections:  int32(f.sum("free2talk_database_connections_limit", nil)),
	}
}

// cacheStats has a row for each cache and layer.
func cacheStats(f figures) (rows []*adminv1.CacheStats) {
	const requests = "free2talk_cache_requests_total"
	for _, cache := range f.values(requests, "cache") {
		for _, layer := range f.values(requests, "layer") {
			reads := func(results ...string) (n int64) {
				for _, result := range results {
					n += int64(f.sum(requests, labels{"cache": cache, "layer": layer, "result": result}))
				}
				return n
			}
			row := &adminv1.CacheStats{
				Cache: cache, Layer: layer, Hits: reads("hit"), Negatives: reads("negative"),
				Misses: reads("miss", "wait", "stale"), Errors: reads("error"),
			}
			if all := row.GetHits() + row.GetNegatives() + row.GetMisses() + row.GetErrors(); all > 0 {
				row.HitRatio = float64(row.GetHits()+row.GetNegatives()) / float64(all)
			}
			row.LoadP50, row.LoadP99 = loadTook(f, cache, .5), loadTook(f, cache, .99)
			rows = append(rows, row)
		}
	}
	return rows
}

func loadTook(f figures, cache string, q float64) *durationpb.Duration {
	took, measured := f.quantile("free2talk_cache_load_seconds", labels{"cache": cache}, q)
	if !measured {
		return nil
	}
	return durationpb.New(took)
}

func limitStats(f figures) (rows []*adminv1.RateLimitStats) {
	for _, policy := range PolicyNames() {
		decided := func(result string) int64 {
			return int64(f.sum("free2talk_limiter_decisions_total", labels{"policy": policy, "result": result}))
		}
		rows = append(rows, &adminv1.RateLimitStats{Policy: policy, Allowed: decided("allowed"), Limited: decided("refused")})
	}
	return rows
}

// ListRateLimits lists the limits, and how much of each a key has used.
func (h adminHandler) ListRateLimits(ctx context.Context, req *adminv1.ListRateLimitsRequest) (*adminv1.ListRateLimitsResponse, error) {
	names := PolicyNames()
	if req.GetPolicy() != "" {
		names = []string{req.GetPolicy()}
	}
	reply := &adminv1.ListRateLimitsResponse{}
	for _, name := range names {
		row, err := h.rateLimit(ctx, name, limitedKey(req.GetKey()))
		if err != nil {
			return nil, err
		}
		reply.Limits = append(reply.Limits, row)
	}
	return reply, nil
}

func (h adminHandler) rateLimit(ctx context.Context, name, key string) (*adminv1.RateLimit, error) {
	limit, off, err := h.insight.Policy(name, "policy")
	row := &adminv1.RateLimit{Policy: name, FailuresOnly: limit.Failures}
	if err != nil || off {
		return row, err
	}
	row.Limit, row.Window = int32(limit.Places), durationpb.New(limit.Window)
	if key == "" {
		return row, nil
	}
	held, err := h.insight.Desk.Held(ctx, limit, key)
	row.Used = int32(held.Used)
	if held.Wait > 0 {
		row.RetryAfter = durationpb.New(held.Wait)
	}
	return row, err
}

// ResetRateLimit forgets what a key has used.
func (h adminHandler) ResetRateLimit(ctx context.Context, req *adminv1.ResetRateLimitRequest) (*adminv1.ResetRateLimitResponse, error) {
	limit, off, err := h.insight.Policy(req.GetPolicy(), "policy")
	if err == nil && !off {
		err = h.admin.ResetLimit(ctx, whoFrom(ctx), limit, limitedKey(req.GetKey()))
	}
	return &adminv1.ResetRateLimitResponse{}, err
}

// limitedKey is the key under which calls of an address or a user are counted.
func limitedKey(text string) string {
	if addr, ok := hop(text); ok {
		return addressKey(addr)
	}
	if prefix, err := netip.ParsePrefix(text); err == nil {
		return addressKey(plain(prefix.Addr()))
	}
	return strings.ToLower(text)
}

// Explain says why something is as it is.
func (h adminHandler) Explain(ctx context.Context, req *adminv1.ExplainRequest) (*adminv1.ExplainResponse, error) {
	var said []string
	var err error
	switch q := req.GetQuestion().(type) {
	case *adminv1.ExplainRequest_Online:
		said, err = h.insight.Online(ctx, id[talk.UserID](q.Online))
	case *adminv1.ExplainRequest_Limited:
		said, err = h.insight.Limited(ctx, q.Limited.GetPolicy(), limitedKey(q.Limited.GetKey()))
	case *adminv1.ExplainRequest_SignedOut:
		said, err = h.insight.SignedOut(ctx, id[talk.SessionID](q.SignedOut))
	case *adminv1.ExplainRequest_Closed:
		said, err = h.insight.Closed(ctx, id[talk.RoomID](q.Closed))
	}
	if err != nil {
		return nil, err
	}
	return &adminv1.ExplainResponse{Sentences: said}, nil
}

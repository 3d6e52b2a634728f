package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	"github.com/free2talk/free2talk/gen/free2talk/admin/v1/adminv1connect"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// fakeAdmin says what a test wants to see shown, and remembers what it was
// asked. Everything else is a real server's.
type fakeAdmin struct {
	adminv1connect.UnimplementedAdminServiceHandler

	mu    sync.Mutex
	asked []proto.Message
	away  bool
	broke int64
}

// withFake is a real server whose AdminService is f.
func withFake(t *testing.T, f *fakeAdmin) (*server, string) {
	t.Helper()
	s := embedded(t)
	target, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	srv := connect.NewServer()
	adminv1connect.RegisterAdminServiceHandler(srv, f)
	mux := http.NewServeMux()
	connecthttp.Mount(mux, srv)
	mux.Handle("/", &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	return s, front.URL
}

// heard remembers a question, or refuses it.
func (f *fakeAdmin) heard(m proto.Message) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, m)
	if f.away {
		return connect.NewError(connect.CodeUnavailable, "the database cannot be reached")
	}
	return nil
}

func (f *fakeAdmin) goAway(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
}

// questions is how many it was asked.
func (f *fakeAdmin) questions() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

// last is the last question.
func (f *fakeAdmin) last() proto.Message {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) == 0 {
		return nil
	}
	return f.asked[len(f.asked)-1]
}

const aNode = "01a217ee-758a-7510-8db5-f3b1fb47221b"

func (f *fakeAdmin) GetStats(_ context.Context, r *adminv1.GetStatsRequest) (*adminv1.GetStatsResponse, error) {
	return &adminv1.GetStatsResponse{
		OnlineUsers: 1204, ActiveRooms: 1, ActiveSessions: 5020, Stale: true,
		Nodes:    []*adminv1.Node{{Id: aNode, SeenAt: timestamppb.Now(), Answering: true}},
		Redis:    &adminv1.RedisStats{Available: false, Servers: "10.0.0.5:6379", Degraded: []string{"cache", "bus"}},
		Database: &adminv1.DatabaseStats{Available: true, Kind: "postgres", OpenConnections: 12, UsedConnections: 3, MaxConnections: 20},
		Cache: []*adminv1.CacheStats{
			{Cache: "room", Layer: "redis", Hits: 123456, Negatives: 7, Misses: 1234, HitRatio: 0.9901, LoadP50: durationpb.New(1213 * time.Microsecond), LoadP99: durationpb.New(12 * time.Millisecond)},
			{Cache: "user", Layer: "near"},
		},
		RateLimits: []*adminv1.RateLimitStats{{Policy: "api", Allowed: 1234567, Limited: 12}, {Policy: "auth"}},
	}, f.heard(r)
}

func (f *fakeAdmin) GetAnalytics(_ context.Context, r *adminv1.GetAnalyticsRequest) (*adminv1.GetAnalyticsResponse, error) {
	step := time.Hour
	if r.GetInterval() == adminv1.Interval_INTERVAL_DAY {
		step = 24 * time.Hour
	}
	reply := &adminv1.GetAnalyticsResponse{
		TopRooms:     []*adminv1.RoomUse{{RoomId: aNode, Name: "Tapas y charla", Joins: 1200, MinutesTogether: 30000}, {Name: "Café", Joins: 90, MinutesTogether: 1000}},
		TopLanguages: []*adminv1.LanguageUse{{Language: "es", Joins: 12000, MinutesTogether: 500000}},
	}
	for at, n := r.GetFrom().AsTime(), int32(0); at.Before(r.GetTo().AsTime()); at, n = at.Add(step), n+1 {
		reply.Points = append(reply.Points, &adminv1.AnalyticsPoint{
			Time: timestamppb.New(at), PeakOnline: 600 + n, ActiveUsers: 900, Joins: n, MinutesTogether: float64(n), Partial: n == 3,
		})
	}
	return reply, f.heard(r)
}

func (f *fakeAdmin) ListUsers(_ context.Context, r *adminv1.ListUsersRequest) (*adminv1.ListUsersResponse, error) {
	reply := &adminv1.ListUsersResponse{Users: []*adminv1.ManagedUser{{
		User:  &free2talkv1.User{Id: aNode, Username: "mallory", DisplayName: "Mal", Role: free2talkv1.Role_ROLE_USER, CreatedAt: timestamppb.Now()},
		Email: "mallory@example.org", Sessions: 2, BanReason: "insults", BannedUntil: timestamppb.New(time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)),
	}}}
	if r.GetPageToken() == "" && r.GetQuery() == "" {
		reply.NextPageToken = "more"
	}
	return reply, f.heard(r)
}

func (f *fakeAdmin) ListSessions(_ context.Context, r *adminv1.ListSessionsRequest) (*adminv1.ListSessionsResponse, error) {
	return &adminv1.ListSessionsResponse{Sessions: []*free2talkv1.Session{{Id: aNode, UserAgent: "Firefox", Ip: "203.0.113.7", LastUsedAt: timestamppb.Now()}}}, f.heard(r)
}

func (f *fakeAdmin) SetRole(_ context.Context, r *adminv1.SetRoleRequest) (*adminv1.SetRoleResponse, error) {
	return &adminv1.SetRoleResponse{User: &free2talkv1.User{Id: r.GetUserId(), Role: r.GetRole()}}, f.heard(r)
}

func (f *fakeAdmin) BanUser(_ context.Context, r *adminv1.BanUserRequest) (*adminv1.BanUserResponse, error) {
	return &adminv1.BanUserResponse{}, f.heard(r)
}

func (f *fakeAdmin) UnbanUser(_ context.Context, r *adminv1.UnbanUserRequest) (*adminv1.UnbanUserResponse, error) {
	return &adminv1.UnbanUserResponse{}, f.heard(r)
}

func (f *fakeAdmin) RevokeSessions(_ context.Context, r *adminv1.RevokeSessionsRequest) (*adminv1.RevokeSessionsResponse, error) {
	return &adminv1.RevokeSessionsResponse{RevokedSessions: 3}, f.heard(r)
}

func (f *fakeAdmin) CloseRoom(_ context.Context, r *adminv1.CloseRoomRequest) (*adminv1.CloseRoomResponse, error) {
	return &adminv1.CloseRoomResponse{}, f.heard(r)
}

func (f *fakeAdmin) KickUser(_ context.Context, r *adminv1.KickUserRequest) (*adminv1.KickUserResponse, error) {
	return &adminv1.KickUserResponse{}, f.heard(r)
}

func (f *fakeAdmin) FlushCache(_ context.Context, r *adminv1.FlushCacheRequest) (*adminv1.FlushCacheResponse, error) {
	return &adminv1.FlushCacheResponse{DeletedKeys: 42}, f.heard(r)
}

func (f *fakeAdmin) WarmCache(_ context.Context, r *adminv1.WarmCacheRequest) (*adminv1.WarmCacheResponse, error) {
	return &adminv1.WarmCacheResponse{Rooms: 1, Users: 4}, f.heard(r)
}

func (f *fakeAdmin) ListRateLimits(_ context.Context, r *adminv1.ListRateLimitsRequest) (*adminv1.ListRateLimitsResponse, error) {
	return &adminv1.ListRateLimitsResponse{Limits: []*adminv1.RateLimit{
		{Policy: "api", Limit: 100, Window: durationpb.New(15 * time.Minute), Used: 100, RetryAfter: durationpb.New(250 * time.Second)},
		{Policy: "auth", Limit: 5, Window: durationpb.New(15 * time.Minute), FailuresOnly: true, Used: 1}, {Policy: "strict"},
	}}, f.heard(r)
}

func (f *fakeAdmin) ResetRateLimit(_ context.Context, r *adminv1.ResetRateLimitRequest) (*adminv1.ResetRateLimitResponse, error) {
	return &adminv1.ResetRateLimitResponse{}, f.heard(r)
}

func (f *fakeAdmin) ListAuditLog(_ context.Context, r *adminv1.ListAuditLogRequest) (*adminv1.ListAuditLogResponse, error) {
	return &adminv1.ListAuditLogResponse{Entries: []*adminv1.AuditEntry{
		{Id: 7, Time: timestamppb.Now(), Actor: "shell:root", Action: "set_role", Target: aNode, Detail: `{"role":"admin"}`},
	}}, f.heard(r)
}

func (f *fakeAdmin) VerifyAuditLog(_ context.Context, r *adminv1.VerifyAuditLogRequest) (*adminv1.VerifyAuditLogResponse, error) {
	return &adminv1.VerifyAuditLogResponse{Entries: 12, FirstBroken: f.broke}, f.heard(r)
}

func (f *fakeAdmin) Explain(_ context.Context, r *adminv1.ExplainRequest) (*adminv1.ExplainResponse, error) {
	return &adminv1.ExplainResponse{Sentences: []string{"It is so.", "\x1b[31mAnd so it was."}}, f.heard(r)
}

package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/proto"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
	"github.com/free2talk/free2talk/server/talk"
)

// The edge is the server with the handlers replaced: what these tests are
// about is everything around them, on a real listener.

const (
	getRoomPath    = free2talkv1connect.RoomServiceGetRoomProcedure
	listRoomsPath  = free2talkv1connect.RoomServiceListRoomsProcedure
	createRoomPath = free2talkv1connect.RoomServiceCreateRoomProcedure
	watchRoomsPath = free2talkv1connect.RoomServiceWatchRoomsProcedure
	loginPath      = free2talkv1connect.AuthServiceLoginProcedure
	refreshPath    = free2talkv1connect.AuthServiceRefreshProcedure
	logoutPath     = free2talkv1connect.AuthServiceLogoutProcedure
	getMePath      = free2talkv1connect.AuthServiceGetMeProcedure
	aRoomID        = "0198c5a0-0000-7000-8000-000000000001"
)

type edge struct {
	*Server

	url     string
	log     *lockedBuffer
	limiter *fakeLimiter
	fake    *fakeHandlers
	t       *testing.T
}

// newEdge serves on a port of its own; change may alter the configuration.
func newEdge(t *testing.T, change func(*Config)) *edge {
	t.Helper()
	e := &edge{t: t, log: &lockedBuffer{}, limiter: newFakeLimiter(), fake: &fakeHandlers{}}
	c := Config{Limiter: e.limiter, Identify: &fakeIdentifier{}, Log: slog.New(slog.NewJSONHandler(e.log, nil))}
	if change != nil {
		change(&c)
	}
	var err error
	if e.Server, err = newServer(c, e.fake.register); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Second)
		defer cancel()
		_ = e.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	e.url = "http://" + l.Addr().String()
	return e
}

// answer is what raw HTTP got.
type answer struct {
	status  int
	header  http.Header
	trailer http.Header
	body    string
}

// do sends a raw request; headers are given as "Name: value".
func (e *edge) do(method, path string, body io.Reader, headers ...string) answer {
	e.t.Helper()
	req, err := http.NewRequestWithContext(e.t.Context(), method, e.url+path, body)
	if err != nil {
		e.t.Fatal(err)
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	res, err := client.Do(req)
	if err != nil {
		e.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		e.t.Fatalf("%s %s: read: %v", method, path, err)
	}
	return answer{res.StatusCode, res.Header, res.Trailer, string(b)}
}

// post sends JSON as curl would.
func (e *edge) post(path, body string, headers ...string) answer {
	e.t.Helper()
	return e.do(http.MethodPost, path, strings.NewReader(body), append([]string{"Content-Type: application/json"}, headers...)...)
}

// wire reads a Connect error.
func (a answer) wire(t *testing.T) (code, message, reason string) {
	t.Helper()
	var said struct {
		Code, Message string
		Details       []struct {
			Type  string
			Debug map[string]any
		}
	}
	if err := json.Unmarshal([]byte(a.body), &said); err != nil {
		t.Fatalf("status %d, not a Connect error: %q", a.status, a.body)
	}
	for _, d := range said.Details {
		if d.Type == "google.rpc.ErrorInfo" {
			reason, _ = d.Debug["reason"].(string)
		}
	}
	return said.Code, said.Message, reason
}

func (a answer) expect(t *testing.T, code, reason string) {
	t.Helper()
	if c, _, r := a.wire(t); c != code || r != reason {
		t.Errorf("got %s %s, want %s %s: %s", c, r, code, reason, a.body)
	}
}

// protocols are the ways in which generated clients speak.
var protocols = map[string][]connecthttp.Option{
	"connect":      nil,
	"connect json": {connecthttp.WithProtoJSON()},
	"grpc":         {connecthttp.WithGRPC()},
	"grpc-web":     {connecthttp.WithGRPCWeb()},
}

func (e *edge) rooms(options ...connecthttp.Option) free2talkv1connect.RoomServiceClient {
	return free2talkv1connect.NewRoomServiceClient(e.client(options...))
}

func (e *edge) client(options ...connecthttp.Option) *connect.Client {
	h2c := new(http.Protocols)
	h2c.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: h2c}
	e.t.Cleanup(transport.CloseIdleConnections)
	return connect.NewClient(connecthttp.NewTransport(&http.Client{Transport: transport}, e.url, options...))
}

// as puts a token on a client's call.
func as(ctx context.Context, token string) (context.Context, *connect.CallInfo) {
	ctx, info := connect.NewClientContext(ctx)
	if token != "" {
		info.RequestHeader().Set("Authorization", "Bearer "+token)
	}
	return ctx, info
}

// detail finds an error's detail of one type.
func detail[M proto.Message](err error) (M, bool) {
	var wire *connect.Error
	var none M
	if !errors.As(err, &wire) {
		return none, false
	}
	for _, d := range wire.Details() {
		if m, err := connectproto.UnmarshalErrorDetail(d); err == nil {
			if m, ok := m.(M); ok {
				return m, true
			}
		}
	}
	return none, false
}

// fakeHandlers stand for all RPCs: each calls what the test has set.
type fakeHandlers struct {
	free2talkv1connect.UnimplementedRoomServiceHandler
	free2talkv1connect.UnimplementedAuthServiceHandler

	mu      sync.Mutex
	handle  func(ctx context.Context, method string) error
	stream  func(ctx context.Context, send func(*free2talkv1.WatchRoomsResponse) error) error
	handled int
}

func (f *fakeHandlers) register(srv *connect.Server) {
	free2talkv1connect.RegisterRoomServiceHandler(srv, f)
	free2talkv1connect.RegisterAuthServiceHandler(srv, f)
}

// set says what every call does from now on.
func (f *fakeHandlers) set(handle func(ctx context.Context, method string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handle = handle
}

func (f *fakeHandlers) run(ctx context.Context, method string) error {
	f.mu.Lock()
	f.handled++
	handle := f.handle
	f.mu.Unlock()
	if handle == nil {
		return nil
	}
	return handle(ctx, method)
}

func (f *fakeHandlers) calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.handled
}

func (f *fakeHandlers) GetRoom(ctx context.Context, req *free2talkv1.GetRoomRequest) (*free2talkv1.GetRoomResponse, error) {
	return &free2talkv1.GetRoomResponse{Room: &free2talkv1.Room{Id: req.GetId()}}, f.run(ctx, "GetRoom")
}

func (f *fakeHandlers) ListRooms(ctx context.Context, _ *free2talkv1.ListRoomsRequest) (*free2talkv1.ListRoomsResponse, error) {
	return &free2talkv1.ListRoomsResponse{NextPageToken: strings.Repeat("x", 4<<10)}, f.run(ctx, "ListRooms")
}

func (f *fakeHandlers) CreateRoom(ctx context.Context, _ *free2talkv1.CreateRoomRequest) (*free2talkv1.CreateRoomResponse, error) {
	return &free2talkv1.CreateRoomResponse{}, f.run(ctx, "CreateRoom")
}

func (f *fakeHandlers) Login(ctx context.Context, _ *free2talkv1.LoginRequest) (*free2talkv1.LoginResponse, error) {
	return &free2talkv1.LoginResponse{}, f.run(ctx, "Login")
}

func (f *fakeHandlers) Refresh(ctx context.Context, _ *free2talkv1.RefreshRequest) (*free2talkv1.RefreshResponse, error) {
	return &free2talkv1.RefreshResponse{}, f.run(ctx, "Refresh")
}

func (f *fakeHandlers) Logout(ctx context.Context, _ *free2talkv1.LogoutRequest) (*free2talkv1.LogoutResponse, error) {
	return &free2talkv1.LogoutResponse{}, f.run(ctx, "Logout")
}

func (f *fakeHandlers) GetMe(ctx context.Context, _ *free2talkv1.GetMeRequest) (*free2talkv1.GetMeResponse, error) {
	return &free2talkv1.GetMeResponse{}, f.run(ctx, "GetMe")
}

func (f *fakeHandlers) WatchRooms(ctx context.Context, _ *free2talkv1.WatchRoomsRequest, s free2talkv1connect.RoomServiceWatchRoomsServerStream) error {
	if f.stream != nil {
		return f.stream(ctx, s.Send)
	}
	return f.run(ctx, "WatchRooms")
}

// fakeIdentifier knows the tokens "user-<id>", "revoked" and "expired".
type fakeIdentifier struct {
	asked int
	mu    sync.Mutex
}

func (f *fakeIdentifier) Identify(ctx context.Context, token string, _ talk.Device) (talk.Caller, error) {
	if token == "revoked" {
		return talk.Caller{}, talk.ErrSessionRevoked
	}
	return f.IdentifyEnded(ctx, token)
}

func (f *fakeIdentifier) IdentifyEnded(_ context.Context, token string) (talk.Caller, error) {
	f.mu.Lock()
	f.asked++
	f.mu.Unlock()
	id, ok := strings.CutPrefix(token, "user-")
	switch {
	case token == "expired":
		return talk.Caller{}, talk.ErrTokenExpired
	case token == "revoked":
		id = token
	case !ok:
		return talk.Caller{}, talk.ErrTokenInvalid
	}
	return talk.Caller{UserID: talk.UserID(id), SessionID: "session-of-" + talk.SessionID(id), Generation: 1}, nil
}

// fakeLimiter is exact and forgets nothing; a window never ends.
type fakeLimiter struct {
	mu     sync.Mutex
	taken  map[string]int
	failed map[string]int
	open   int      // attempts that were not ended
	asked  []string // in order: policy and key
}

func newFakeLimiter() *fakeLimiter {
	return &fakeLimiter{taken: map[string]int{}, failed: map[string]int{}}
}

func (f *fakeLimiter) Take(_ context.Context, limit talk.Limit, key string, cost int) (talk.Verdict, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := limit.Policy + " " + key
	f.asked = append(f.asked, name)
	if f.taken[name]+cost > limit.Places {
		return talk.Verdict{Limit: limit, Reset: 90*time.Second + time.Millisecond}, nil
	}
	f.taken[name] += cost
	return talk.Verdict{Limit: limit, Allowed: true, Left: limit.Places - f.taken[name], Reset: limit.Window}, nil
}

func (f *fakeLimiter) Begin(_ context.Context, limit talk.Limit, key string) (talk.Attempt, talk.Verdict, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name := limit.Policy + " " + key
	f.asked = append(f.asked, name)
	if f.failed[name] >= limit.Places {
		return nil, talk.Verdict{Limit: limit, Reset: 540 * time.Second}, nil
	}
	f.open++
	return fakeAttempt{f, name}, talk.Verdict{Limit: limit, Allowed: true, Left: limit.Places - f.failed[name] - 1, Reset: limit.Window}, nil
}

type fakeAttempt struct {
	limiter *fakeLimiter
	name    string
}

func (a fakeAttempt) End(_ context.Context, failed bool) {
	a.limiter.mu.Lock()
	defer a.limiter.mu.Unlock()
	a.limiter.open--
	if failed {
		a.limiter.failed[a.name]++
	}
}

func (f *fakeLimiter) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.asked...)
}

// lockedBuffer is a log that a test reads while the server writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// records reads the access log.
func (l *lockedBuffer) records(t *testing.T) []map[string]any {
	t.Helper()
	var all []map[string]any
	for line := range strings.Lines(l.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatalf("not a record: %q", line)
		}
		if record["msg"] == "call" {
			all = append(all, record)
		}
	}
	return all
}

func loopback() []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} }

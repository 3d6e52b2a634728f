package client_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
)

// life is how long the fake's access tokens hold.
const life = 15 * time.Minute

// fake is a server with one account and one room. It keeps the contract of
// tokens, and fails where it is told to.
type fake struct {
	free2talkv1connect.UnimplementedAuthServiceHandler
	free2talkv1connect.UnimplementedRoomServiceHandler
	free2talkv1connect.UnimplementedUserServiceHandler
	free2talkv1connect.UnimplementedPresenceServiceHandler

	url   string
	Close func()

	mu        sync.Mutex
	made      int              // the tokens of the last log-in or refresh are access-<made> and refresh-<made>
	access    string           // the only one that holds
	refresh   string           // the only one that is taken
	failures  map[string]error // by method; failed until told otherwise
	fewer     map[string]int   // how many failures are left
	calls     map[string]int   // by method
	refused   int              // calls with an access token that has run out
	heard     map[string]*connect.Header
	httpCalls []string // method and path of every request

	watchRoom  func(context.Context, *free2talkv1.WatchRoomRequest, free2talkv1connect.RoomServiceWatchRoomServerStream) error
	watchRooms func(context.Context, *free2talkv1.WatchRoomsRequest, free2talkv1connect.RoomServiceWatchRoomsServerStream) error
	onRefused  func()                // called without the lock
	onRefresh  func(context.Context) // called without the lock, before a refresh is answered
}

// serve starts a fake that goes away with the test.
func serve(t testing.TB) *fake {
	t.Helper()
	f := start()
	t.Cleanup(f.Close)
	return f
}

// start starts a fake; it must be closed.
func start() *fake {
	f := &fake{failures: map[string]error{}, fewer: map[string]int{}, calls: map[string]int{}, heard: map[string]*connect.Header{}}
	rpc := connect.NewServer(f.identify)
	free2talkv1connect.RegisterAuthServiceHandler(rpc, f)
	free2talkv1connect.RegisterRoomServiceHandler(rpc, f)
	free2talkv1connect.RegisterUserServiceHandler(rpc, f)
	free2talkv1connect.RegisterPresenceServiceHandler(rpc, f)
	mux := http.NewServeMux()
	connecthttp.Mount(mux, rpc)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.httpCalls = append(f.httpCalls, r.Method+" "+r.URL.Path)
		f.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	srv.Config.Protocols = new(http.Protocols)
	srv.Config.Protocols.SetHTTP1(true)
	srv.Config.Protocols.SetUnencryptedHTTP2(true)
	srv.Start()
	f.url, f.Close = srv.URL, srv.Close
	return f
}

// identify is the fake's chain: it counts, fails, and looks at tokens.
func (f *fake) identify(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		info, _ := connect.CallInfoForServerContext(ctx)
		method := spec.Procedure[strings.LastIndexByte(spec.Procedure, '/')+1:]
		err, stale := f.look(method, policyOf(spec), info.RequestHeader())
		if stale && f.onRefused != nil {
			f.onRefused()
		}
		if err != nil {
			return err
		}
		return next(ctx, spec, stream)
	}
}

func policyOf(spec connect.Spec) *free2talkv1.Policy {
	method := spec.Schema.(protoreflect.MethodDescriptor)
	return proto.GetExtension(method.Options(), free2talkv1.E_Policy).(*free2talkv1.Policy)
}

func (f *fake) look(method string, policy *free2talkv1.Policy, header *connect.Header) (err error, stale bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[method]++
	f.heard[method] = header
	if err, ok := f.failures[method]; ok {
		if f.fewer[method]--; f.fewer[method] == 0 {
			delete(f.failures, method)
		}
		return err, false
	}
	switch token := header.Get("Authorization"); {
	case policy.GetIgnoresToken():
	case token == "" && policy.GetAccess() != free2talkv1.Access_ACCESS_PUBLIC:
		return fails(connect.CodeUnauthenticated, client.ReasonTokenMissing), false
	case token != "" && token != "Bearer "+f.access:
		f.refused++
		return fails(connect.CodeUnauthenticated, client.ReasonTokenExpired), true
	}
	return nil, false
}

// fail makes method fail n times; 0 means for good.
func (f *fake) fail(method string, n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures[method], f.fewer[method] = err, n
}

// heal ends the failures of method.
func (f *fake) heal(method string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.failures, method)
}

// expire makes every access token run out.
func (f *fake) expire() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.access = "none"
}

// called is how often a method was called.
func (f *fake) called(method string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[method]
}

// header is what the last call of a method brought.
func (f *fake) header(method, key string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.heard[method].Get(key)
}

// requests is the method and path of every request.
func (f *fake) requests() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.httpCalls)
}

func (f *fake) tokens() *free2talkv1.Tokens {
	f.made++
	n := strconv.Itoa(f.made)
	f.access, f.refresh = "access-"+n, "refresh-"+n
	return &free2talkv1.Tokens{
		AccessToken: f.access, AccessExpiresAt: timestamppb.New(time.Now().Add(life)),
		RefreshToken: f.refresh, RefreshExpiresAt: timestamppb.New(time.Now().Add(7 * 24 * time.Hour)),
		SessionId: "0198",
	}
}

var ada = &free2talkv1.UserSummary{Id: "0198a000-0000-7000-8000-00000000000a", Username: "ada", DisplayName: "Ada"}

func account(username string) *free2talkv1.Account {
	return &free2talkv1.Account{User: &free2talkv1.User{Id: ada.GetId(), Username: username, DisplayName: username}}
}

func (f *fake) Register(_ context.Context, req *free2talkv1.RegisterRequest) (*free2talkv1.RegisterResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &free2talkv1.RegisterResponse{Account: account(req.GetUsername()), Tokens: f.tokens()}, nil
}

func (f *fake) Login(_ context.Context, req *free2talkv1.LoginRequest) (*free2talkv1.LoginResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.GetPassword() != "five green umbrellas" {
		return nil, fails(connect.CodeUnauthenticated, client.ReasonBadCredentials)
	}
	return &free2talkv1.LoginResponse{Account: account(req.GetUsername() + req.GetEmail()), Tokens: f.tokens()}, nil
}

func (f *fake) Refresh(ctx context.Context, req *free2talkv1.RefreshRequest) (*free2talkv1.RefreshResponse, error) {
	if f.onRefresh != nil {
		f.onRefresh(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if req.GetRefreshToken() != f.refresh {
		return nil, fails(connect.CodeUnauthenticated, client.ReasonRefreshReused)
	}
	return &free2talkv1.RefreshResponse{Tokens: f.tokens()}, nil
}

func (f *fake) ChangePassword(context.Context, *free2talkv1.ChangePasswordRequest) (*free2talkv1.ChangePasswordResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &free2talkv1.ChangePasswordResponse{Tokens: f.tokens()}, nil
}

func (*fake) Logout(context.Context, *free2talkv1.LogoutRequest) (*free2talkv1.LogoutResponse, error) {
	return &free2talkv1.LogoutResponse{}, nil
}

func (*fake) GetMe(context.Context, *free2talkv1.GetMeRequest) (*free2talkv1.GetMeResponse, error) {
	return &free2talkv1.GetMeResponse{Account: account("ada")}, nil
}

func room() *free2talkv1.Room {
	return &free2talkv1.Room{
		Id: "0198a000-0000-7000-8000-000000000001", Slug: "tapas-y-charla", Name: "Tapas y charla",
		Languages: []string{"es"}, Capacity: 4, ParticipantCount: 1, Owner: ada,
	}
}

// WatchRooms is the test's.
func (f *fake) WatchRooms(ctx context.Context, req *free2talkv1.WatchRoomsRequest, stream free2talkv1connect.RoomServiceWatchRoomsServerStream) error {
	if f.watchRooms == nil {
		return connect.NewError(connect.CodeUnimplemented, "the test has none")
	}
	return f.watchRooms(ctx, req, stream)
}

// WatchRoom is the test's.
func (f *fake) WatchRoom(ctx context.Context, req *free2talkv1.WatchRoomRequest, stream free2talkv1connect.RoomServiceWatchRoomServerStream) error {
	return f.watchRoom(ctx, req, stream)
}

func (*fake) ListRooms(context.Context, *free2talkv1.ListRoomsRequest) (*free2talkv1.ListRoomsResponse, error) {
	return &free2talkv1.ListRoomsResponse{Rooms: []*free2talkv1.Room{room()}, TotalSize: 1}, nil
}

func (*fake) GetRoom(context.Context, *free2talkv1.GetRoomRequest) (*free2talkv1.GetRoomResponse, error) {
	return &free2talkv1.GetRoomResponse{Room: room()}, nil
}

func (*fake) JoinRoom(context.Context, *free2talkv1.JoinRoomRequest) (*free2talkv1.JoinRoomResponse, error) {
	return &free2talkv1.JoinRoomResponse{Room: room(), Participants: []*free2talkv1.Participant{{User: ada}}}, nil
}

func (*fake) CreateRoom(context.Context, *free2talkv1.CreateRoomRequest) (*free2talkv1.CreateRoomResponse, error) {
	return &free2talkv1.CreateRoomResponse{Room: room()}, nil
}

// fails is an error as the server sends it.
func fails(code connect.Code, reason string, more ...proto.Message) *connect.Error {
	return failsWith(code, reason, nil, more...)
}

func failsWith(code connect.Code, reason string, metadata map[string]string, more ...proto.Message) *connect.Error {
	err := connect.NewError(code, "a sentence for people")
	if reason != "" {
		more = append(more, &errdetails.ErrorInfo{Reason: reason, Domain: "free2talk", Metadata: metadata})
	}
	for _, m := range more {
		d, e := connectproto.NewErrorDetail(m)
		if e != nil {
			panic(e)
		}
		err = err.WithDetail(d)
	}
	return err
}

func after(d time.Duration) *errdetails.RetryInfo {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(d)}
}

// dial makes a client of the fake.
func (f *fake) dial(t testing.TB, opts ...client.Option) *client.Client {
	t.Helper()
	c, err := client.New(f.url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// signIn makes a client that is logged in.
func (f *fake) signIn(t testing.TB, opts ...client.Option) *client.Client {
	t.Helper()
	c := f.dial(t, opts...)
	if _, err := c.Login(t.Context(), "ada", "five green umbrellas"); err != nil {
		t.Fatal(err)
	}
	return c
}

// getMe is a call that needs a token.
func getMe(ctx context.Context, c *client.Client) error {
	_, err := c.Auth.GetMe(ctx, &free2talkv1.GetMeRequest{})
	return err
}

// clock is a time that moves when it is told to, and when somebody waits.
type clock struct {
	mu    sync.Mutex
	ahead time.Duration // of the machine's
	waits []time.Duration
}

// Now is the machine's time and what was added to it.
func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Now().Add(c.ahead)
}

// Wait moves the time instead of waiting.
func (c *clock) Wait(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waits = append(c.waits, d)
	c.ahead += d
	return ctx.Err()
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead += d
}

func (c *clock) waited() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.waits)
}

// store is a TokenStore that several clients may share, and that can break.
type store struct {
	mu     sync.Mutex
	tokens client.Tokens
	broken error
}

// Load returns what was saved.
func (s *store) Load(context.Context) (client.Tokens, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens, s.broken
}

// Save keeps tokens.
func (s *store) Save(_ context.Context, tokens client.Tokens) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return s.broken
	}
	s.tokens = tokens
	return nil
}

func (s *store) breaks(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = err
}

func (s *store) saved() client.Tokens {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tokens
}

package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
	"github.com/free2talk/free2talk/server"
	"github.com/free2talk/free2talk/server/talk"
	"github.com/free2talk/free2talk/server/talk/talktest"
)

const password = "correct horse battery"

// site is a whole server over HTTP on a store in memory, with a clock that the
// test moves, and typed clients of it.
type site struct {
	t        *testing.T
	url      string
	clock    *talktest.Clock
	auth     free2talkv1connect.AuthServiceClient
	users    free2talkv1connect.UserServiceClient
	rooms    free2talkv1connect.RoomServiceClient
	presence free2talkv1connect.PresenceServiceClient
}

func newSite(t *testing.T) *site {
	t.Helper()
	clock := talktest.NewClock()
	handler, err := server.New(server.Config{
		Services: newServices(t, clock), AllowedOrigins: []string{"https://app.example"}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(handler)
	t.Cleanup(web.Close)
	client := connect.NewClient(connecthttp.NewTransport(web.Client(), web.URL), patient)
	return &site{
		t: t, url: web.URL, clock: clock,
		auth:     free2talkv1connect.NewAuthServiceClient(client),
		users:    free2talkv1connect.NewUserServiceClient(client),
		rooms:    free2talkv1connect.NewRoomServiceClient(client),
		presence: free2talkv1connect.NewPresenceServiceClient(client),
	}
}

// patient lets calls take as long as a server allows: hashes are slow where
// much else is tested.
func patient(next connect.ClientFunc) connect.ClientFunc {
	return func(ctx context.Context, spec connect.Spec) (connect.ClientStream, error) {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		context.AfterFunc(ctx, cancel)
		return next(ctx, spec)
	}
}

func newServices(t *testing.T, clock *talktest.Clock) server.Services {
	t.Helper()
	ctx, quiet := t.Context(), slog.New(slog.DiscardHandler)
	store := talktest.NewMemory(clock.Now)
	outbox := talk.NewOutbox(store, nothing{}, clock.Now, quiet)
	keys, err := talk.NewKeyring(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	revoked := talk.NewRevocations(store, talk.NewClockSync(clock.Now))
	if err := errors.Join(keys.Load(ctx, clock.Now()), revoked.Poll(ctx)); err != nil {
		t.Fatal(err)
	}
	reader := uncached{store}
	return server.Services{
		Rooms:  &talk.Rooms{Reader: reader, Store: store, Outbox: outbox},
		People: &talk.People{Reader: reader, Outbox: outbox},
		Admin:  &talk.Admin{Reader: reader, Store: store, Outbox: outbox, Clock: clock.Now, Revoked: revoked, Uses: talk.NewUses(store, nothing{}, quiet)},
		Accounts: &talk.Accounts{
			Store: store, Outbox: outbox, Clock: clock.Now, Passwords: talk.NewPasswords(0),
			Tokens: talk.NewTokens(keys, clock.Now, "test", "test"), Revoked: revoked,
			Uses: talk.NewUses(store, nothing{}, quiet), Log: quiet,
		},
	}
}

// nothing is caches that hold nothing.
type nothing struct{}

func (nothing) Forget(context.Context, ...talk.Key) error      { return nil }
func (nothing) Touch(context.Context, []talk.SessionUse) error { return nil }
func (nothing) Used(context.Context, []talk.SessionID) (map[talk.SessionID]talk.SessionUse, error) {
	return map[talk.SessionID]talk.SessionUse{}, nil
}

// uncached reads everything from the store.
type uncached struct{ *talktest.Memory }

func (u uncached) RoomBySlug(ctx context.Context, slug string) (talk.RoomView, error) {
	id, err := u.RoomID(ctx, slug)
	if err != nil {
		return talk.RoomView{}, err
	}
	return u.Room(ctx, id)
}

func (u uncached) User(ctx context.Context, id talk.UserID) (talk.UserView, error) {
	views, err := u.Users(ctx, []talk.UserID{id})
	if err != nil || len(views) == 0 {
		return talk.UserView{}, errors.Join(err, talk.ErrUserNotFound)
	}
	return views[0], nil
}

func (u uncached) UserByUsername(ctx context.Context, name string) (talk.UserView, error) {
	id, err := u.UserID(ctx, name)
	if err != nil {
		return talk.UserView{}, err
	}
	return u.User(ctx, id)
}

// guest is a signed-in person on one device.
type guest struct {
	*site
	id     string
	tokens *freev1.Tokens
}

func (s *site) signUp(name string) *guest {
	s.t.Helper()
	res, err := s.auth.Register(s.t.Context(), &freev1.RegisterRequest{
		Email: name + "@example.com", Username: name, Password: password,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return &guest{site: s, id: res.GetAccount().GetUser().GetId(), tokens: res.GetTokens()}
}

// ctx is the context of one call of theirs.
func (g *guest) ctx() context.Context {
	ctx, call := connect.NewClientContext(g.t.Context())
	call.RequestHeader().Set("Authorization", "Bearer "+g.tokens.GetAccessToken())
	return ctx
}

// open opens a room for Spanish.
func (g *guest) open(name string) *freev1.Room {
	g.t.Helper()
	res, err := g.rooms.CreateRoom(g.ctx(), &freev1.CreateRoomRequest{Name: name, Languages: []string{"es"}})
	if err != nil {
		g.t.Fatal(err)
	}
	return res.GetRoom()
}

// fails checks that a call was refused for that reason.
func fails(t *testing.T, err error, code connect.Code, reason string) {
	t.Helper()
	if got, why := connect.CodeOf(err), reasonOf(err); err == nil || got != code || why != reason {
		t.Errorf("got %v (%s), want %v (%s)", err, why, code, reason)
	}
}

func reasonOf(err error) string {
	var wire *connect.Error
	if !errors.As(err, &wire) {
		return ""
	}
	for _, detail := range wire.Details() {
		if m, err := connectproto.UnmarshalErrorDetail(detail); err == nil {
			if info, ok := m.(*errdetails.ErrorInfo); ok {
				return info.GetReason()
			}
		}
	}
	return ""
}

// answer is what came back from a call by plain HTTP.
type answer struct {
	status  int
	body    map[string]any
	cookies []*http.Cookie
	raw     string
}

// post calls an RPC as a browser's script does; headers are pairs.
func (s *site) post(procedure, body string, headers ...string) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+"/free2talk.v1."+procedure, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	a := answer{status: res.StatusCode, cookies: res.Cookies(), raw: string(raw)}
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&a.body); err != nil {
		s.t.Fatalf("%s: %v", raw, err)
	}
	return a
}

func (a answer) reason() string {
	details, _ := a.body["details"].([]any)
	for _, d := range details {
		debug, _ := d.(map[string]any)["debug"].(map[string]any)
		if reason, ok := debug["reason"].(string); ok {
			return reason
		}
	}
	return ""
}

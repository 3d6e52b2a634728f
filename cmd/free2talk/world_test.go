package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server"
	"github.com/free2talk/free2talk/server/talk"
)

// backend is what the nodes of a world stand on.
type backend struct {
	name  string
	nodes int // the most that can share it
	// settings points at the backend, in a corner of the test's own.
	settings func(t testing.TB, s *Settings)
}

// The backends that every promise is kept on.
var (
	onEmbedded = backend{"embedded", 1, func(t testing.TB, s *Settings) {
		s.Embedded = true
		s.DatabaseURL = filepath.Join(t.TempDir(), "free2talk.db")
	}}
	onPostgres = backend{"postgres", 3, func(t testing.TB, s *Settings) {
		s.DatabaseURL = testenv.Postgres(t)
		s.RedisURL, s.RedisPrefix = testenv.Redis(t)
	}}
	onCluster = backend{"cluster", 3, func(t testing.TB, s *Settings) {
		s.DatabaseURL = testenv.Postgres(t)
		s.RedisURL = "redis+cluster://" + strings.Join(testenv.RedisCluster(t), ",")
		s.RedisPrefix = testenv.Prefix(t)
	}}
	onSentinel = backend{"sentinel", 3, func(t testing.TB, s *Settings) {
		s.DatabaseURL = testenv.Postgres(t)
		address, master := testenv.Sentinel(t)
		s.RedisURL = "redis+sentinel://" + address + "/" + master
		s.RedisPrefix = testenv.Prefix(t)
	}}
)

// world is a few nodes on one backend, and what a test asks them.
type world struct {
	testing.TB
	settings Settings
	nodes    []*testNode
	people   atomic.Int64
	turn     atomic.Int64
	http     *http.Client
	h2c      *http.Client
}

// testNode is a node that listens on the loopback.
type testNode struct {
	*node
	url  string
	stop func() // drains and closes it; once
}

// newWorld starts nodes on b. change has the last word on their settings.
func newWorld(t testing.TB, b backend, nodes int, change ...func(*Settings)) *world {
	t.Helper()
	w := &world{TB: t, http: httpClient(false), h2c: httpClient(true)}
	w.settings = Settings{
		Listen: "127.0.0.1:0", Secret: []byte(strings.Repeat("a secret of tests. ", 3)), RateLimits: unlimited(t),
		PresenceGrace: 15 * time.Second, Unattended: 5 * time.Minute, MaxCapacity: talk.DefaultCapacity,
		LogFormat: "json", LogLevel: slog.LevelDebug,
	}
	b.settings(t, &w.settings)
	for _, f := range change {
		f(&w.settings)
	}
	for range min(nodes, b.nodes) {
		w.start()
	}
	return w
}

// unlimited switches every rate limit off: a test of one switches it on again.
func unlimited(t testing.TB) server.Limits {
	limits, err := server.ParseLimits("api=off,auth=off,strict=off,room_create=off,message=off")
	if err != nil {
		t.Fatal(err)
	}
	return limits
}

// withLimits puts rate limits in force, as --rate-limits would.
func withLimits(t testing.TB, list string) func(*Settings) {
	limits, err := server.ParseLimits(list)
	if err != nil {
		t.Fatal(err)
	}
	return func(s *Settings) { s.RateLimits = limits }
}

// withClock has the nodes go by clock in place of the database's.
func withClock(clock talk.Clock) func(*Settings) { return func(s *Settings) { s.clock = clock } }

// start adds a node.
func (w *world) start() *testNode {
	w.Helper()
	return w.startLogging(io.Discard)
}

func (w *world) startLogging(to io.Writer) *testNode {
	w.Helper()
	listener, err := server.Listen(w.Context(), w.settings.Listen)
	if err != nil {
		w.Fatal(err)
	}
	return w.startOn(listener, to)
}

func (w *world) startOn(listener net.Listener, to io.Writer) *testNode {
	w.Helper()
	n, err := open(w.Context(), w.settings, newLogger(to, w.settings))
	if err != nil {
		w.Fatal(err)
	}
	ctx, drain := context.WithCancel(context.WithoutCancel(w.Context()))
	served := make(chan error, 1)
	go func() { served <- serve(ctx, n, listener, nil) }()
	tn := &testNode{node: n, url: "http://" + listener.Addr().String()}
	tn.stop = sync.OnceFunc(func() {
		drain()
		if err := <-served; err != nil {
			w.Errorf("serve: %v", err)
		}
	})
	w.Cleanup(func() {
		w.http.CloseIdleConnections()
		w.h2c.CloseIdleConnections()
		tn.stop()
	})
	w.nodes = append(w.nodes, tn)
	return tn
}

// node is one node after the other.
func (w *world) node() *testNode { return w.nodes[int(w.turn.Add(1))%len(w.nodes)] }

func httpClient(h2c bool) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 256
	if h2c {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	return &http.Client{Transport: transport}
}

// protocol is a way to speak to a node.
type protocol struct {
	name string
	h2c  bool
	opts []client.Option
}

// protocols are all ways to speak to a node.
var protocols = []protocol{
	{"connect_json", false, []client.Option{client.WithJSON()}},
	{"connect_binary", false, nil},
	{"grpc", true, []client.Option{client.WithGRPC()}},
	{"grpc_web", false, []client.Option{client.WithGRPCWeb()}},
}

// client is an anonymous client of n, which calls once and never again.
func (w *world) client(n *testNode, opts ...client.Option) *client.Client {
	w.Helper()
	return w.clientBy(n, protocol{opts: opts})
}

func (w *world) clientBy(n *testNode, p protocol, more ...client.Option) *client.Client {
	w.Helper()
	by := w.http
	if p.h2c {
		by = w.h2c
	}
	opts := append([]client.Option{client.WithHTTPClient(by), client.WithRetries(client.Retries{Tries: 1})}, p.opts...)
	c, err := client.New(n.url, append(opts, more...)...)
	if err != nil {
		w.Fatal(err)
	}
	return c
}

// person is somebody with an account and a session.
type person struct {
	talk.Account
	*client.Client
	grant talk.Grant
}

// id is as the wire spells it.
func (p *person) id() string { return string(p.ID) }

// a person's password, where a test logs them in.
const password = "seven blue kettles"

// person makes an account with a session, past the password's hash, so that
// tests can have thousands. Their client speaks to one node after the other.
func (w *world) person(opts ...client.Option) *person {
	w.Helper()
	n := w.node()
	p := w.account(n)
	p.Client = w.as(n, p, opts...)
	return p
}

// as is a client of n with p's session.
func (w *world) as(n *testNode, p *person, opts ...client.Option) *client.Client {
	w.Helper()
	return w.client(n, append([]client.Option{client.WithTokens(tokensOf(p.grant))}, opts...)...)
}

func tokensOf(g talk.Grant) client.Tokens {
	return client.Tokens{
		Access: g.AccessToken, AccessExpiresAt: g.AccessExpiresAt,
		Refresh: g.RefreshToken, RefreshExpiresAt: g.RefreshExpiresAt, SessionID: string(g.SessionID),
	}
}

func (w *world) account(n *testNode) *person {
	w.Helper()
	name := fmt.Sprintf("person-%d", w.people.Add(1))
	p := &person{}
	var session talk.Session
	err := n.outbox.Change(w.Context(), talk.Scope{}, func(state *talk.State) error {
		p.Account = talk.Account{
			User: talk.User{
				ID: talk.UserID(talk.NewID()), Username: name, Profile: talk.Profile{DisplayName: name},
				Role: talk.RoleUser, CreatedAt: state.Now, UpdatedAt: state.Now,
			},
			Email: name + "@example.org", PasswordHash: "none",
		}
		session = talk.Session{
			ID: talk.SessionID(talk.NewID()), UserID: p.ID, Generation: 1,
			CreatedAt: state.Now, RotatedAt: state.Now, LastUsedAt: state.Now,
			IdleExpiresAt: state.Now.Add(talk.SessionIdle), AbsoluteExpiresAt: state.Now.Add(talk.SessionAbsolute),
		}
		state.Register(p.Account).AddSession(new(session), talk.SessionsPerUser, state.Now)
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	p.grant = w.grant(n, session)
	return p
}

func (w *world) grant(n *testNode, s talk.Session) talk.Grant {
	w.Helper()
	tokens := n.accounts.Tokens
	access, expires, err := tokens.Access(s.UserID, s.ID, s.Generation, s.RotatedAt)
	if err != nil {
		w.Fatal(err)
	}
	refresh, err := tokens.Refresh(s.ID, s.Generation, s.RotatedAt)
	if err != nil {
		w.Fatal(err)
	}
	return talk.Grant{
		AccessToken: access, AccessExpiresAt: expires, RefreshToken: refresh, RefreshExpiresAt: s.ExpiresAt(), SessionID: s.ID,
	}
}

// registered is somebody who went through the door: their password is [password].
func (w *world) registered(n *testNode, name string, opts ...client.Option) (*free2talkv1.Account, *client.Client) {
	w.Helper()
	c := w.client(n, opts...)
	account, err := c.Register(w.Context(), name+"@example.org", name, password)
	if err != nil {
		w.Fatal(err)
	}
	return account, c
}

// room opens a room for its owner.
func (w *world) room(owner *person, capacity int32) *free2talkv1.Room {
	w.Helper()
	reply, err := owner.Rooms.CreateRoom(w.Context(), &free2talkv1.CreateRoomRequest{
		Name: "A room of " + owner.Username, Languages: []string{"es"}, Capacity: capacity,
	})
	if err != nil {
		w.Fatal(err)
	}
	return reply.GetRoom()
}

// together runs f n times at once and returns what each returned.
func together[T any](n int, f func(i int) T) []T {
	results := make([]T, n)
	var ready, done sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		ready.Add(1)
		done.Go(func() {
			ready.Done()
			<-start
			results[i] = f(i)
		})
	}
	ready.Wait()
	close(start)
	done.Wait()
	return results
}

// tally counts errors by their reason; "" counts successes, and what has no
// reason counts under its text.
func tally(errs []error) map[string]int {
	counts := map[string]int{}
	for _, err := range errs {
		switch {
		case err == nil:
			counts[""]++
		case client.Reason(err) != "":
			counts[client.Reason(err)]++
		default:
			counts[err.Error()]++
		}
	}
	return counts
}

// eventually waits until check is true; what it waits for comes of itself.
func (w *world) eventually(within time.Duration, what string, check func() bool) {
	w.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !check() {
		select {
		case <-deadline:
			w.Fatalf("not within %v: %s", within, what)
		case <-tick.C:
		}
	}
}

// get is a raw HTTP GET, for what is no RPC.
func (w *world) get(n *testNode, path string) (int, string) {
	w.Helper()
	target, err := url.JoinPath(n.url, path)
	if err != nil {
		w.Fatal(err)
	}
	reply, err := w.http.Get(target)
	if err != nil {
		w.Fatal(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		w.Fatal(err)
	}
	return reply.StatusCode, string(body)
}

// redisUsed waits until a node reads from Redis: it does so once it has
// recovered what was left untold.
func (w *world) redisUsed() {
	w.Helper()
	for _, n := range w.nodes {
		w.eventually(10*time.Second, "redis is used", func() bool { return n.redis.Usable() && n.redis.Hears() })
	}
}

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
)

// ear hears every answer: it learns the tokens that are given out, and keeps
// what was said with errors.
type ear struct {
	http.RoundTripper

	mu      sync.Mutex
	answers []*heard
}

type heard struct {
	*http.Response

	body bytes.Buffer
}

func (h *heard) failed() bool {
	status := h.Trailer.Get("Grpc-Status") + h.Header.Get("Grpc-Status")
	return h.StatusCode >= 400 || status != "" && status != "0"
}

var (
	accessToken  = regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+`)
	refreshToken = regexp.MustCompile(`[\w-]{80,}`)
)

func (e *ear) RoundTrip(r *http.Request) (*http.Response, error) {
	reply, err := e.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	h := &heard{Response: reply}
	reply.Body = struct {
		io.Reader
		io.Closer
	}{io.TeeReader(reply.Body, &h.body), reply.Body}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answers = append(e.answers, h)
	return reply, nil
}

// learn returns what was given out, by the part that nobody could guess: of an
// access token its signature, of a refresh token all but its first letters (in
// binary a length stands in front that may look like one).
func (e *ear) learn() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := map[string]bool{}
	for _, a := range e.answers {
		if a.failed() {
			continue // the details of an error look like tokens
		}
		said := a.body.String() + strings.Join(a.Header.Values("Set-Cookie"), "\n")
		for _, token := range accessToken.FindAllString(said, -1) {
			all[token[strings.LastIndexByte(token, '.')+1:]] = true
			said = strings.ReplaceAll(said, token, " ")
		}
		for _, token := range refreshToken.FindAllString(said, -1) {
			all[token[4:]] = true
		}
	}
	var list []string
	for token := range all {
		list = append(list, token)
	}
	return list
}

// errors is everything that was said with a call that failed.
func (e *ear) errors() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all strings.Builder
	for _, a := range e.answers {
		if a.failed() {
			fmt.Fprintln(&all, a.Header, a.Trailer, a.body.String())
		}
	}
	return all.String()
}

// monitored hears every command that a Redis gets.
func monitored(t *testing.T, address, password string) *lines {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "AUTH %s\r\nMONITOR\r\n", password)
	in := bufio.NewReader(conn)
	for range 2 {
		if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "+OK") {
			t.Fatalf("monitor: %q, %v", line, err)
		}
	}
	heard := &lines{}
	go func() { _, _ = io.Copy(heard, in) }()
	return heard
}

// glasshouse is a program with an ear at each of its walls.
type glasshouse struct {
	*world
	*process

	ear      *ear
	postgres *testenv.PostgresServer
	redis    *redis.Client
	commands *lines
	planted  map[string]string // what must be seen nowhere
}

func newGlasshouse(t *testing.T) *glasshouse {
	t.Helper()
	s := &glasshouse{postgres: testenv.StartPostgres(t), planted: map[string]string{
		"DSN": "canary-dsn-8fj2kd", "redis": "canary-redis-x9d0s", "secret": "canary-secret-Zq8Lw3Rt6Yp1Vn4Mb7Xc",
		"password": password, "new password": "eight red kettles", "wrong password": "seven blue kettle", "typed": "canary-typed-p0o9i8",
	}}
	private := testenv.StartRedis(t)
	plain := redis.NewClient(&redis.Options{Addr: private.Addr()})
	for _, set := range [][]any{{"slowlog-log-slower-than", "0"}, {"slowlog-max-len", "100000"}, {"requirepass", s.planted["redis"]}} {
		if err := plain.ConfigSet(t.Context(), set[0].(string), set[1].(string)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	plain.Close()
	s.redis = redis.NewClient(&redis.Options{Addr: private.Addr(), Password: s.planted["redis"]})
	t.Cleanup(func() { s.redis.Close() })
	s.commands = monitored(t, private.Addr(), s.planted["redis"])
	dsn, err := url.Parse(s.postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	dsn.User = url.UserPassword(dsn.User.Username(), s.planted["DSN"])
	admin := (&world{TB: t}).stranger(s.postgres.AdminDSN())
	admin.run("ALTER SYSTEM SET log_statement = 'all'")
	admin.run("SELECT pg_reload_conf()")
	flags := sharedWith(dsn.String(), "redis://:"+s.planted["redis"]+"@"+private.Addr(), "f2t:")
	env := []string{"FREE2TALK_SECRET=" + s.planted["secret"], "OTEL_TRACES_EXPORTER=console", "OTEL_TRACES_SAMPLER=always_on"}
	s.process = launch(t, env, append(flags, "--log-level=debug", "--log-format=json")...).serving()
	s.world = worldOf(t, s.process)
	s.ear = &ear{RoundTripper: s.world.http.Transport}
	s.world.http.Transport, s.world.h2c.Transport = s.ear, &hears{s.ear, s.world.h2c.Transport}
	return s
}

// hears is another transport with the same ear.
type hears struct {
	ear *ear
	by  http.RoundTripper
}

func (h *hears) RoundTrip(r *http.Request) (*http.Response, error) {
	other := &ear{RoundTripper: h.by}
	reply, err := other.RoundTrip(r)
	h.ear.mu.Lock()
	defer h.ear.mu.Unlock()
	h.ear.answers = append(h.ear.answers, other.answers...)
	return reply, err
}

// misuse says secrets where they do not belong, and where they are wrong.
func (s *glasshouse) misuse() {
	typed := s.planted["typed"]
	quoted := fmt.Sprintf("%q", typed+strings.Repeat("x", 600))
	for method, body := range map[string]string{
		"AuthService.Login":          `{"username":"ada-connect_json","password":"` + typed + `"}`,
		"AuthService.Register":       `{"username":"` + typed + `!","email":"` + typed + `","password":` + quoted + `}`,
		"AuthService.Refresh":        `{"refreshToken":"` + typed + `"}`,
		"AuthService.GetMe":          `{"` + typed + `":1}`,
		"AuthService.ChangePassword": `{"currentPassword":"` + typed + `","newPassword":"` + typed + `"`,
		"UserService.GetUser":        `{"username":"` + typed + ` "}`,
	} {
		for _, token := range []string{"", typed, typed + ".e30." + typed} {
			if got, _ := s.raw(s.testNode, methods()[method], "json", []byte(body), token); got == "internal" || got == "ok" {
				s.world.Errorf("%s: %s", method, got)
			}
		}
	}
	for _, path := range []string{"/free2talk.v1.UserService/GetUser?encoding=json&message=%7B%22username%22:%22" + typed + "!%22%7D", "/free2talk.v1.AuthService/Nope?x=1", "/nope"} {
		request, err := http.NewRequestWithContext(s.world.Context(), http.MethodGet, s.url+path, nil)
		if err != nil {
			s.world.Fatal(err)
		}
		request.Header.Set("Cookie", "__Host-f2t_refresh="+typed)
		request.Header.Set("X-Api-Key", typed)
		request.Header.Set("Traceparent", "00-"+typed)
		reply, err := s.world.http.Do(request)
		if err != nil {
			s.world.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, reply.Body)
		reply.Body.Close()
	}
}

// byCookie signs in as a browser does, refreshes and goes.
func (s *glasshouse) byCookie() {
	const login = `{"username":"carol-connect_json","password":"` + password + `","cookie":true}`
	cookie := ""
	for _, step := range [][2]string{{"Login", login}, {"Refresh", `{}`}, {"Logout", `{}`}} {
		request, err := http.NewRequestWithContext(s.world.Context(), http.MethodPost, s.url+"/free2talk.v1.AuthService/"+step[0], strings.NewReader(step[1]))
		if err != nil {
			s.world.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		if cookie != "" {
			request.Header.Set("Cookie", cookie)
		}
		reply, err := s.world.http.Do(request)
		if err != nil {
			s.world.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, reply.Body)
		reply.Body.Close()
		if reply.StatusCode != http.StatusOK {
			s.world.Fatalf("%s by cookie: %d", step[0], reply.StatusCode)
		}
		cookie, _, _ = strings.Cut(reply.Header.Get("Set-Cookie"), ";")
	}
}

// walls are all places to which anything may leak, by name.
func (s *glasshouse) walls(t *testing.T) map[string]string {
	t.Helper()
	metrics := s.scrape(s.process)
	slow, err := s.redis.SlowLogGet(t.Context(), -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	var directory string
	if err := s.stranger(s.postgres.AdminDSN()).QueryRow(t.Context(), "SHOW data_directory").Scan(&directory); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	if code := s.ended(20 * time.Second); code != 0 {
		t.Errorf("exit %d", code)
	}
	statements, err := os.ReadFile(filepath.Join(filepath.Dir(directory), "postgres.log"))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"log": s.log.String(), "spans": s.out.String(), "metrics": metrics, "errors": s.ear.errors(),
		"statements": string(statements), "slow commands": fmt.Sprint(slow), "commands": s.commands.String(),
	}
}

// TestChecklist61_canary tells the whole story to the real program, which logs
// and traces all that it can, and then looks for every secret at every wall.
func TestChecklist61_canary(t *testing.T) {
	s := newGlasshouse(t)
	for _, p := range []protocol{protocols[0], protocols[2]} {
		t.Run(p.name, func(t *testing.T) { tell(t, s.world, p, func(int) {}) })
	}
	s.byCookie()
	s.misuse()
	needles := maps.Clone(s.planted)
	given := s.ear.learn()
	for i, token := range given {
		needles[fmt.Sprint("token ", i)] = token
	}
	if len(given) < 30 {
		t.Errorf("only %d tokens were heard", len(given))
	}
	walls := s.walls(t)
	for wall, sign := range map[string]string{ // each was really looked at
		"log": `"msg":"call"`, "spans": "INSERT", "metrics": "free2talk_", "errors": "BAD_CREDENTIALS", "statements": "$argon2id$",
		"slow commands": "get", "commands": "room:",
	} {
		if !strings.Contains(strings.ToLower(walls[wall]), strings.ToLower(sign)) {
			t.Errorf("the %s hold no %s, so they prove nothing: %.2000s", wall, sign, walls[wall])
		}
	}
	for wall, text := range walls {
		for name, secret := range needles {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("the %s is in the %s: …%s…", name, wall, text[max(0, i-200):min(len(text), i+100)])
			}
		}
		// What is somebody's, and no secret to the database.
		for _, private := range []string{"$argon2id$", "@example.org"} {
			if i := strings.Index(text, private); i >= 0 && wall != "statements" {
				t.Errorf("%s is in the %s: …%s…", private, wall, text[max(0, i-300):min(len(text), i+100)])
			}
		}
	}
}

// TestChecklist62_log_injection: whatever callers choose, a record is a line.
func TestChecklist62_log_injection(t *testing.T) {
	const evil = `x" level=ERROR msg="forged` + "\u2028\u0085 \u009b31m"
	for _, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			log := &lines{}
			w := newWorld(t, onEmbedded, 0, func(s *Settings) { s.LogFormat = format })
			n := w.startLogging(log)
			ada := w.person()
			for _, name := range []string{evil, "a\r\nlevel=ERROR msg=forged", "a\x1b[2Jforged"} {
				quoted, _ := json.Marshal(name)
				for method, body := range map[string]string{
					"RoomService.CreateRoom":    `{"languages":["es"],"name":` + string(quoted) + `}`,
					"AuthService.Register":      `{"email":"a@example.org","password":"` + password + `","username":` + string(quoted) + `}`,
					"AuthService.Login":         `{"password":"` + password + `","username":` + string(quoted) + `}`,
					"UserService.UpdateProfile": `{"profile":{"displayName":` + string(quoted) + `}}`,
				} {
					w.raw(n, methods()[method], "json", []byte(body), ada.grant.AccessToken)
				}
			}
			for _, path := range []string{"/free2talk.v1.RoomService/%0d%0alevel=ERROR%20forged%1b%5b2J%e2%80%a8", "/%0aforged"} {
				request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, n.url+path, strings.NewReader(`{}`))
				request.Header.Set("Content-Type", "application/json")
				request.Header.Set("User-Agent", evil)
				request.Header.Set("X-Request-Id", evil)
				reply, err := w.http.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				reply.Body.Close()
			}
			n.stop()
			records := 0
			for line := range strings.Lines(log.String()) {
				records++
				if format == "json" && !json.Valid([]byte(line)) || format == "text" && !strings.HasPrefix(line, "time=") {
					t.Errorf("not a record: %q", line)
				}
				if strings.ContainsAny(strings.TrimSuffix(line, "\n"), "\r\n\x1b\u2028\u0085\u009b") || format == "text" && strings.Count(line, " level=") != 1+strings.Count(line, `\" level=`) {
					t.Errorf("a forged line: %q", line)
				}
			}
			if records < 14 {
				t.Errorf("only %d records of 14 calls:\n%s", records, log.String())
			}
		})
	}
}

// record is a line of the log.
type record map[string]any

func (l *lines) events(t *testing.T) map[string][]record {
	t.Helper()
	events := map[string][]record{}
	for line := range strings.Lines(l.String()) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if name, ok := r["event"].(string); ok && r["msg"] == "security" {
			events[name] = append(events[name], r)
		}
	}
	return events
}

// TestChecklist63_security_events: each deed leaves its record, which says who
// did it, to whom, in which call and when.
func TestChecklist63_security_events(t *testing.T) {
	log := &lines{}
	w := newWorld(t, onEmbedded, 0, withLimits(t, "api=off,strict=off,room_create=off,message=off,auth=3/15m"))
	n := w.startLogging(log)
	account, ada := w.registered(n, "ada")
	id := account.GetUser().GetId()
	_, err := w.client(n).Login(t.Context(), "ada", password)
	bob := w.person()
	room := w.room(bob, 3)
	_, denied := ada.Rooms.CloseRoom(t.Context(), &free2talkv1.CloseRoomRequest{RoomId: room.GetId()})
	if err != nil || client.Reason(denied) != client.ReasonNotOwner {
		t.Fatal(err, denied)
	}
	w.guesses(n, 3, "ada", "BAD_CREDENTIALS")
	w.guesses(n, 1, "ada", "RATE_LIMITED")
	carol := w.person()
	stolen := carol.grant.RefreshToken
	token := stolen
	for range 2 {
		reply, err := carol.Auth.Refresh(t.Context(), &free2talkv1.RefreshRequest{RefreshToken: token})
		if err != nil {
			t.Fatal(err)
		}
		token = reply.GetTokens().GetRefreshToken()
	}
	if _, err := w.client(n).Auth.Refresh(t.Context(), &free2talkv1.RefreshRequest{RefreshToken: stolen}); client.Reason(err) != client.ReasonRefreshReused {
		t.Fatal(err)
	}
	if _, err := bob.Auth.RevokeSession(t.Context(), &free2talkv1.RevokeSessionRequest{SessionId: string(bob.grant.SessionID)}); err != nil {
		t.Fatal(err)
	}
	if _, err := ada.Auth.ChangePassword(t.Context(), &free2talkv1.ChangePasswordRequest{CurrentPassword: password, NewPassword: "nine green kettles"}); err != nil {
		t.Fatal(err)
	}
	if err := ada.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := n.accounts.Promote(t.Context(), "ada", "operator"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]struct {
		times         int
		target, actor any
	}{
		"user_created": {1, id, id}, "authn_login_success": {1, id, id}, "authn_login_fail": {3, id, nil}, "authn_login_limit": {1, nil, nil},
		"authn_token_reuse": {1, carol.id(), nil}, "authn_logout": {1, id, id}, "authn_session_revoked": {1, bob.id(), bob.id()},
		"authn_password_change": {1, id, id}, "authz_fail": {1, nil, id}, "privilege_permissions_changed": {1, id, "operator"},
	} {
		found := log.events(t)[name]
		if len(found) != want.times {
			t.Errorf("%s: %d records, want %d", name, len(found), want.times)
		}
		for _, r := range found {
			at, _ := r["time"].(string)
			if _, err := time.Parse(time.RFC3339Nano, at); err != nil || !strings.HasSuffix(at, "Z") {
				t.Errorf("%s: not a time of UTC: %v", name, at)
			}
			if r["user"] != want.target || r["actor"] != want.actor {
				t.Errorf("%s: %v did it to %v: want %v to %v", name, r["actor"], r["user"], want.actor, want.target)
			}
			if request, _ := r["request_id"].(string); len(request) != 32 != (name == "privilege_permissions_changed") || request != "" && r["address"] != "127.0.0.1" {
				t.Errorf("%s: request %q from %v", name, request, r["address"])
			}
		}
	}
}

func (w *world) guesses(n *testNode, times int, name, want string) {
	w.Helper()
	for range times {
		if _, err := w.client(n).Login(w.Context(), name, "wrong kettles"); client.Reason(err) != want {
			w.Errorf("got %v, want %s", err, want)
		}
	}
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/free2talk/free2talk/client"
	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	"github.com/free2talk/free2talk/gen/free2talk/admin/v1/adminv1connect"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
)

// built is where the program was built, or "".
var built string

// program is the real program, built once for all tests.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "free2talk-program-")
	if err != nil {
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "free2talk")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// lines is what a program prints while a test reads it.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// process is the program, running.
type process struct {
	*testNode // its url alone

	t        testing.TB
	cmd      *exec.Cmd
	out, log lines // standard output and error
	done     chan struct{}
	metrics  string
}

// launch starts the program in an environment that holds nothing but env. It
// is killed at the end of the test, where it still runs.
func launch(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(path, args...), done: make(chan struct{}), testNode: &testNode{}}
	p.cmd.Env = append([]string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, env...)
	p.cmd.Dir = t.TempDir()
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is in its state
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			said := p.log.String()
			t.Logf("%v said, at last:\n%s", args, said[max(0, len(said)-2000):])
		}
	})
	return p
}

// command runs the program to its end.
func command(t testing.TB, env []string, args ...string) (code int, out, log string) {
	t.Helper()
	p := launch(t, env, args...)
	return p.ended(30 * time.Second), p.out.String(), p.log.String()
}

// ended is the exit code of a program that must end.
func (p *process) ended(within time.Duration) int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(within):
		p.t.Fatalf("it did not end within %v:\n%s", within, p.log.String())
		return -1
	}
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// saying waits until the log matches, and returns the groups.
func (p *process) saying(pattern string) []string {
	p.t.Helper()
	expression, late := regexp.MustCompile(pattern), time.After(30*time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if found := expression.FindStringSubmatch(p.log.String()); found != nil {
			return found
		}
		select {
		case <-p.done:
			p.t.Fatalf("it ended without saying %s:\n%s", pattern, p.log.String())
		case <-late:
			p.t.Fatalf("it did not say %s:\n%s", pattern, p.log.String())
		case <-tick.C:
		}
	}
}

// serving waits until it is ready, and learns where.
func (p *process) serving() *process {
	p.t.Helper()
	p.url = p.saying(`free2talk serves on (https?://[^\s"]+)`)[1]
	if found := regexp.MustCompile(`metrics"?[=:]"?(http://[^\s"]+)`).FindStringSubmatch(p.log.String()); found != nil {
		p.metrics = found[1]
	}
	p.saying(`msg"?[=:]"?ready`)
	return p
}

// worldOf is a world of programs: what it asks them goes over the wire.
func worldOf(t testing.TB, processes ...*process) *world {
	t.Helper()
	w := &world{TB: t, http: httpClient(false), h2c: httpClient(true)}
	for _, p := range processes {
		w.nodes = append(w.nodes, p.testNode)
	}
	t.Cleanup(w.http.CloseIdleConnections)
	t.Cleanup(w.h2c.CloseIdleConnections)
	return w
}

const noLimits = "--rate-limits=api=off,auth=off,strict=off,room_create=off,message=off"

// embeddedFlags make a node that stands alone, in dir.
func embeddedFlags(dir string) []string {
	return []string{"--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", "--data-dir=" + dir, noLimits}
}

// sharedFlags make a node on the shared servers.
func sharedFlags(t testing.TB) []string {
	url, prefix := testenv.Redis(t)
	return sharedWith(testenv.Postgres(t), url, prefix)
}

func sharedWith(database, redis, prefix string) []string {
	return []string{"--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0", noLimits,
		"--database-url=" + database, "--redis-url=" + redis, "--redis-prefix=" + prefix}
}

func getMe(ctx context.Context, c *client.Client) error {
	_, err := c.Auth.GetMe(ctx, &free2talkv1.GetMeRequest{})
	return err
}

func TestProcess_bare(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	p := launch(t, nil, embeddedFlags(dir)...).serving()
	w := worldOf(t, p)
	for _, want := range []string{"SQLite in " + dir, "a Redis of its own", "for trying out and developing"} {
		if !strings.Contains(p.log.String(), want) {
			t.Errorf("it does not say %q: %s", want, p.log.String())
		}
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ready", "/": "curl"} {
		if status, body := w.get(p.testNode, path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	_, ada := w.registered(p.testNode, "ada")
	t.Run("a second server on the same directory is refused", func(t *testing.T) {
		code, _, log := command(t, nil, embeddedFlags(dir)...)
		if code != 1 || !strings.Contains(log, "another server uses "+dir) || !strings.Contains(log, "--data-dir") {
			t.Errorf("exit %d: %s", code, log)
		}
	})
	t.Run("its secret is nobody else's", func(t *testing.T) {
		if info, err := os.Stat(filepath.Join(dir, "secret")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	})
	t.Run("a killed one goes on where it was", func(t *testing.T) {
		_ = p.cmd.Process.Kill()
		<-p.done
		again := launch(t, nil, embeddedFlags(dir)...).serving()
		tokens, err := ada.Tokens(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := getMe(t.Context(), worldOf(t, again).client(again.testNode, client.WithTokens(tokens))); err != nil {
			t.Error(err)
		}
	})
}

// BenchmarkStart is G16: from the start of the program to its first answer.
func BenchmarkStart(b *testing.B) {
	if _, err := program(); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		p := launch(b, nil, embeddedFlags(b.TempDir())...).serving()
		if status, _ := worldOf(b, p).get(p.testNode, "/readyz"); status != http.StatusOK {
			b.Fatal(status)
		}
	}
}

func TestProcess_migrate(t *testing.T) {
	for name, where := range map[string]string{
		"sqlite": "--data-dir=" + t.TempDir(), "postgres": "--database-url=" + testenv.Postgres(t),
	} {
		t.Run(name, func(t *testing.T) {
			for _, step := range []struct{ do, has, not string }{
				{"status", "missing", "applied"}, {"up", "applied", "missing"}, {"up", "applied", "missing"}, {"status", "applied", "missing"},
				{"down", "missing", "nothing"}, {"status", "missing", "nothing"}, {"up", "applied", "missing"},
			} {
				code, out, log := command(t, nil, "migrate", step.do, where)
				if code != 0 || !strings.Contains(out, step.has) || strings.Contains(out, step.not) {
					t.Errorf("%s: exit %d: %s%s", step.do, code, out, log)
				}
			}
		})
	}
}

func TestProcess_promote_and_rotate_beside_a_server(t *testing.T) {
	dir := t.TempDir()
	for name, flags := range map[string][]string{"embedded": embeddedFlags(dir), "postgres": sharedFlags(t)} {
		t.Run(name, func(t *testing.T) {
			p := launch(t, nil, flags...).serving()
			w := worldOf(t, p)
			ada, adas := w.registered(p.testNode, "ada")
			_, bobs := w.registered(p.testNode, "bob")
			byID := &free2talkv1.GetUserRequest{Key: &free2talkv1.GetUserRequest_Id{Id: ada.GetUser().GetId()}}
			role := func() free2talkv1.Role {
				user, err := bobs.Users.GetUser(t.Context(), byID)
				if err != nil {
					t.Fatal(err)
				}
				return user.GetUser().GetRole()
			}
			if role() != free2talkv1.Role_ROLE_USER { // it is cached now
				t.Fatal("born an administrator")
			}
			where := flags[slices.IndexFunc(flags, func(f string) bool {
				return strings.HasPrefix(f, "--data-dir") || strings.HasPrefix(f, "--database-url")
			})]
			if code, out, log := command(t, nil, "user", "promote", where, "Ada"); code != 0 || out != "ada is an administrator now\n" {
				t.Fatalf("exit %d: %s%s", code, out, log)
			}
			w.eventually(5*time.Second, "the server has heard of it", func() bool { return role() == free2talkv1.Role_ROLE_ADMIN })
			if code, _, log := command(t, nil, where, "user", "promote", "nobody-here"); code != 1 || !strings.Contains(log, `there is no user "nobody-here"`) {
				t.Errorf("nobody: exit %d: %s", code, log)
			}
			if code, out, log := command(t, nil, "keys", "rotate", where); code != 0 || !strings.Contains(out, "two minutes") {
				t.Errorf("rotate: exit %d: %s%s", code, out, log)
			}
			admin := adminv1connect.NewAdminServiceClient(adas.Conn())
			page, err := admin.ListAuditLog(t.Context(), &adminv1.ListAuditLogRequest{})
			if err != nil || len(page.GetEntries()) != 2 {
				t.Fatalf("the audit log: %v, %v", page, err)
			}
			for i, action := range []string{"rotate_keys", "set_role"} { // the newest first
				if e := page.GetEntries()[i]; e.GetAction() != action || !strings.HasPrefix(e.GetActor(), "shell:") || len(e.GetActor()) == len("shell:") {
					t.Errorf("entry %d is %v, where the shell did %s", i, e, action)
				}
			}
			for _, c := range []*client.Client{adas, bobs} {
				if err := getMe(t.Context(), c); err != nil {
					t.Errorf("logged out: %v", err)
				}
			}
		})
	}
}

// TestProcess_two_nodes: by their flags alone. One that starts after a
// rotation of the keys and one from before it take each other's tokens.
func TestProcess_two_nodes(t *testing.T) {
	t.Parallel()
	flags := sharedFlags(t)
	env := []string{"FREE2TALK_SECRET=GmR0c2tYbEwqkl3vD8sOa1uQ5nZxT7pJ"}
	first := launch(t, env, flags...).serving()
	_, ada := worldOf(t, first).registered(first.testNode, "ada")
	if code, out, log := command(t, env, "keys", "rotate", flags[3]); code != 0 {
		t.Fatalf("rotate: exit %d: %s%s", code, out, log)
	}
	second := launch(t, env, flags...).serving()
	w := worldOf(t, first, second)
	_, bob := w.registered(second.testNode, "bob")
	for _, c := range []*client.Client{ada, bob} {
		tokens, err := c.Tokens(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range w.nodes {
			if err := getMe(t.Context(), w.client(n, client.WithTokens(tokens))); err != nil {
				t.Errorf("node %d: %v", i, err)
			}
		}
	}
	if !strings.Contains(second.log.String(), "with Postgres and Redis") || strings.Contains(second.log.String(), "unsealed") {
		t.Error(second.log.String())
	}
	t.Run("another secret does not open the keys", func(t *testing.T) {
		code, _, log := command(t, []string{"FREE2TALK_SECRET=another-of-32-bytes-qwertyuiopasdfgh"}, flags...)
		if code != 1 || !strings.Contains(log, "keys: ") || strings.Contains(log, "panic") || strings.Contains(log, "qwertyuiop") {
			t.Errorf("exit %d: %s", code, log)
		}
	})
}

// degraded is what /metrics says of Redis in the role of the cache.
func (p *process) degraded(w *world) bool {
	return strings.Contains(w.scrape(p), `free2talk_degraded{role="cache"} 1`)
}

func (w *world) scrape(p *process) string {
	w.Helper()
	reply, err := w.http.Get(p.metrics)
	if err != nil {
		w.Fatal(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		w.Fatal(err)
	}
	return string(body)
}

func TestProcess_starts_without_Redis(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedis(t)
	redis.Kill()
	p := launch(t, nil, sharedWith(testenv.Postgres(t), redis.URL(), "f2t:")...).serving()
	w := worldOf(t, p)
	_, ada := w.registered(p.testNode, "ada")
	if err := getMe(t.Context(), ada); err != nil {
		t.Error(err)
	}
	if status, _ := w.get(p.testNode, "/readyz"); status != http.StatusOK || !p.degraded(w) {
		t.Errorf("readyz %d, degraded %v", status, p.degraded(w))
	}
	redis.Restart()
	w.eventually(10*time.Second, "Redis is found", func() bool { return !p.degraded(w) })
	if err := getMe(t.Context(), ada); err != nil {
		t.Error(err)
	}
}

func TestProcess_waits_for_Postgres(t *testing.T) {
	t.Parallel()
	postgres := testenv.StartPostgres(t)
	postgres.Kill()
	url, prefix := testenv.Redis(t)
	p := launch(t, nil, sharedWith(postgres.URL(), url, prefix)...)
	p.saying(`waiting for the database`)
	postgres.Restart()
	p.serving()
	w := worldOf(t, p)
	w.registered(p.testNode, "ada")
}

func TestProcess_stops_while_it_waits_for_Postgres(t *testing.T) {
	postgres := testenv.StartPostgres(t)
	postgres.Kill()
	url, prefix := testenv.Redis(t)
	p := launch(t, nil, sharedWith(postgres.URL(), url, prefix)...)
	p.saying(`waiting for the database`)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	if code := p.ended(10 * time.Second); code != 0 || strings.Contains(p.log.String(), "panic") {
		t.Errorf("exit %d: %s", code, p.log.String())
	}
}

// balanced dials the first node that is ready, as a balancer does.
func balanced(h2c bool, nodes ...*process) *http.Client {
	c := httpClient(h2c)
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		var errs []error
		for _, n := range nodes {
			if !n.ready(ctx) {
				continue
			}
			conn, err := new(net.Dialer).DialContext(ctx, network, strings.TrimPrefix(n.url, "http://"))
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
		return nil, errors.Join(errs...)
	}
	return c
}

func (p *process) ready(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+"/readyz", nil)
	if err != nil {
		return false
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	defer reply.Body.Close()
	return reply.StatusCode == http.StatusOK
}

// TestProcess_SIGTERM_under_load: of two nodes behind a balancer one leaves;
// no call fails, and it is gone in time.
func TestProcess_SIGTERM_under_load(t *testing.T) {
	flags := sharedFlags(t)
	for _, p := range []protocol{protocols[0], protocols[2]} { // HTTP/1.1 and HTTP/2
		t.Run(p.name, func(t *testing.T) {
			leaving, staying := launch(t, nil, flags...).serving(), launch(t, nil, flags...).serving()
			w := worldOf(t, leaving, staying)
			load := w.loaded(p, balanced(p.h2c, leaving, staying))
			load.after(200)
			began := time.Now()
			_ = leaving.cmd.Process.Signal(syscall.SIGTERM)
			w.eventually(time.Second, "it is not ready any more", func() bool { return !leaving.ready(t.Context()) })
			select {
			case <-leaving.done:
				t.Error("it was gone before a balancer could see that it is not ready")
			default:
			}
			if code := leaving.ended(20 * time.Second); code != 0 {
				t.Errorf("exit %d", code)
			}
			load.after(200)
			calls, errs := load.end()
			t.Logf("%d calls; it took %v to leave", calls, time.Since(began))
			for _, err := range errs {
				t.Errorf("a call failed: %v", err)
			}
		})
	}
}

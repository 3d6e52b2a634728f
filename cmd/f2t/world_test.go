package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
)

const (
	password = "seven blue kettles"
	patient  = 30 * time.Second // far more than anything here takes
)

// built is where the programs were built, or "".
var built string

// programs are the real server and the real command line, built once.
var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "f2t-programs-")
	if err != nil {
		return "", err
	}
	built = dir
	if out, err := exec.Command("go", "build", "-o", dir, "../free2talk", ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

func program(t testing.TB, name string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// buffer is what a program writes while a test reads it.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *buffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *buffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// has waits until there is something that matches, and returns the groups.
func (l *buffer) has(t testing.TB, pattern string) []string {
	t.Helper()
	expression, late := regexp.MustCompile(pattern), time.After(patient)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if found := expression.FindStringSubmatch(l.String()); found != nil {
			return found
		}
		select {
		case <-late:
			t.Fatalf("nothing that matches %s in:\n%s", pattern, l.String())
		case <-tick.C:
		}
	}
}

// server is a running server program.
type server struct {
	t       testing.TB
	flags   []string
	env     []string
	url     string
	metrics string
	cmd     *exec.Cmd
	log     *buffer
}

// embedded starts a server that needs nothing else.
func embedded(t testing.TB, flags ...string) *server {
	t.Helper()
	return (&server{t: t, flags: append([]string{"--data-dir=" + t.TempDir(), "--rate-limits=api=off,auth=off,room_create=off"}, flags...)}).start("127.0.0.1:0")
}

// three starts three nodes on the shared Postgres and Redis.
func three(t testing.TB, flags ...string) []*server {
	t.Helper()
	redis, prefix := testenv.Redis(t)
	common := append([]string{"--database-url=" + testenv.Postgres(t), "--redis-url=" + redis, "--redis-prefix=" + prefix,
		"--rate-limits=api=off,auth=off,room_create=off"}, flags...)
	env := []string{"FREE2TALK_SECRET=kJ8s-three-nodes-qwertyuiop-41x93z"}
	var nodes []*server
	for range 3 {
		nodes = append(nodes, (&server{t: t, flags: common, env: env}).start("127.0.0.1:0"))
	}
	return nodes
}

func (s *server) start(listen string) *server {
	s.t.Helper()
	s.log = &buffer{}
	s.cmd = exec.Command(program(s.t, "free2talk"), append([]string{"--listen=" + listen, "--metrics-listen=127.0.0.1:0"}, s.flags...)...)
	s.cmd.Env = append([]string{"HOME=" + s.t.TempDir(), "PATH=" + os.Getenv("PATH")}, s.env...)
	s.cmd.Stderr, s.cmd.Stdout = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.kill() })
	s.url = s.log.has(s.t, `free2talk serves on (http://[^\s"]+)`)[1]
	s.metrics = s.log.has(s.t, `metrics=(http://\S+)`)[1]
	return s
}

func (s *server) kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait() // it was killed
	}
}

// again starts it where it was, after it was killed.
func (s *server) again() {
	s.t.Helper()
	s.start(strings.TrimPrefix(s.url, "http://"))
}

// register makes an account.
func (s *server) register(name string) *client.Client {
	s.t.Helper()
	c, err := client.New(s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := c.Register(context.Background(), name+"@example.org", name, password); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// room opens a room.
func (s *server) room(owner *client.Client, name string) *free2talkv1.Room {
	s.t.Helper()
	reply, err := owner.Rooms.CreateRoom(context.Background(), &free2talkv1.CreateRoomRequest{Name: name, Languages: []string{"es"}, Capacity: 4})
	if err != nil {
		s.t.Fatal(err)
	}
	return reply.GetRoom()
}

// shell is somebody at a command line, with profiles of their own.
type shell struct {
	t      testing.TB
	dir    string
	server string
}

func shellAt(t testing.TB, url string) *shell {
	return &shell{t: t, dir: t.TempDir(), server: url}
}

// result is what became of a command.
type result struct {
	code     int
	out, log string
}

// run runs a command in this process, to its end.
func (s *shell) run(args ...string) result {
	s.t.Helper()
	return s.runWith("", args...)
}

func (s *shell) runWith(in string, args ...string) result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	var out, log bytes.Buffer
	code := run(ctx, s.args(args), strings.NewReader(in), &out, &log)
	return result{code, out.String(), log.String()}
}

func (s *shell) args(args []string) []string {
	return append([]string{"--config-dir=" + s.dir, "--server=" + s.server}, args...)
}

// begin runs a command that goes on; stop is its Ctrl-C.
func (s *shell) begin(args ...string) (out, log *buffer, stop func() int) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, log = &buffer{}, &buffer{}
	code := make(chan int, 1)
	go func() { code <- run(ctx, s.args(args), strings.NewReader(""), out, log) }()
	stopped := sync.OnceValue(func() int {
		cancel()
		select {
		case c := <-code:
			return c
		case <-time.After(patient):
			s.t.Errorf("%v did not end", args)
			return -1
		}
	})
	s.t.Cleanup(func() { stopped() })
	return out, log, stopped
}

// login logs somebody in who has an account.
func (s *shell) login(name string) {
	s.t.Helper()
	s.runWith(password+"\n", "login", name, "--password-stdin").ok(s.t)
}

// ok says that it was done, and returns what it said.
func (r result) ok(t testing.TB) string {
	t.Helper()
	if r.code != exitDone {
		t.Fatalf("exit %d: %s%s", r.code, r.out, r.log)
	}
	return r.out
}

// fails says that it ended with a code, and one line of why, which holds all of want.
func (r result) fails(t testing.TB, code int, want ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit %d, want %d: %s%s", r.code, code, r.out, r.log)
	}
	if strings.Count(r.log, "\n") != 1 || !strings.HasPrefix(r.log, "f2t: ") {
		t.Errorf("not one line of why: %q", r.log)
	}
	for _, text := range want {
		if !strings.Contains(r.log, text) {
			t.Errorf("%q does not say %q", r.log, text)
		}
	}
}

// says says that text holds all of want.
func says(t testing.TB, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in:\n%s", w, text)
		}
	}
}

// parsed reads JSON.
func parsed[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	decoder := json.NewDecoder(strings.NewReader(text))
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	if rest, err := io.ReadAll(decoder.Buffered()); err != nil || strings.TrimSpace(string(rest)) != "" {
		t.Errorf("more than one value: %s", rest)
	}
	return v
}

// eventually waits until check is true.
func (s *server) eventually(what string, check func() bool) {
	s.t.Helper()
	late := time.After(patient)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !check() {
		select {
		case <-late:
			s.t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

// calls is how often a method was called, and answered well.
func (s *server) calls(method string) int {
	s.t.Helper()
	reply, err := http.Get(s.metrics)
	if err != nil {
		s.t.Fatal(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	counted := regexp.MustCompile(`free2talk_rpc_duration_seconds_count\{code="ok",method="free2talk.v1.\w+/` + method + `"[^}]*\} (\d+)`)
	found := counted.FindSubmatch(body)
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(string(found[1]))
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func seconds(d time.Duration) *durationpb.Duration { return durationpb.New(d) }

package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

const top = "../../.." // of the repository

// The first screen of the README works as printed, on a server with nothing
// but its embedded default.
func TestReadme(t *testing.T) {
	t.Parallel()
	blocks := shellBlocks(t)
	if len(blocks) != 3 || !strings.HasPrefix(blocks[0], "go run ./cmd/free2talk\n") {
		t.Fatalf("the first screen has %d blocks of shell, %q", len(blocks), blocks)
	}
	bin := t.TempDir()
	build(t, bin, "./cmd/free2talk", "./client/examples/join")
	url := startServer(t, filepath.Join(bin, "free2talk"))

	curls := strings.ReplaceAll(blocks[1], "http://127.0.0.1:8080", url)
	told := shell(t, curls)
	for _, part := range []string{`"email":"ada@example.org"`, `"slug":"tapas-y-charla`, `"level":"LEVEL_INTERMEDIATE"`, `"rooms":[`, `"totalSize":1`} {
		if !strings.Contains(strings.ReplaceAll(told, " ", ""), part) {
			t.Errorf("curl does not print %s; it prints\n%s", part, told)
		}
	}

	join := strings.ReplaceAll(blocks[2], "go run ./client/examples/join", filepath.Join(bin, "join")+" -url "+url)
	for range 2 { // the second time bob is known, and in the room
		if got, want := shell(t, join), "You are in Tapas y charla:\n  ada, the owner\n  bob\n"; got != want {
			t.Errorf("join prints\n%s", got)
		}
	}
	joinsInOtherWays(t, url, told)
	keepsASession(t, url)
}

// keepsASession tries the client's session on the real server: refreshed by
// its refresh token alone, and over for both after a logout.
func keepsASession(t *testing.T, url string) {
	t.Helper()
	ctx := t.Context()
	first, err := client.New(url)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Login(ctx, "bob@example.org", "seven blue kettles"); err != nil {
		t.Fatal(err)
	}
	tokens, err := first.Tokens(ctx)
	if err != nil || tokens.Refresh == "" {
		t.Fatalf("holds %v, %v", tokens, err)
	}
	second, err := client.New(url, client.WithTokens(client.Tokens{Refresh: tokens.Refresh}))
	if err != nil {
		t.Fatal(err)
	}
	me, err := second.Auth.GetMe(ctx, &free2talkv1.GetMeRequest{})
	if err != nil || me.GetAccount().GetUser().GetUsername() != "bob" {
		t.Errorf("refreshed: %v, %v", me, err)
	}
	if err := first.Logout(ctx); err != nil {
		t.Error(err)
	}
	_, err = second.Auth.GetMe(ctx, &free2talkv1.GetMeRequest{})
	if client.Reason(err) != client.ReasonSessionRevoked {
		t.Errorf("after the logout: %v", err)
	}
	if left, err := second.Tokens(ctx); err != nil || left != (client.Tokens{}) {
		t.Errorf("after the logout it holds %v, %v", left, err)
	}
}

func joinsInOtherWays(t *testing.T, url, told string) {
	t.Helper()
	slug := regexp.MustCompile(`tapas-y-charla[a-z0-9-]*`).FindString(told)
	bob := wish{url: url, username: "bob", password: "seven blue kettles", room: slug}
	if err := run(bob, io.Discard); err != nil {
		t.Errorf("by slug: %v", err)
	}
	for want, w := range map[string]wish{
		"the password is wrong":                        {url: url, username: "bob", password: "eight blue kettles"},
		"the server's address must be":                 {url: "free2talk.example"},
		"no room has a free seat":                      {url: url, username: "bob", password: bob.password, language: "fr"},
		"there is no such room":                        {url: url, username: "bob", password: bob.password, room: "nowhere"},
		"username does not match":                      {url: url, username: "b b", password: bob.password},
		"this password is too common or too close to ": {url: url, username: "eve", password: "password"},
	} {
		if err := run(w, io.Discard); err == nil || !strings.Contains(strings.ToLower(err.Error()), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// shellBlocks are the commands of the first screen.
func shellBlocks(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(top + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n## ")
	var blocks []string
	for _, part := range strings.Split(first, "```sh\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, block)
	}
	return blocks
}

func build(t *testing.T, into string, packages ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", into + "/"}, packages...)...)
	cmd.Dir = top
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

var served = regexp.MustCompile(`serves on (http://[0-9.:]+)`)

// startServer starts a server that ends with the test, and returns where it is.
func startServer(t *testing.T, program string) string {
	t.Helper()
	cmd := exec.Command(program, "--listen", "127.0.0.1:0", "--data-dir", t.TempDir())
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()} // no DATABASE_URL of somebody's
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	url, drained := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(drained)
		defer close(url)
		read(out, url)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-drained
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ends with %v", err)
		}
	})
	at := <-url
	if at == "" {
		t.Fatal("the server does not say where it serves")
	}
	return at
}

// read reads a log to its end, and sends the address in it.
func read(out io.Reader, url chan<- string) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if found := served.FindStringSubmatch(lines.Text()); found != nil {
			select {
			case url <- found[1]:
			default: // said before
			}
		}
	}
}

func shell(t *testing.T, commands string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", commands)
	cmd.Dir = top
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

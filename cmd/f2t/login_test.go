package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

func TestLogin(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	s.register("ada")
	me := shellAt(t, s.url)
	me.run("users", "sessions").fails(t, exitNoSession, "nobody is logged in", "login NAME")
	me.runWith("wrong\n", "login", "ada", "--password-stdin").fails(t, exitNoSession, "BAD_CREDENTIALS", s.url)
	me.run("login", "ada").fails(t, exitUsage, "--password-stdin")
	me.run("login").fails(t, exitUsage, "f2t login NAME")
	r := me.runWith(password+"\n", "login", "ada", "--password-stdin")
	says(t, r.ok(t), "logged in to "+s.url+" as ada")
	says(t, r.log, "no administrator", "free2talk user promote ada")
	private(t, filepath.Join(me.dir, "default.json"))
	says(t, me.run("users", "sessions").ok(t), "f2t", "127.0.0.1", "*")
	says(t, me.run("profiles").ok(t), "default *", "ada", "logged in")
	says(t, me.run("logout").ok(t), "logged out")
	if _, err := os.Stat(filepath.Join(me.dir, "default.json")); !os.IsNotExist(err) {
		t.Errorf("the profile is still there: %v", err)
	}
	says(t, me.run("logout").ok(t), "nobody was logged in")
}

// private says that nobody else can read a file.
func private(t *testing.T, path string) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %v", path, info.Mode())
	}
}

// A second log-in takes the place of the first, whose session ends.
func TestLoginAgain(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	c := s.register("ada")
	me := shellAt(t, s.url)
	for range 3 {
		me.login("ada")
	}
	reply, err := c.Auth.ListSessions(context.Background(), &free2talkv1.ListSessionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if n := len(reply.GetSessions()); n != 2 { // the registration's, and the last log-in's
		t.Errorf("%d sessions", n)
	}
}

func TestProfiles(t *testing.T) {
	t.Parallel()
	one, other := embedded(t), embedded(t)
	one.register("ada")
	other.register("bob")
	me := shellAt(t, one.url)
	me.login("ada")
	me.server = other.url
	me.run("users", "sessions").fails(t, exitNoSession, "default", one.url, other.url) // no session is shown to another server
	me.runWith(password+"\n", "--profile=live", "login", "bob", "--password-stdin").ok(t)
	me.server = "" // the profile's
	says(t, me.run("--profile=live", "profiles").ok(t), "live *", "bob", other.url, "default", "ada", one.url)
	me.run("--profile=live", "users", "sessions").ok(t)
	me.run("users", "sessions").ok(t)
	me.run("--profile=../etc", "users", "sessions").fails(t, exitUsage, "no name for a profile")
	if got := parsed[[]map[string]any](t, me.run("profiles", "-o", "json").ok(t)); len(got) != 2 || got[0]["username"] != "ada" {
		t.Errorf("%v", got)
	}
	if err := os.WriteFile(filepath.Join(me.dir, "default.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	me.run("users", "sessions").fails(t, exitFailed, "damaged", "default.json")
}

// expire has the profile's access token be over.
func (s *shell) expire() {
	s.t.Helper()
	file := &profileFile{path: filepath.Join(s.dir, "default.json")}
	p, err := file.read()
	if err != nil {
		s.t.Fatal(err)
	}
	p.Tokens.AccessExpiresAt = time.Now().Add(-time.Minute)
	if err := file.write(p); err != nil {
		s.t.Fatal(err)
	}
}

func (s *shell) tokens() client.Tokens {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "default.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	var p profile
	if err := json.Unmarshal(text, &p); err != nil {
		s.t.Fatal(err)
	}
	return p.Tokens
}

// An access token that ran out is refreshed, unseen; of many commands at once
// by one of them.
func TestTokensAreRefreshedUnseen(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	s.register("ada")
	me := shellAt(t, s.url)
	me.login("ada")
	before := me.tokens()
	me.expire()
	if r := me.run("users", "sessions"); r.code != exitDone || r.log != "" {
		t.Fatalf("exit %d: %s", r.code, r.log)
	}
	if after := me.tokens(); after.Refresh == before.Refresh || after.SessionID != before.SessionID || time.Until(after.AccessExpiresAt) < time.Minute {
		t.Errorf("not refreshed: %v", after)
	}
	private(t, filepath.Join(me.dir, "default.json"))
	me.expire()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if r := me.run("users", "sessions"); r.code != exitDone || r.log != "" {
				t.Errorf("exit %d: %s", r.code, r.log)
			}
		})
	}
	all.Wait()
	if n := s.calls("Refresh"); n != 2 {
		t.Errorf("%d refreshes in all, want 2", n)
	}
}

// A session that was ended elsewhere is said to be so, also the next time.
func TestSessionThatEnded(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	c := s.register("ada")
	me := shellAt(t, s.url)
	me.login("ada")
	if _, err := c.Auth.LogoutAll(context.Background(), &free2talkv1.LogoutAllRequest{}); err != nil {
		t.Fatal(err)
	}
	me.run("users", "sessions").fails(t, exitNoSession, "SESSION_REVOKED", "login ada")
	me.run("users", "sessions").fails(t, exitNoSession, "the session of ada has ended", "login ada")
	says(t, me.run("profiles").ok(t), "ended")
	if strings.Contains(me.run("profiles", "-o", "json").ok(t), "access") {
		t.Error("a list of profiles shows tokens")
	}
}

package main

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
)

// works says that a session lives, and that its tokens are changed for others;
// it returns those.
func (w *world) works(t *testing.T, what string, g talk.Grant) pair {
	t.Helper()
	for _, n := range w.nodes {
		if a := w.me(n, g.AccessToken); a.status != http.StatusOK {
			t.Errorf("%s: the access token: %d %s", what, a.status, a.body)
		}
	}
	next := w.renew(w.node(), g.RefreshToken).pair(t)
	for _, n := range w.nodes {
		// The access token may be another: the session may have been rotated long ago, by a
		// refresh that nobody heard the answer of.
		if again := w.renew(n, g.RefreshToken).pair(t); again.RefreshToken != next.RefreshToken {
			t.Errorf("%s: two successors", what)
		}
	}
	return next
}

// TestSessionsWithoutRedis takes Redis away in all ways.
func TestSessionsWithoutRedis(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t)
	redis := askOf(t, server)
	w := newWorld(t, onOwnRedis(server), 3)
	w.registered(w.nodes[0], "ada")
	for _, outage := range []struct {
		name        string
		begin, over func()
	}{
		{"SIGSTOP", server.Stop, server.Cont},
		{"kill", server.Kill, server.Restart},
		{"FLUSHALL", func() {
			if err := redis.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}, func() {}},
	} {
		w.redisUsed()
		before := w.crowdOfSessions()
		outage.begin()
		t.Run("checklist_36_refresh_after_"+outage.name, func(t *testing.T) {
			next := w.works(t, outage.name, w.person().grant)
			w.renew(w.node(), next.RefreshToken).pair(t)
			w.knock(w.node(), "ada", password).pair(t)
			w.works(t, outage.name, before[0].grant)
		})
		t.Run("S4_revoked_within_five_seconds_of_"+outage.name, func(t *testing.T) {
			p := before[1]
			testenv.Record(t, testenv.Figure{Row: "S4", What: "late", Of: 1, Each: "revocations, Redis away in each way"})
			if a := w.speak(w.nodes[0], "AuthService/Logout", `{}`, "Authorization", "Bearer "+p.grant.AccessToken); a.status != http.StatusOK {
				t.Fatal(a.body)
			}
			w.renew(w.nodes[1], p.grant.RefreshToken).refusedAs(t, "at once", "unauthenticated", "SESSION_REVOKED")
			w.revokedBy(5*time.Second, p.grant.AccessToken)
		})
		outage.over()
		t.Run("S5_nobody_is_logged_out_by_"+outage.name, func(t *testing.T) {
			testenv.Record(t, testenv.Figure{Row: "S5", What: "lost by " + outage.name, Of: int64(len(before) - 2), Each: "sessions"})
			for _, p := range before[2:] {
				w.works(t, outage.name, p.grant)
			}
		})
	}
}

// crowdOfSessions are people who are signed in, and were seen.
func (w *world) crowdOfSessions() []*person {
	w.Helper()
	people := make([]*person, testenv.Effort(20, 3000))
	for i := range people {
		people[i] = w.person()
		if a := w.me(w.node(), people[i].grant.AccessToken); a.status != http.StatusOK {
			w.Fatal(a.body)
		}
	}
	return people
}

// soon is a time-out that a client asks for, so that a test need not wait for
// the server's.
var soon = []string{"Connect-Timeout-Ms", "2500"}

// outage is a world whose database goes away, and people from before.
type outage struct {
	*world
	server *testenv.PostgresServer
	people []*person
}

// TestSessionsWithoutTheDatabase takes Postgres away: a client must hear that
// it is to come back, and never that its session is over.
func TestSessionsWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t)
	w := newWorld(t, backend{"own postgres", 2, func(t testing.TB, s *Settings) {
		s.DatabaseURL = server.URL()
		s.RedisURL, s.RedisPrefix = testenv.Redis(t)
	}}, 2)
	w.registered(w.nodes[0], "ada")
	o := &outage{w, server, []*person{w.person(), w.person(), w.person()}}
	t.Run("checklist_37_killed", o.killed)
	t.Run("checklist_37_frozen", o.frozen)
	t.Run("checklist_37_what_was_revoked_before_stays_so", o.remembered)
}

// killed is a database that refuses connections.
func (o *outage) killed(t *testing.T) {
	o.server.Kill()
	for _, n := range o.nodes {
		a := o.renew(n, o.people[0].grant.RefreshToken)
		a.refusedAs(t, "refresh", "unavailable", "DATABASE_UNAVAILABLE")
		a.saysWhen(t, "refresh")
		o.knock(n, "ada", password).refusedAs(t, "login", "unavailable", "DATABASE_UNAVAILABLE")
		o.awaitAnswer(t, n, o.people[0].grant.AccessToken)
	}
	o.server.Restart()
	o.back(t, o.people[0].grant)
}

// frozen is a database that says nothing.
func (o *outage) frozen(t *testing.T) {
	o.server.Stop()
	for _, n := range o.nodes {
		a := o.speak(n, "AuthService/Refresh", spelled(object{"refreshToken": o.people[1].grant.RefreshToken}), soon...)
		if code, _ := a.failure(); code != "unavailable" && code != "deadline_exceeded" {
			t.Errorf("refresh: %d %s", a.status, a.body)
		}
		o.awaitAnswer(t, n, o.people[1].grant.AccessToken)
	}
	o.server.Cont()
	o.back(t, o.people[1].grant)
}

// remembered is what was revoked before the database went away.
func (o *outage) remembered(t *testing.T) {
	o.logout(o.people[2].ID, o.people[2].grant.SessionID)
	o.revokedBy(time.Second, o.people[2].grant.AccessToken)
	o.server.Kill()
	for _, n := range o.nodes {
		o.me(n, o.people[2].grant.AccessToken).refusedAs(t, "the access token", "unauthenticated", "SESSION_REVOKED")
		o.renew(n, o.people[2].grant.RefreshToken).refusedAs(t, "the refresh token", "unavailable", "DATABASE_UNAVAILABLE")
	}
	o.server.Restart()
	o.back(t, o.people[0].grant)
}

// awaitAnswer waits until a node does not know any more what was revoked: from
// then on it says so of every access token, also of a good one.
func (w *world) awaitAnswer(t *testing.T, n *testNode, token string) {
	t.Helper()
	w.eventually(20*time.Second, "what was revoked is not known any more", func() bool { return !n.revoked.Fresh() })
	reads := n.revoked.Reads()
	a := w.speak(n, "AuthService/GetMe", `{}`, append([]string{"Authorization", "Bearer " + token}, soon...)...)
	a.refusedAs(t, "the access token", "unavailable", "DATABASE_UNAVAILABLE")
	a.saysWhen(t, "the access token")
	if n.revoked.Reads() == reads {
		t.Error("it was decided without asking")
	}
	if status, body := w.get(n, "/readyz"); status != http.StatusServiceUnavailable || strings.Contains(body, "postgres://") {
		t.Errorf("ready: %d %s", status, body)
	}
}

// back waits until all nodes work again: with the tokens from before.
func (w *world) back(t *testing.T, g talk.Grant) {
	t.Helper()
	for _, n := range w.nodes {
		w.eventually(20*time.Second, "the database is back", n.revoked.Fresh)
	}
	w.works(t, "back", g)
}

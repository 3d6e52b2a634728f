package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/free2talk/free2talk/client"
	"github.com/free2talk/free2talk/server/talk"
	"github.com/free2talk/free2talk/server/talk/talktest"
)

// pair is the tokens of an answer in JSON.
type pair struct {
	AccessToken, RefreshToken, SessionID string
	AccessExpiresAt, RefreshExpiresAt    time.Time
}

// pair reads the tokens of an answer.
func (s spoken) pair(t testing.TB) pair {
	t.Helper()
	var reply struct{ Tokens pair }
	if err := json.Unmarshal([]byte(s.body), &reply); err != nil || s.status != http.StatusOK || reply.Tokens.AccessToken == "" {
		t.Fatalf("no tokens: %d %.300s", s.status, s.body)
	}
	return reply.Tokens
}

// renew shows a refresh token.
func (w *world) renew(n *testNode, token string) spoken {
	w.Helper()
	return w.speak(n, "AuthService/Refresh", spelled(object{"refreshToken": token}))
}

// me shows an access token.
func (w *world) me(n *testNode, token string) spoken {
	w.Helper()
	return w.speak(n, "AuthService/GetMe", `{}`, "Authorization", "Bearer "+token)
}

// dead says that within a second no node takes any of these access tokens, and
// none ever again these refresh tokens.
func (w *world) dead(t testing.TB, access, refresh []string) {
	t.Helper()
	began := time.Now()
	for _, n := range w.nodes {
		for _, token := range access {
			w.eventually(time.Second-time.Since(began), "every node refuses the access token", func() bool {
				_, reason := w.me(n, token).failure()
				return reason == client.ReasonSessionRevoked
			})
		}
		for _, token := range refresh {
			if _, reason := w.renew(n, token).failure(); reason != client.ReasonSessionRevoked {
				t.Errorf("a refresh token of the dead session: %q", reason)
			}
		}
	}
}

// refreshMACAt is where the MAC of a refresh token begins.
const refreshMACAt = 1 + 8 + 16 + 8

// malformed are texts that are like a refresh token, and none.
func malformed(t testing.TB, right string) map[string]string {
	t.Helper()
	raw, err := base64.RawURLEncoding.DecodeString(right)
	if err != nil {
		t.Fatal(err)
	}
	change := func(at int, to byte) string {
		b := append([]byte(nil), raw...)
		b[at] ^= to
		return base64.RawURLEncoding.EncodeToString(b)
	}
	return map[string]string{
		"empty": "", "no base64": strings.Repeat("!", len(right)), "one short": right[1:], "one byte": right[:2],
		"too long": right + right, "padded": right + "=", "trailing bytes": right + "AAAA", "512 bytes": strings.Repeat("A", 512),
		"another version": change(0, 2), "version 0": change(0, 1), "another key": change(1, 1),
		"another session": change(20, 1), "another generation": change(refreshMACAt-1, 3),
		"another MAC": change(len(raw)-1, 1), "standard base64": base64.RawStdEncoding.EncodeToString(raw[:len(raw)-3]) + "++//",
		"an access token": "eyJhbGciOiJFZERTQSJ9.e30." + strings.Repeat("A", 86),
	}
}

// TestRefreshForged counts the queries of forged refresh tokens: there are none.
func TestRefreshForged(t *testing.T) {
	asked := &queries{}
	w := newWorld(t, onEmbedded, 1, plainKeys, watchedBy(asked))
	p := w.person()
	n := w.nodes[0]
	t.Run("checklist_26_malformed", func(t *testing.T) {
		for name, token := range malformed(t, p.grant.RefreshToken) {
			w.renew(n, token).refusedAs(t, name, "unauthenticated", "REFRESH_INVALID")
		}
		if got := asked.take(); len(got) > 0 {
			t.Errorf("queries: %q", got)
		}
	})
	t.Run("checklist_27_a_wrong_MAC_ends_nothing_and_is_counted", func(t *testing.T) {
		before := n.accounts.Tokens.Stats().RefreshRefused
		raw, _ := base64.RawURLEncoding.DecodeString(p.grant.RefreshToken)
		for i := refreshMACAt; i < len(raw); i++ {
			raw[i] ^= 1
			forged := base64.RawURLEncoding.EncodeToString(raw)
			raw[i] ^= 1
			w.renew(n, forged).refusedAs(t, "a wrong MAC", "unauthenticated", "REFRESH_INVALID")
		}
		if got := n.accounts.Tokens.Stats().RefreshRefused - before; got != int64(len(raw)-refreshMACAt) {
			t.Errorf("%d counted", got)
		}
		if got := asked.take(); len(got) > 0 {
			t.Errorf("queries: %q", got)
		}
		if a := w.me(n, p.grant.AccessToken); a.status != http.StatusOK {
			t.Errorf("the session was ended from afar: %s", a.body)
		}
		w.renew(n, p.grant.RefreshToken).pair(t)
	})
}

// TestRefreshFromTheFuture has a token that the database knows nothing of yet.
func TestRefreshFromTheFuture(t *testing.T) {
	log := &logbook{}
	w := newWorld(t, onEmbedded, 0)
	n := w.startLogging(log)
	p := w.person()
	t.Run("checklist_28_a_generation_ahead_is_refused_with_an_alarm", func(t *testing.T) {
		session, err := n.store.Session(t.Context(), p.grant.SessionID)
		if err != nil {
			t.Fatal(err)
		}
		for ahead := int64(1); ahead <= 3; ahead++ {
			token, err := n.accounts.Tokens.Refresh(session.ID, session.Generation+ahead, session.RotatedAt)
			if err != nil {
				t.Fatal(err)
			}
			w.renew(n, token).refusedAs(t, "ahead", "unauthenticated", "REFRESH_INVALID")
		}
		events := log.events("authn_token_from_the_future")
		if len(events) != 3 || events[0]["level"] != "WARN" || events[0]["session"] != string(session.ID) || events[0]["user"] != p.id() {
			t.Errorf("events %v", events)
		}
		w.renew(n, p.grant.RefreshToken).pair(t)
	})
}

// reuse is a world in which a token was changed for its successor.
type reuse struct {
	*world
	t     *testing.T
	clock *talktest.Clock
	p     *person
	next  pair
}

// reused opens a session and changes its token, on two nodes that go by one
// clock that stands still.
func reused(t *testing.T) *reuse {
	clock := talktest.NewClock()
	r := &reuse{world: newWorld(t, onPostgres, 2, withClock(clock.Now)), t: t, clock: clock}
	r.p = r.person()
	clock.Add(time.Minute)
	r.next = r.renew(r.nodes[0], r.p.grant.RefreshToken).pair(t)
	if r.next.RefreshToken == r.p.grant.RefreshToken || r.next.SessionID != string(r.p.grant.SessionID) {
		t.Fatal("not rotated")
	}
	return r
}

// again shows the old token once more, to every node.
func (r *reuse) again() []pair {
	r.t.Helper()
	var pairs []pair
	for _, n := range r.nodes {
		pairs = append(pairs, r.renew(n, r.p.grant.RefreshToken).pair(r.t))
	}
	return pairs
}

func TestRefreshAgain(t *testing.T) {
	t.Parallel()
	t.Run("checklist_30_at_9_s_the_same_tokens", func(t *testing.T) { reused(t).at9Seconds(t) })
	t.Run("checklist_30_at_11_s_an_unused_successor_again", func(t *testing.T) { reused(t).unused(t) })
	t.Run("checklist_30_at_11_s_a_used_successor_ends_the_session", func(t *testing.T) { reused(t).used(t) })
	t.Run("checklist_30_S3_also_where_another_node_saw_it", func(t *testing.T) { reused(t).usedElsewhere(t) })
	t.Run("checklist_31_two_generations_back_at_once", func(t *testing.T) { reused(t).twoBack(t) })
}

// at9Seconds is within the grace.
func (r *reuse) at9Seconds(t *testing.T) {
	if a := r.me(r.nodes[0], r.next.AccessToken); a.status != http.StatusOK { // used, which changes nothing yet
		t.Fatal(a.body)
	}
	r.clock.Add(9 * time.Second)
	for _, again := range r.again() {
		if again != r.next {
			t.Errorf("%+v, want %+v", again, r.next)
		}
	}
}

// unused has the first answer lost.
func (r *reuse) unused(t *testing.T) {
	r.clock.Add(11 * time.Second)
	until := r.clock.Now().Add(talk.AccessLifetime)
	all := r.again()
	for _, again := range all {
		if again.RefreshToken != r.next.RefreshToken || !again.RefreshExpiresAt.Equal(r.next.RefreshExpiresAt) || !again.AccessExpiresAt.Equal(until) {
			t.Errorf("%+v, want %+v until %v", again, r.next, until)
		}
	}
	if a := r.me(r.nodes[1], all[0].AccessToken); a.status != http.StatusOK {
		t.Errorf("the access token: %s", a.body)
	}
}

// used has two people hold the token.
func (r *reuse) used(t *testing.T) {
	r.clock.Add(11 * time.Second)
	if a := r.me(r.nodes[0], r.next.AccessToken); a.status != http.StatusOK {
		t.Fatal(a.body)
	}
	r.renew(r.nodes[0], r.p.grant.RefreshToken).refusedAs(t, "reused", "unauthenticated", "REFRESH_REUSED")
	r.dead(t, []string{r.p.grant.AccessToken, r.next.AccessToken}, []string{r.p.grant.RefreshToken, r.next.RefreshToken})
}

// usedElsewhere has the successor seen by another node than the old token.
func (r *reuse) usedElsewhere(t *testing.T) {
	r.clock.Add(11 * time.Second)
	r.me(r.nodes[0], r.next.AccessToken)
	r.eventually(2*time.Second, "the use is written down", func() bool {
		session, err := r.nodes[1].store.Session(t.Context(), r.p.grant.SessionID)
		return err == nil && session.ConfirmedGeneration == 2
	})
	r.renew(r.nodes[1], r.p.grant.RefreshToken).refusedAs(t, "reused", "unauthenticated", "REFRESH_REUSED")
	r.dead(t, []string{r.p.grant.AccessToken, r.next.AccessToken}, []string{r.next.RefreshToken})
}

// twoBack needs no waiting.
func (r *reuse) twoBack(t *testing.T) {
	third := r.renew(r.nodes[1], r.next.RefreshToken).pair(t)
	r.clock.Add(time.Second)
	r.renew(r.nodes[0], r.p.grant.RefreshToken).refusedAs(t, "N-2", "unauthenticated", "REFRESH_REUSED")
	r.dead(t, []string{r.p.grant.AccessToken, r.next.AccessToken, third.AccessToken}, []string{r.next.RefreshToken, third.RefreshToken})
}

// lifetimes is a world in which weeks pass.
type lifetimes struct {
	*world
	clock *talktest.Clock
}

const days = 24 * time.Hour

func TestRefreshLifetimes(t *testing.T) {
	clock := talktest.NewClock()
	l := &lifetimes{newWorld(t, onPostgres, 2, withClock(clock.Now)), clock}
	t.Run("checklist_34_rotation_extends_the_idle_lifetime_and_never_the_absolute_one", l.absolute)
	t.Run("checklist_34_a_week_without_use_ends_it", l.idle)
	t.Run("checklist_23_an_older_access_token_outlives_a_rotation_while_its_session_lives", l.rotated)
}

// absolute is ninety days, whatever happens.
func (l *lifetimes) absolute(t *testing.T) {
	began := l.clock.Now()
	token := l.person().grant.RefreshToken
	for l.clock.Now().Before(began.Add(84 * days)) {
		now := l.clock.Add(6 * days)
		next := l.renew(l.node(), token).pair(t)
		want := now.Add(talk.SessionIdle)
		if last := began.Add(talk.SessionAbsolute); want.After(last) {
			want = last
		}
		if !next.RefreshExpiresAt.Equal(want) {
			t.Fatalf("after %v until %v, want %v", now.Sub(began), next.RefreshExpiresAt, want)
		}
		token = next.RefreshToken
	}
	l.clock.Set(began.Add(talk.SessionAbsolute - time.Second))
	token = l.renew(l.node(), token).pair(t).RefreshToken
	l.clock.Set(began.Add(talk.SessionAbsolute))
	l.renew(l.node(), token).refusedAs(t, "after ninety days", "unauthenticated", "SESSION_REVOKED")
}

// idle is a week.
func (l *lifetimes) idle(t *testing.T) {
	p := l.person()
	l.clock.Add(talk.SessionIdle - time.Second)
	token := l.renew(l.node(), p.grant.RefreshToken).pair(t).RefreshToken
	l.clock.Add(talk.SessionIdle)
	l.renew(l.node(), token).refusedAs(t, "after a week", "unauthenticated", "SESSION_REVOKED")
}

// rotated has somebody go on with the access token from before.
func (l *lifetimes) rotated(t *testing.T) {
	p := l.person()
	l.clock.Add(time.Minute)
	next := l.renew(l.nodes[0], p.grant.RefreshToken).pair(t)
	for _, token := range []string{p.grant.AccessToken, next.AccessToken, p.grant.AccessToken} {
		if a := l.me(l.node(), token); a.status != http.StatusOK {
			t.Errorf("while the session lives: %s", a.body)
		}
	}
	l.logout(p.ID, p.grant.SessionID)
	l.dead(t, []string{p.grant.AccessToken, next.AccessToken}, []string{next.RefreshToken})
}

// logout ends a session by the account's own wish, at the first node.
func (w *world) logout(user talk.UserID, session talk.SessionID) {
	w.Helper()
	err := w.nodes[0].accounts.RevokeSession(w.Context(), talk.Caller{UserID: user, SessionID: session}, session)
	if err != nil {
		w.Fatal(err)
	}
}

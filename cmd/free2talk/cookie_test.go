package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/free2talk/free2talk/server/talk/talktest"
)

// theCookie is where a browser keeps its refresh token.
const theCookie = "__Host-f2t_refresh"

// browser is somebody in cookie mode.
type browser struct {
	*world
	t      *testing.T
	cookie string
}

// browse opens an account in a browser.
func (w *world) browse(t *testing.T, name string) *browser {
	t.Helper()
	a := w.speak(w.nodes[0], "AuthService/Register", spelled(object{
		"email": name + "@example.org", "username": name, "password": password, "cookie": true,
	}), "Sec-Fetch-Site", "same-origin")
	b := &browser{world: w, t: t}
	b.keep(a)
	return b
}

// keep takes the cookie of an answer, and says that it is as it must be.
func (b *browser) keep(a spoken) {
	b.t.Helper()
	if a.status != http.StatusOK || len(a.cookies) != 1 {
		b.t.Fatalf("%d %s, cookies %v", a.status, a.body, a.cookies)
	}
	c := a.cookies[0]
	if c.Raw != theCookie+"="+c.Value+"; Path=/; Max-Age=604800; HttpOnly; Secure; SameSite=Strict" || c.Value == "" {
		b.t.Errorf("the cookie: %q", c.Raw)
	}
	if a.pair(b.t).RefreshToken != "" || strings.Contains(a.body, c.Value) {
		b.t.Errorf("the body has the refresh token: %s", a.body)
	}
	b.cookie = c.Value
}

// call is one of the page's own, unless headers say otherwise.
func (b *browser) call(n *testNode, method string, headers ...string) spoken {
	b.t.Helper()
	return b.speak(n, method, `{}`, append([]string{"Cookie", theCookie + "=" + b.cookie}, headers...)...)
}

func TestCookie(t *testing.T) {
	w := newWorld(t, onPostgres, 2, withClock(talktest.NewClock().Now), func(s *Settings) { s.AllowedOrigins = []string{"https://app.example"} })
	t.Run("checklist_39_flags_and_no_token_in_a_body", func(t *testing.T) {
		b := w.browse(t, "ada")
		before := b.cookie
		b.keep(b.call(w.nodes[1], "AuthService/Refresh", "Sec-Fetch-Site", "same-origin"))
		if b.cookie == before {
			t.Error("not rotated")
		}
	})
	t.Run("checklist_40_another_site_rotates_nothing", w.crossSite)
	t.Run("checklist_41_42_other_methods_and_content_types_rotate_nothing", w.oddCalls)
	t.Run("checklist_44_who_loses_a_race_keeps_the_cookie", w.lostRace)
}

// crossSite calls as pages of other sites would.
func (w *world) crossSite(t *testing.T) {
	b := w.browse(t, "bob")
	for _, from := range [][]string{{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"}} {
		for _, method := range []string{"AuthService/Refresh", "AuthService/Logout"} {
			a := b.call(w.node(), method, from...)
			a.refusedAs(t, method, "permission_denied", "CROSS_SITE")
			if a.status != http.StatusForbidden || len(a.cookies) != 0 {
				t.Errorf("%d, cookies %v", a.status, a.cookies)
			}
		}
	}
	b.stillFirst()
	b.keep(b.call(w.nodes[0], "AuthService/Refresh", "Origin", "https://app.example", "Sec-Fetch-Site", "cross-site"))
}

// oddCalls are what forms and links could send.
func (w *world) oddCalls(t *testing.T) {
	b := w.browse(t, "carol")
	for _, kind := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"} {
		if status := b.odd(http.MethodPost, "Refresh", kind); status != http.StatusUnsupportedMediaType {
			t.Errorf("%q: %d", kind, status)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		for _, rpc := range []string{"Refresh", "Logout"} {
			if status := b.odd(method, rpc, ""); status != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, rpc, status)
			}
		}
	}
	b.stillFirst()
}

// lostRace refreshes from many tabs at once.
func (w *world) lostRace(t *testing.T) {
	b := w.browse(t, "dan")
	answers := together(16, func(i int) spoken { return b.call(w.at(i), "AuthService/Refresh", "Sec-Fetch-Site", "same-origin") })
	for _, a := range answers {
		b.keep(a)
		if b.cookie != answers[0].cookies[0].Value {
			t.Error("two successors")
		}
	}
	ended := b.call(w.nodes[0], "AuthService/Logout", "Sec-Fetch-Site", "same-origin")
	if ended.status != http.StatusOK || len(ended.cookies) != 1 || ended.cookies[0].MaxAge >= 0 {
		t.Errorf("logout: %d %s %v", ended.status, ended.body, ended.cookies)
	}
	lost := b.call(w.nodes[1], "AuthService/Refresh", "Sec-Fetch-Site", "same-origin")
	lost.refusedAs(t, "after the logout", "unauthenticated", "SESSION_REVOKED")
	if len(lost.cookies) != 0 {
		t.Errorf("cookies %v", lost.cookies)
	}
}

// odd calls with a method and a content type of one's own, and the cookie.
func (b *browser) odd(method, rpc, contentType string) int {
	b.t.Helper()
	body := `{}`
	if method != http.MethodPost {
		body = ""
	}
	req, err := http.NewRequestWithContext(b.t.Context(), method, b.nodes[0].url+"/free2talk.v1.AuthService/"+rpc, strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Cookie", theCookie+"="+b.cookie)
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	reply, err := b.http.Do(req)
	if err != nil {
		b.t.Fatal(err)
	}
	defer reply.Body.Close()
	if len(reply.Cookies()) != 0 {
		b.t.Errorf("%s %s sets %v", method, rpc, reply.Cookies())
	}
	return reply.StatusCode
}

// stillFirst says that the session was not rotated by anybody.
func (b *browser) stillFirst() {
	b.t.Helper()
	id, generation, err := b.nodes[0].accounts.Tokens.ParseRefresh(b.cookie)
	if err != nil {
		b.t.Fatal(err)
	}
	session, err := b.nodes[0].store.Session(b.t.Context(), id)
	if err != nil || session.Generation != generation || !session.RevokedAt.IsZero() {
		b.t.Errorf("the cookie has generation %d; %+v, %v", generation, session, err)
	}
}

package server

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/free2talk/free2talk/server/talk"
)

func newReader(s string) io.Reader { return strings.NewReader(s) }

// TestCORS43 is checklist 43.
func TestCORS43(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(c *Config) { c.AllowedOrigins = []string{"https://free2talk.app", "http://localhost:5173"} })
	room := `{"id": "` + aRoomID + `"}`
	for origin, allowed := range map[string]bool{
		"https://free2talk.app": true, "http://localhost:5173": true,
		"null": false, "https://evil.example": false, "https://evilfree2talk.app": false, "https://free2talk.app.evil.example": false,
		"http://free2talk.app": false, "https://free2talk.app:8443": false, "https://FREE2TALK.app": false, "https://a.free2talk.app": false,
	} {
		asked := e.do(http.MethodOptions, getRoomPath, nil, "Origin: "+origin,
			"Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,connect-protocol-version,content-type")
		called := e.post(getRoomPath, room, "Origin: "+origin)
		if asked.status != http.StatusNoContent || called.status != http.StatusOK {
			t.Errorf("%s: %d, %d", origin, asked.status, called.status)
		}
		want, credentials := "", ""
		if allowed {
			want, credentials = origin, "true"
		}
		for name, got := range map[string]http.Header{"preflight": asked.header, "call": called.header} {
			if got.Get("Access-Control-Allow-Origin") != want || got.Get("Access-Control-Allow-Credentials") != credentials {
				t.Errorf("%s, %s: %v", origin, name, got)
			}
			if !strings.Contains(strings.Join(got.Values("Vary"), ","), "Origin") {
				t.Errorf("%s, %s: Vary %q", origin, name, got.Values("Vary"))
			}
		}
		if (asked.header.Get("Access-Control-Allow-Headers") != "") != allowed || (asked.header.Get("Access-Control-Allow-Methods") != "") != allowed {
			t.Errorf("%s: preflight allows %v", origin, asked.header)
		}
		exposed := strings.ToLower(called.header.Get("Access-Control-Expose-Headers"))
		for _, name := range []string{"ratelimit", "ratelimit-policy", "retry-after", "x-request-id"} {
			if allowed && !strings.Contains(exposed, name) {
				t.Errorf("%s is not exposed: %s", name, exposed)
			}
		}
	}
}

func TestCORS43ForEverybody(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(c *Config) { c.AllowedOrigins = []string{"*"} })
	got := e.post(getRoomPath, `{}`, "Origin: https://anybody.example")
	if got.header.Get("Access-Control-Allow-Origin") != "*" || got.header.Get("Access-Control-Allow-Credentials") != "" {
		t.Errorf("got %v", got.header)
	}
	for _, origin := range []string{"free2talk.app", "ftp://x", "https://x/path", ":"} {
		if _, err := newServer(Config{Identify: &fakeIdentifier{}, AllowedOrigins: []string{origin}}, (&fakeHandlers{}).register); err == nil {
			t.Errorf("%q was taken for an origin", origin)
		}
	}
}

// TestCrossSite40 is checklist 40.
func TestCrossSite40(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(c *Config) { c.AllowedOrigins = []string{"https://free2talk.app"} })
	cookie := "Cookie: " + refreshCookie + "=token"
	for _, c := range []struct {
		name    string
		headers []string
		refused bool
	}{
		{"curl", []string{cookie}, false},
		{"the same origin", []string{cookie, "Sec-Fetch-Site: same-origin", "Origin: " + e.url}, false},
		{"a configured origin", []string{cookie, "Sec-Fetch-Site: cross-site", "Origin: https://free2talk.app"}, false},
		{"another site", []string{cookie, "Sec-Fetch-Site: cross-site", "Origin: https://evil.example"}, true},
		{"another site of the same owner", []string{cookie, "Sec-Fetch-Site: same-site", "Origin: https://evil.free2talk.app"}, true},
		{"an old browser", []string{cookie, "Origin: https://evil.example"}, true},
		{"a sandbox", []string{cookie, "Origin: null"}, true},
		{"another site without the cookie", []string{"Sec-Fetch-Site: cross-site", "Origin: https://evil.example"}, false},
	} {
		before := e.fake.calls()
		got := e.post(refreshPath, `{}`, c.headers...)
		if c.refused {
			got.expect(t, "permission_denied", "CROSS_SITE")
		}
		if refused := got.status == http.StatusForbidden; refused != c.refused || (e.fake.calls() > before) == refused {
			t.Errorf("%s: %d %s", c.name, got.status, got.body)
		}
	}
}

func TestRequestReachesTheHandler(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	e.fake.set(func(ctx context.Context, _ string) error {
		caller, ok := callerFrom(ctx)
		device := deviceFrom(ctx)
		if !ok || caller.UserID != "ada" || device != (talk.Device{UserAgent: "probe/1", IP: "127.0.0.1"}) || cookieFrom(ctx) != "token" || requestIDFrom(ctx) == "" {
			t.Errorf("got %v %v, %v, cookie %q, id %q", caller, ok, device, cookieFrom(ctx), requestIDFrom(ctx))
		}
		return nil
	})
	e.post(getMePath, `{}`, "Authorization: Bearer user-ada", "User-Agent: probe/1", "Cookie: "+refreshCookie+"=token")
	if e.fake.calls() != 1 {
		t.Error("it did not reach it")
	}
}

// TestContentTypes41 is checklist 41: what a form or an image can send from
// any site is no call.
func TestContentTypes41(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	for _, contentType := range []string{"", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/json"} {
		var headers []string
		if contentType != "" {
			headers = []string{"Content-Type: " + contentType}
		}
		if got := e.do(http.MethodPost, refreshPath, newReader(`{}`), headers...); got.status != http.StatusUnsupportedMediaType {
			t.Errorf("%q: %d", contentType, got.status)
		}
	}
	if e.fake.calls() != 0 {
		t.Error("a handler ran")
	}
}

// TestMethods42 is checklist 42.
func TestMethods42(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	query := "?encoding=json&message=" + url.QueryEscape(`{}`)
	for _, path := range []string{refreshPath, logoutPath, createRoomPath} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete} {
			if got := e.do(method, path+query, nil); got.status != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, path, got.status)
			}
		}
	}
	if e.fake.calls() != 0 {
		t.Error("a handler ran")
	}
	if got := e.do(http.MethodGet, listRoomsPath+query, nil); got.status != http.StatusOK {
		t.Errorf("GET of a reading RPC: %d %s", got.status, got.body)
	}
}

// TestHeaders45 is checklist 45.
func TestHeaders45(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(c *Config) { c.TrustedProxies = loopback() })
	query := "?encoding=json&message=" + url.QueryEscape(`{}`)
	for _, c := range []struct {
		name    string
		got     answer
		noStore bool
	}{
		{"a call", e.post(getRoomPath, `{}`), false},
		{"a read", e.do(http.MethodGet, listRoomsPath+query, nil), false},
		{"a read by somebody", e.do(http.MethodGet, listRoomsPath+query, nil, "Authorization: Bearer user-ada"), true},
		{"a private read", e.do(http.MethodGet, getMePath+query, nil, "Authorization: Bearer user-ada"), true},
		{"a login", e.post(loginPath, `{}`), true},
		{"a change", e.post(createRoomPath, `{}`), true},
		{"too large", e.post(loginPath, strings.Repeat(" ", bodyMost+1)), true},
		{"no such method", e.post("/free2talk.v1.AuthService/Nope", `{}`), true},
		{"no such page", e.do(http.MethodGet, "/nope", nil), false},
		{"a wrong type", e.do(http.MethodPost, loginPath, newReader("x")), true},
		{"ready", e.do(http.MethodGet, "/readyz", nil), true},
		{"the first page", e.do(http.MethodGet, "/", nil), false},
	} {
		h := c.got.header
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" || len(h.Get("X-Request-Id")) != 32 || h.Get("Server") != "" {
			t.Errorf("%s: %v", c.name, h)
		}
		if (h.Get("Cache-Control") == "no-store") != c.noStore {
			t.Errorf("%s: Cache-Control %q", c.name, h.Get("Cache-Control"))
		}
		if h.Get("Strict-Transport-Security") != "" {
			t.Errorf("%s: HSTS without TLS", c.name)
		}
	}
	if e.do(http.MethodGet, "/", nil, "X-Forwarded-Proto: https").header.Get("Strict-Transport-Security") == "" {
		t.Error("no HSTS behind TLS")
	}
	if got := e.do(http.MethodGet, "/", nil, "X-Request-Id: a-proxys-own"); got.header.Get("X-Request-Id") != "a-proxys-own" {
		t.Error("a trusted proxy's request id was not taken")
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(c *Config) { c.JWKS = func() ([]byte, error) { return []byte(`{"keys":[]}`), nil } })
	if got := e.do(http.MethodGet, "/", nil); got.status != http.StatusOK || !strings.Contains(got.body, "curl") {
		t.Errorf("/: %d %s", got.status, got.body)
	}
	if got := e.do(http.MethodGet, "/.well-known/jwks.json", nil); got.body != `{"keys":[]}` || got.header.Get("Content-Type") != "application/jwk-set+json" {
		t.Errorf("jwks: %v", got)
	}
	bare := newEdge(t, func(c *Config) { c.JWKS = func() ([]byte, error) { return nil, errCanary } })
	if got := bare.do(http.MethodGet, "/.well-known/jwks.json", nil); got.status != http.StatusInternalServerError || strings.Contains(got.body, canary) {
		t.Errorf("jwks, broken: %v", got)
	}
	none := newEdge(t, nil)
	if got := none.do(http.MethodGet, "/.well-known/jwks.json", nil); got.status != http.StatusNotFound {
		t.Errorf("jwks, none: %v", got)
	}
}

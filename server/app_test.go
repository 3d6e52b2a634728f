package server

import (
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/andybalholm/brotli"
)

const aPage = "<!doctype html><title>free2talk</title>"

// aScript is worth packing.
var aScript = strings.Repeat("export const greeting = 'hola';\n", 100)

// packedScript is it as the app's builder packs it.
func packedScript() []byte {
	var b bytes.Buffer
	w := brotli.NewWriter(&b)
	_, _ = io.WriteString(w, aScript)
	_ = w.Close()
	return b.Bytes()
}

func anApp() fs.FS {
	return fstest.MapFS{
		"index.html":             {Data: []byte(aPage)},
		"favicon.svg":            {Data: []byte("<svg/>")},
		"assets/main-abcd.js":    {Data: []byte(aScript)},
		"assets/main-abcd.js.br": {Data: packedScript()},
		"assets/more-abcd.js":    {Data: []byte(aScript)},
		"assets/font-abcd.woff2": {Data: []byte(strings.Repeat("x", 4000))},
	}
}

func newAppEdge(t *testing.T) *edge {
	t.Helper()
	return newEdge(t, func(c *Config) { c.App = anApp() })
}

const (
	asBrowser = "Accept: text/html,application/xhtml+xml,*/*;q=0.8"
	asCurl    = "Accept: */*"
)

func TestAppIsShownToBrowsers(t *testing.T) {
	t.Parallel()
	e := newAppEdge(t)
	for _, c := range []struct {
		name, method, path, accept string
		status                     int
		page                       bool
	}{
		{"the page", http.MethodGet, "/", asBrowser, http.StatusOK, true},
		{"its head", http.MethodHead, "/", asBrowser, http.StatusOK, false},
		{"by its name", http.MethodGet, "/index.html", asBrowser, http.StatusOK, true},
		{"a deep link", http.MethodGet, "/rooms/0199b1f0?from=lobby", asBrowser, http.StatusOK, true},
		{"a deep link of a script's", http.MethodGet, "/rooms/0199b1f0", asCurl, http.StatusNotFound, false},
		{"a file that is not there", http.MethodGet, "/assets/gone-abcd.js", asBrowser, http.StatusNotFound, false},
		{"a way out, which leads to a deep link", http.MethodGet, "/assets/../../secret", asBrowser, http.StatusOK, true},
		{"a form", http.MethodPost, "/rooms/0199b1f0", asBrowser, http.StatusNotFound, false},
		{"a call that there is not", http.MethodGet, "/free2talk.v1.RoomService/Nope", asBrowser, http.StatusNotFound, false},
		{"a service that there is not", http.MethodGet, "/free2talk.v9.Nope/Nope", asBrowser, http.StatusNotFound, false},
		{"the metrics, elsewhere", http.MethodGet, "/metrics", asBrowser, http.StatusNotFound, false},
		{"liveness", http.MethodGet, "/healthz", asBrowser, http.StatusOK, false},
		{"liveness, posted", http.MethodPost, "/healthz", asBrowser, http.StatusMethodNotAllowed, false},
	} {
		got := e.do(c.method, c.path, nil, c.accept)
		if page := got.body == aPage; got.status != c.status || page != c.page {
			t.Errorf("%s: %d %q", c.name, got.status, got.body)
		}
	}
	if got := e.do(http.MethodGet, "/", nil, asCurl); !strings.Contains(got.body, "curl") || !strings.Contains(strings.Join(got.header.Values("Vary"), ","), "Accept") {
		t.Errorf("curl is told %q, %v", got.body, got.header)
	}
}

func TestAppIsKeptByBrowsers(t *testing.T) {
	t.Parallel()
	e := newAppEdge(t)
	for path, want := range map[string]struct{ contentType, cache string }{
		"/":                       {"text/html; charset=utf-8", "no-cache"},
		"/rooms/1":                {"text/html; charset=utf-8", "no-cache"},
		"/favicon.svg":            {"image/svg+xml", "no-cache"},
		"/assets/main-abcd.js":    {"text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		"/assets/font-abcd.woff2": {"font/woff2", "public, max-age=31536000, immutable"},
	} {
		got := e.do(http.MethodGet, path, nil, asBrowser)
		if got.header.Get("Content-Type") != want.contentType || got.header.Get("Cache-Control") != want.cache {
			t.Errorf("%s: %v", path, got.header)
		}
		etag := got.header.Get("ETag")
		again := e.do(http.MethodGet, path, nil, asBrowser, "If-None-Match: "+etag)
		if etag == "" || again.status != http.StatusNotModified || again.body != "" {
			t.Errorf("%s, ETag %s: %d %q", path, etag, again.status, again.body)
		}
	}
}

func TestAppIsPacked(t *testing.T) {
	t.Parallel()
	e := newAppEdge(t)
	for _, c := range []struct{ path, accepts, coding string }{
		{"/assets/main-abcd.js", "gzip, deflate", "gzip"},
		{"/assets/main-abcd.js", "gzip, deflate, br, zstd", "br"},
		{"/assets/main-abcd.js", "br;q=0, GZIP ; q=0.5", "gzip"},
		{"/assets/main-abcd.js", "gzip;q=0, deflate", ""},
		{"/assets/main-abcd.js", "", ""},
		{"/assets/more-abcd.js", "gzip, br", "gzip"}, // nobody packed it
		{"/assets/font-abcd.woff2", "gzip, br", ""},
		{"/", "gzip, br", ""}, // it fits a packet
	} {
		got := e.do(http.MethodGet, c.path, nil, asBrowser, "Accept-Encoding: "+c.accepts)
		if got.header.Get("Content-Encoding") != c.coding || !strings.Contains(strings.Join(got.header.Values("Vary"), ","), "Accept-Encoding") {
			t.Errorf("%s for %q: %v", c.path, c.accepts, got.header)
		}
		if c.coding == "" {
			continue
		}
		if body, err := unpacked(c.coding, got.body); err != nil || body != aScript || len(got.body) > len(aScript)/4 {
			t.Errorf("%d bytes of %d by %s: %v", len(got.body), len(aScript), c.coding, err)
		}
		if plain := e.do(http.MethodGet, c.path, nil); plain.header.Get("ETag") == got.header.Get("ETag") {
			t.Error("two bodies have one ETag")
		}
	}
	if got := e.do(http.MethodGet, "/assets/main-abcd.js.br", nil, asBrowser); got.status != http.StatusNotFound {
		t.Errorf("what is packed has an address of its own: %d", got.status)
	}
}

func unpacked(coding, body string) (string, error) {
	r := io.Reader(strings.NewReader(body))
	if coding == "br" {
		r = brotli.NewReader(r)
	} else if zip, err := gzip.NewReader(r); err == nil {
		r = zip
	}
	plain, err := io.ReadAll(r)
	return string(plain), err
}

func TestAppIsWhole(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]fstest.MapFS{
		"no page":               {"favicon.svg": {Data: []byte("<svg/>")}},
		"a kind of no app":      {"index.html": {Data: []byte(aPage)}, "run.exe": {}},
		"packed, and of nobody": {"index.html": {Data: []byte(aPage)}, "assets/gone-abcd.js.br": {}},
	} {
		if _, err := newApp(files); err == nil {
			t.Errorf("%s: it is served", name)
		}
	}
}

func TestAppIsGuarded(t *testing.T) {
	t.Parallel()
	e := newAppEdge(t)
	for _, path := range []string{"/", "/rooms/1", "/favicon.svg"} {
		h := e.do(http.MethodGet, path, nil, asBrowser).header
		policy := h.Get("Content-Security-Policy")
		for _, rule := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
			if !strings.Contains(policy+";", rule+";") {
				t.Errorf("%s: %q lacks %s", path, policy, rule)
			}
		}
		for _, hole := range []string{"unsafe", "*", "data:", "http"} {
			if strings.Contains(policy, hole) {
				t.Errorf("%s: %q has %s", path, policy, hole)
			}
		}
		for name, want := range map[string]string{
			"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
		} {
			if h.Get(name) != want {
				t.Errorf("%s: %s is %q", path, name, h.Get(name))
			}
		}
		if !strings.HasPrefix(h.Get("Permissions-Policy"), "microphone=(self), camera=()") {
			t.Errorf("%s: %q", path, h.Get("Permissions-Policy"))
		}
	}
}

// The first rooms are asked for with the page of the lobby, and with no other.
func TestAppAsksForTheFirstRooms(t *testing.T) {
	t.Parallel()
	e := newAppEdge(t)
	for path, asks := range map[string]bool{"/": true, "/?level=beginner": false, "/rooms/1": false, "/login": false, "/favicon.svg": false} {
		link := e.do(http.MethodGet, path, nil, asBrowser).header.Get("Link")
		if (link != "") != asks {
			t.Errorf("%s: Link is %q", path, link)
		}
	}
	if link := e.do(http.MethodGet, "/", nil).header.Get("Link"); link != "" {
		t.Errorf("to who wants no page: %q", link)
	}
}

func TestAppMustBeWhole(t *testing.T) {
	t.Parallel()
	for name, files := range map[string]fs.FS{
		"no page":      fstest.MapFS{"assets/main.js": {}},
		"a stray file": fstest.MapFS{"index.html": {}, "notes.docx": {}},
	} {
		if _, err := newServer(Config{Identify: &fakeIdentifier{}, App: files}, (&fakeHandlers{}).register); err == nil || !strings.HasPrefix(err.Error(), "app: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTLS45 is the part of checklist 45 that needs TLS of our own.
func TestTLS45(t *testing.T) {
	t.Parallel()
	lent := httptest.NewTLSServer(http.NotFoundHandler()) // for its certificate
	certificates := lent.TLS.Certificates
	trusted := x509.NewCertPool()
	trusted.AddCert(lent.Certificate())
	lent.Close()

	e := newEdge(t, func(c *Config) {
		c.App, c.TLS = anApp(), &tls.Config{MinVersion: tls.VersionTLS12, Certificates: certificates}
	})
	for protocol, two := range map[string]bool{"HTTP/1.1": false, "HTTP/2.0": true} {
		protocols := new(http.Protocols)
		protocols.SetHTTP1(!two)
		protocols.SetHTTP2(two)
		transport := &http.Transport{
			Protocols: protocols, TLSClientConfig: &tls.Config{RootCAs: trusted, ServerName: "example.com", MinVersion: tls.VersionTLS12},
		}
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.Replace(e.url, "http:", "https:", 1)+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/html")
		res, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(res.Body)
		if err = errors.Join(err, res.Body.Close()); err != nil || string(body) != aPage || res.Proto != protocol {
			t.Errorf("%s, %q: %v", res.Proto, body, err)
		}
		if res.Header.Get("Strict-Transport-Security") != "max-age=31536000" {
			t.Errorf("%s: %v", protocol, res.Header)
		}
	}
	old := &tls.Config{RootCAs: trusted, ServerName: "example.com", MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10} // what is to be refused
	if c, err := (&tls.Dialer{NetDialer: &net.Dialer{}, Config: old}).DialContext(t.Context(), "tcp", strings.TrimPrefix(e.url, "http://")); err == nil {
		t.Error("TLS 1.1 was let in")
		_ = c.Close()
	}
}

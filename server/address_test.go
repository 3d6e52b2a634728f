package server

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/free2talk/free2talk/server/talk"
)

func trusting(prefixes ...string) func(netip.Addr) bool {
	s := &Server{}
	for _, p := range prefixes {
		s.config.TrustedProxies = append(s.config.TrustedProxies, netip.MustParsePrefix(p))
	}
	return s.trusts
}

// TestForwardedAddress13 is checklist 13.
func TestForwardedAddress13(t *testing.T) {
	t.Parallel()
	peer := netip.MustParseAddr("10.0.0.1")
	trusts := trusting("10.0.0.0/8", "fd00::/8")
	for _, c := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"none", nil, "10.0.0.1"},
		{"one", []string{"203.0.113.7"}, "203.0.113.7"},
		{"what a stranger wrote before it", []string{"1.1.1.1, 203.0.113.7"}, "203.0.113.7"},
		{"garbage before it", []string{"<script>, 203.0.113.7"}, "203.0.113.7"},
		{"a trusted hop after it", []string{"203.0.113.7, 10.9.9.9"}, "203.0.113.7"},
		{"two lines", []string{"1.1.1.1", "203.0.113.7, 10.0.0.2"}, "203.0.113.7"},
		{"the second line all trusted", []string{"1.1.1.1, 203.0.113.7", "10.0.0.3,10.0.0.2"}, "203.0.113.7"},
		{"all trusted", []string{"10.0.0.9, 10.0.0.2"}, "10.0.0.9"},
		{"a port", []string{"203.0.113.7:4711"}, "203.0.113.7"},
		{"IPv6", []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv6 in brackets", []string{"[2001:db8::1]"}, "2001:db8::1"},
		{"IPv6 with a port", []string{"[2001:db8::1]:443"}, "2001:db8::1"},
		{"IPv6 with a zone", []string{"fe80::1%eth0"}, "fe80::1"},
		{"IPv4 in IPv6's dress", []string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		{"a trusted one in that dress", []string{"203.0.113.7, ::ffff:10.0.0.2"}, "203.0.113.7"},
		{"unknown", []string{"unknown"}, "10.0.0.1"},
		{"obfuscated", []string{"203.0.113.7, _hidden"}, "10.0.0.1"},
		{"empty", []string{""}, "10.0.0.1"},
		{"a trailing comma", []string{"203.0.113.7,"}, "10.0.0.1"},
		{"100 strangers", []string{strings.Repeat("1.1.1.1,", 99) + "203.0.113.7"}, "203.0.113.7"},
		{"100 proxies", []string{strings.Repeat("10.0.0.2,", 99) + "10.0.0.2"}, "10.0.0.1"},
		{"an overlong number", []string{"203.0.113.0007"}, "10.0.0.1"},
	} {
		if got := forwardedAddress(peer, c.lines, trusts); got.String() != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestAddressKey(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"203.0.113.7":                  "203.0.113.7",
		"2001:db8:1:2:3:4:5:6":         "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff:ffff:ffff:": "unknown",
	} {
		addr, _ := hop(in)
		if got := addressKey(addr); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
	if got := peerAddress("127.0.0.1:80").String(); got != "127.0.0.1" {
		t.Error(got)
	}
	if peerAddress("@").IsValid() {
		t.Error("a Unix socket has an address")
	}
}

// TestAddress13/only_a_trusted_peer_is_believed is checklist 13, over HTTP.
func TestAddress13(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		trusted []netip.Prefix
		want    string
	}{
		"only a trusted peer is believed": {loopback(), "api 203.0.113.7"},
		"a stranger is not":               {nil, "api 127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEdge(t, func(c2 *Config) { c2.TrustedProxies = c.trusted })
			e.post(getRoomPath, `{}`, "X-Forwarded-For: 6.6.6.6, 203.0.113.7", "X-Request-Id: from-the-proxy")
			if seen := e.limiter.seen(); len(seen) != 1 || seen[0] != c.want {
				t.Errorf("got %v, want %s", seen, c.want)
			}
		})
	}
}

func FuzzForwardedAddress(f *testing.F) {
	for _, seed := range []string{
		"", ",", "203.0.113.7", "1.1.1.1, 203.0.113.7:80", "[::1]:443", "fe80::1%eth0", "unknown", "::ffff:1.2.3.4", "[", "[]", "10.0.0.1,10.0.0.1", "\x00",
	} {
		f.Add(seed, seed)
	}
	peer := netip.MustParseAddr("10.0.0.1")
	trusts := trusting("10.0.0.0/8")
	f.Fuzz(func(t *testing.T, a, b string) {
		got := forwardedAddress(peer, []string{a, b}, trusts)
		if !got.IsValid() || got.Zone() != "" || got.Is4In6() {
			t.Errorf("%q %q: got %v", a, b, got)
		}
		if key := addressKey(got); key == "" || strings.ContainsAny(key, " \r\n{}") {
			t.Errorf("%q %q: key %q", a, b, key)
		}
	})
}

func TestRequest(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"curl/8":                          "curl/8",
		strings.Repeat("a", 300):          strings.Repeat("a", 256),
		strings.Repeat("a", 255) + "é":    strings.Repeat("a", 255),
		strings.Repeat("a", 254) + "éé":   strings.Repeat("a", 254) + "é",
		"bad \xff byte":                   "bad ? byte",
		strings.Repeat("\xff", 300) + "x": "?",
	} {
		if got := userAgent(in); got != want {
			t.Errorf("%.10q…: got %q", in, got)
		}
	}
	for _, bad := range []string{"", "a b", "a\r\nb", strings.Repeat("a", 65), "ä"} {
		if requestID(bad) != "" {
			t.Errorf("%q was taken", bad)
		}
	}
	if requestID("A-b_9") != "A-b_9" {
		t.Error("a good id was not taken")
	}
	ctx := t.Context()
	if _, ok := callerFrom(ctx); ok || requestIDFrom(ctx) != "" || cookieFrom(ctx) != "" || crossSiteFrom(ctx) || deviceFrom(ctx) != (talk.Device{}) {
		t.Error("a call without a request knows something")
	}
}

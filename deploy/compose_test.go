// Package deploy_test checks what compose.yaml says of addresses: Docker finds out only when it starts it.
package deploy_test

import (
	"net/netip"
	"os"
	"regexp"
	"testing"
)

var (
	subnet  = regexp.MustCompile(`subnet: ([\d./]+)`)
	dealt   = regexp.MustCompile(`ip_range: ([\d./]+)`)
	fixed   = regexp.MustCompile(`ipv4_address: ([\d.]+)`)
	proxy   = regexp.MustCompile(`(?s)\n  proxy:\n.*?ipv4_address: ([\d.]+)`)
	trusted = regexp.MustCompile(`FREE2TALK_TRUSTED_PROXIES: (\S+)`)
)

func compose(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// said is what stands there once, and only once.
func said(t *testing.T, in string, what *regexp.Regexp) string {
	t.Helper()
	found := what.FindAllStringSubmatch(in, -1)
	if len(found) != 1 {
		t.Fatalf("%s: %d times", what, len(found))
	}
	return found[0][1]
}

// Docker deals out addresses as containers start, and the proxy starts last.
func TestNobodyIsDealtAFixedAddress(t *testing.T) {
	t.Parallel()
	text := compose(t)
	all := netip.MustParsePrefix(said(t, text, subnet))
	forOthers := netip.MustParsePrefix(said(t, text, dealt))
	if !all.Contains(forOthers.Addr()) || forOthers.Bits() <= all.Bits() {
		t.Errorf("%s is no part of %s", forOthers, all)
	}
	addresses := fixed.FindAllStringSubmatch(text, -1)
	if len(addresses) == 0 {
		t.Error("no fixed address")
	}
	for _, match := range addresses {
		if address := netip.MustParseAddr(match[1]); !all.Contains(address) || forOthers.Contains(address) {
			t.Errorf("%s is outside %s, or dealt out as one of %s", address, all, forOthers)
		}
	}
}

// Whoever else was trusted could choose their address, and so their rate limit.
func TestOnlyTheProxyIsTrusted(t *testing.T) {
	t.Parallel()
	text := compose(t)
	want := netip.PrefixFrom(netip.MustParseAddr(said(t, text, proxy)), 32)
	if got := said(t, text, trusted); got != want.String() {
		t.Errorf("%s is trusted, the proxy is %s", got, want)
	}
}

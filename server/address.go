package server

import (
	"net/netip"
	"slices"
	"strings"
)

// hopsMost is how many hops of X-Forwarded-For are looked at: more trusted
// proxies in a row than that are a loop or an attack.
const hopsMost = 32

// peerAddress reads the address that net/http gives of a connection; the
// result is invalid where there is none (a Unix socket).
func peerAddress(remote string) netip.Addr {
	if ap, err := netip.ParseAddrPort(remote); err == nil {
		return plain(ap.Addr())
	}
	addr, _ := hop(remote)
	return addr
}

// forwardedAddress returns the last hop of X-Forwarded-For that is not a proxy
// we trust, where peer is one. Each proxy appends whom it saw, so what stands
// left of the first untrusted hop was written by a stranger and is not read. A
// hop that is no address makes the list worthless: the answer is the peer.
func forwardedAddress(peer netip.Addr, lines []string, trusts func(netip.Addr) bool) netip.Addr {
	found := peer
	seen := 0
	for _, line := range slices.Backward(lines) {
		rest, more := line, true
		for more {
			var last string
			last, rest, more = cutLast(rest)
			if seen++; seen > hopsMost {
				return peer
			}
			addr, ok := hop(last)
			if !ok {
				return peer
			}
			if !trusts(addr) {
				return addr
			}
			found = addr
		}
	}
	return found // everybody on the way is trusted: the first of them asked
}

// cutLast splits off what follows the last comma.
func cutLast(line string) (last, rest string, more bool) {
	if i := strings.LastIndexByte(line, ','); i >= 0 {
		return line[i+1:], line[:i], true
	}
	return line, "", false
}

// hop reads one entry of X-Forwarded-For: an address, with or without
// brackets, zone and port.
func hop(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	if addr, err := netip.ParseAddr(s); err == nil {
		return plain(addr), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return plain(ap.Addr()), true
	}
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			if addr, err := netip.ParseAddr(inner); err == nil {
				return plain(addr), true
			}
		}
	}
	return netip.Addr{}, false
}

// plain drops the zone, which means nothing to others, and the IPv6 dress of
// an IPv4 address.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// addressKey is the address as rate limits count it: IPv6 by /64, as one
// subscriber has at least that much.
func addressKey(addr netip.Addr) string {
	switch {
	case !addr.IsValid():
		return "unknown"
	case addr.Is4():
		return addr.String()
	}
	prefix, err := addr.Prefix(64)
	if err != nil {
		return addr.String()
	}
	return prefix.Addr().String() + "/64"
}

// trusts reports whether addr is one of the configured proxies.
func (s *Server) trusts(addr netip.Addr) bool {
	for _, prefix := range s.config.TrustedProxies {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

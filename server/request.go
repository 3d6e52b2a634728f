package server

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/server/talk"
)

const (
	refreshCookie = "__Host-f2t_refresh"
	userAgentMost = 256 // bytes that are kept of a User-Agent
	requestIDMost = 64  // bytes that are taken of a proxy's request id
)

// request is what is known about a call besides its message. It is one value
// under one context key, so that a call pays for one allocation and not for
// seven; the HTTP layer makes it, the chain fills it in, in one goroutine.
type request struct {
	id        string
	device    talk.Device
	address   netip.Addr // invalid where the transport has none
	crossSite bool
	cookie    string
	secure    bool // it came by TLS, to us or to a trusted proxy

	rules  *rules // of the RPC; see policy.go
	caller talk.Caller
	known  bool // caller is set

	stream connect.ServerStream // of a stream, as the handler gets it
	writer *heldWriter          // of a stream over HTTP

	losses  talk.Losses
	began   time.Time // the call
	ongoing *ongoing  // the stream that goes on without its call, or went
	ended   bool      // it has, and the chain is passed for its end
	failed  error     // how

	plain  *plainCall  // that it came as, else nil
	spells bool        // the codecs see this request
	head   http.Header // of the answer, where nothing stands between it and the chain; else nil
	reply  spelling    // of a unary call, where it was spelled before; else nil
	whole  [1][]byte   // room for a reply in one piece

	reason string // of the error that was answered
	cause  error  // of an internal error, for the log
}

type requestKey struct{}

// requestFrom never returns nil: a call that did not come over HTTP has an
// empty request, which nobody else sees.
func requestFrom(ctx context.Context) *request {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r
	}
	return &request{}
}

func withRequest(ctx context.Context, r *request) context.Context { return calling{ctx, r} }

// calling is the context of a call: two values for one allocation.
type calling struct {
	context.Context //nolint:containedctx // it is one

	request *request
}

// Value implements [context.Context].
func (c calling) Value(key any) any {
	switch key.(type) {
	case requestKey:
		return c.request
	case talk.LossesKey:
		return &c.request.losses
	}
	return c.Context.Value(key)
}

// callerFrom says who calls; false where the call is anonymous.
func callerFrom(ctx context.Context) (talk.Caller, bool) {
	r := requestFrom(ctx)
	return r.caller, r.known
}

// deviceFrom says what the connection tells of the caller's device. The user
// agent is valid UTF-8 of at most 256 bytes.
func deviceFrom(ctx context.Context) talk.Device { return requestFrom(ctx).device }

// crossSiteFrom reports whether a browser says that another site made it call.
// The configured origins are not other sites.
func crossSiteFrom(ctx context.Context) bool { return requestFrom(ctx).crossSite }

// requestIDFrom returns the id that the answer and the access log carry.
func requestIDFrom(ctx context.Context) string { return requestFrom(ctx).id }

// cookieFrom returns the refresh token of the cookie, or "".
func cookieFrom(ctx context.Context) string { return requestFrom(ctx).cookie }

// newRequest reads what the chain needs from the headers.
func (s *Server) newRequest(r *http.Request) *request {
	peer := peerAddress(r.RemoteAddr)
	trusted := s.trusts(peer)
	q := &request{
		spells:  true,
		address: peer,
		secure:  r.TLS != nil || trusted && r.Header.Get("X-Forwarded-Proto") == "https",
	}
	if trusted {
		q.address = forwardedAddress(peer, r.Header["X-Forwarded-For"], s.trusts)
		q.id = requestID(r.Header.Get("X-Request-Id"))
	}
	if q.id == "" {
		q.id = newRequestID()
	}
	q.device.UserAgent = userAgent(r.Header.Get("User-Agent"))
	if q.address.IsValid() {
		q.device.IP = q.address.String()
	}
	if len(r.Header["Cookie"]) > 0 {
		if cookies := r.CookiesNamed(refreshCookie); len(cookies) == 1 {
			q.cookie = cookies[0].Value
		}
	}
	q.crossSite = s.origins.Check(r) != nil
	return q
}

// requestID takes a proxy's id where it is harmless in headers and logs.
func requestID(id string) string {
	if id == "" || len(id) > requestIDMost {
		return ""
	}
	for i := range len(id) {
		c := id[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
			return ""
		}
	}
	return id
}

// newRequestID returns 128 random bits: they name a call and protect nothing.
func newRequestID() string {
	var raw [16]byte
	binary.LittleEndian.PutUint64(raw[:8], rand.Uint64())
	binary.LittleEndian.PutUint64(raw[8:], rand.Uint64())
	return hex.EncodeToString(raw[:])
}

// userAgent cuts s at 256 bytes, between characters, and replaces what is not UTF-8.
func userAgent(s string) string {
	if len(s) > userAgentMost {
		cut := userAgentMost
		for cut > userAgentMost-utf8.UTFMax && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut]
	}
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "?")
}

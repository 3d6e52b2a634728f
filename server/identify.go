package server

import (
	"context"
	"strings"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/server/talk"
)

// tokenMost is the size of the largest access token that is looked at; ours
// are a tenth of it.
const tokenMost = 4 << 10

// Identifier says who shows an access token. [talk.Accounts] is one.
type Identifier interface {
	// Identify refuses the token of a session that has ended.
	Identify(ctx context.Context, token string, device talk.Device) (talk.Caller, error)
	// IdentifyEnded takes it.
	IdentifyEnded(ctx context.Context, token string) (talk.Caller, error)
}

// identify settles who calls, by headers alone. A token that is brought must
// be good, also where none is needed: a caller who believes to be signed in
// must not be answered as a stranger.
func (s *Server) identify(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		q := requestFrom(ctx)
		if q.rules.acceptsCookie && q.cookie != "" && q.crossSite {
			return talk.ErrCrossSite
		}
		if q.rules.ignoresToken {
			return next(ctx, spec, stream)
		}
		token, brought, err := bearerOf(ctx, q)
		if brought && err == nil {
			q.caller, err = s.caller(ctx, token, q)
			q.known = err == nil
		}
		// Where the cookie counts, it speaks for a browser whose access token is gone.
		if err != nil && !(q.rules.acceptsCookie && q.cookie != "") {
			return err
		}
		return next(ctx, spec, stream)
	}
}

func (s *Server) caller(ctx context.Context, token string, q *request) (talk.Caller, error) {
	if q.rules.acceptsRevoked {
		return s.identifier.IdentifyEnded(ctx, token)
	}
	return s.identifier.Identify(ctx, token, q.device)
}

func bearerOf(ctx context.Context, q *request) (token string, brought bool, err error) {
	if q.plain != nil {
		return bearer(q.plain.r.Header["Authorization"])
	}
	info, ok := connect.CallInfoForServerContext(ctx)
	if !ok {
		return "", false, nil
	}
	return bearer(info.RequestHeader().Values("Authorization"))
}

// bearer reads the values of Authorization headers. What is not exactly one
// token is no token: guessing which of two was meant is how checks are passed.
func bearer(values []string) (token string, brought bool, err error) {
	if len(values) == 0 {
		return "", false, nil
	}
	scheme, token, found := strings.Cut(values[0], " ")
	if len(values) > 1 || !found || !strings.EqualFold(scheme, "Bearer") || !tokenLike(token) {
		return "", true, talk.ErrTokenInvalid
	}
	return token, true, nil
}

// tokenLike reports whether s is a token68 (RFC 9110) of a size to look at.
func tokenLike(s string) bool {
	if s == "" || len(s) > tokenMost {
		return false
	}
	foreign := byte(0)
	for i := range len(s) {
		foreign |= foreignTo68[s[i]]
	}
	return foreign == 0
}

// foreignTo68 is not 0 for the bytes that such a token has none of.
var foreignTo68 = func() (set [256]byte) {
	for c := range set {
		set[c] = 1
	}
	for _, c := range []byte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~+/=") {
		set[c] = 0
	}
	return set
}()

package server

import (
	"context"
	"net/http"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/server/talk"
)

// In cookie mode the refresh token lives where no script reads it. The cookie
// is bound to this host by its name's prefix, and no other site may have it
// set, used or cleared.

// sendRefreshCookie gives the refresh token of a grant to the browser.
func sendRefreshCookie(ctx context.Context, grant talk.Grant, now time.Time) error {
	if crossSiteFrom(ctx) {
		return talk.ErrCrossSite
	}
	setRefreshCookie(ctx, grant.RefreshToken, max(1, int(grant.RefreshExpiresAt.Sub(now).Seconds())))
	return nil
}

// clearRefreshCookie makes the browser forget its refresh token, once the
// session has ended. Never after a failure: the cookie may hold the token that
// a faster refresh of the same session just brought.
func clearRefreshCookie(ctx context.Context) {
	if !crossSiteFrom(ctx) {
		setRefreshCookie(ctx, "", -1) // written as Max-Age=0
	}
}

func setRefreshCookie(ctx context.Context, token string, maxAge int) {
	info, ok := connect.CallInfoForServerContext(ctx)
	if !ok {
		return // a handler called by itself, in a test
	}
	cookie := http.Cookie{
		Name: refreshCookie, Value: token, Path: "/", MaxAge: maxAge,
		Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
	info.ResponseHeader().Add("Set-Cookie", cookie.String())
}

// refreshTokenFrom returns the token of the body, else of the cookie, or
// absent where there is neither.
func refreshTokenFrom(ctx context.Context, body string, absent error) (string, error) {
	cookie := cookieFrom(ctx)
	switch {
	case body != "":
		return body, nil
	case cookie == "":
		return "", absent
	case crossSiteFrom(ctx):
		return "", talk.ErrCrossSite
	}
	return cookie, nil
}

// sameSite refuses to begin, from another site, what would end in a cookie.
func sameSite(ctx context.Context, wantsCookie bool) error {
	if wantsCookie && crossSiteFrom(ctx) {
		return talk.ErrCrossSite
	}
	return nil
}

package client

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// Tokens is a session as a client holds it. Printed or logged they are
// redacted; encoded as JSON they are not, so that a [TokenStore] can write them.
type Tokens struct {
	Access           string    `json:"access"`             // goes into Authorization; empty means nobody is logged in
	AccessExpiresAt  time.Time `json:"access_expires_at"`  // by the server's clock; zero means not known
	Refresh          string    `json:"refresh"`            // brings the next tokens, once; empty means they cannot be refreshed
	RefreshExpiresAt time.Time `json:"refresh_expires_at"` // by the server's clock, if it is not used; zero means not known
	SessionID        string    `json:"session_id"`         // as in ListSessions
}

// String names the session and redacts the tokens.
func (t Tokens) String() string {
	if t.Access == "" && t.Refresh == "" {
		return "no session"
	}
	return "session " + t.SessionID + " [redacted]"
}

// GoString is [Tokens.String], for %#v.
func (t Tokens) GoString() string { return t.String() }

// Format prints as [Tokens.String] does, whatever the verb.
func (t Tokens) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// LogValue is [Tokens.String], for slog.
func (t Tokens) LogValue() slog.Value { return slog.StringValue(t.String()) }

func tokensOf(t *free2talkv1.Tokens) Tokens {
	tokens := Tokens{Access: t.GetAccessToken(), Refresh: t.GetRefreshToken(), SessionID: t.GetSessionId()}
	if at := t.GetAccessExpiresAt(); at != nil {
		tokens.AccessExpiresAt = at.AsTime()
	}
	if at := t.GetRefreshExpiresAt(); at != nil {
		tokens.RefreshExpiresAt = at.AsTime()
	}
	return tokens
}

// TokenStore keeps the tokens of one session where they outlive the client: in
// a file, a keyring. A client calls it from one goroutine at a time and makes
// its callers wait, so it should be quick.
//
// Several processes may share one store: a client reads it again before it
// refreshes, and takes what another has saved meanwhile.
type TokenStore interface {
	// Load returns what was last saved, or zero Tokens where nothing was.
	Load(ctx context.Context) (Tokens, error)
	// Save replaces what was saved. Zero Tokens: forget it, the session is over.
	Save(ctx context.Context, tokens Tokens) error
}

// TokenLocker is a [TokenStore] that processes share which run at the same
// time. A client holds the lock for as long as a refresh takes, so that the
// next one finds what it brought: a refresh token must not be used twice.
type TokenLocker interface {
	TokenStore
	// Lock returns when nobody else holds the lock, or fails where ctx ends
	// before. Load and Save are called with and without it.
	Lock(ctx context.Context) (unlock func(), err error)
}

// memory is the store that a client has by default.
type memory struct{ tokens Tokens }

// Load returns what was saved.
func (m *memory) Load(context.Context) (Tokens, error) { return m.tokens, nil }

// Save keeps tokens for as long as the process lives.
func (m *memory) Save(_ context.Context, tokens Tokens) error {
	m.tokens = tokens
	return nil
}

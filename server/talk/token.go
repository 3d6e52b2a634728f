package talk

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// AccessLifetime is how long an access token is valid.
	AccessLifetime = 15 * time.Minute

	leeway     = 5 * time.Second // for clocks that differ
	mostToken  = 4 << 10         // bytes of an access token that are looked at
	mostClaims = 32              // members of its payload
	accessType = "at+jwt"        // RFC 9068
)

// Claims is what a verified access token says.
type Claims struct {
	UserID     UserID
	SessionID  SessionID
	Generation int64 // of the session when the token was made
	ExpiresAt  time.Time
}

// Tokens makes and reads access tokens (JWT, EdDSA) and refresh tokens. The
// same call gives the same token, so that a lost answer can be given again.
// Verified access tokens are remembered until they expire.
type Tokens struct {
	keys     *Keyring
	clock    Clock
	issuer   string
	audience string
	memory   *tokenMemory

	verified, remembered, refused, refreshRefused atomic.Int64
}

// NewTokens makes and reads tokens of issuer for audience with the keys of a
// loaded keyring.
func NewTokens(keys *Keyring, clock Clock, issuer, audience string) *Tokens {
	return &Tokens{keys: keys, clock: clock, issuer: issuer, audience: audience, memory: newTokenMemory()}
}

// TokenStats is what became of the tokens that were shown.
type TokenStats struct {
	Verified       int64 // access tokens whose signature was computed, and right
	Remembered     int64 // access tokens that had been verified before
	Refused        int64 // access tokens that were not valid, or not any more
	RefreshRefused int64 // refresh tokens that were forged or damaged
}

// Stats reads the counters.
func (t *Tokens) Stats() TokenStats {
	return TokenStats{t.verified.Load(), t.remembered.Load(), t.refused.Load(), t.refreshRefused.Load()}
}

// Format prints no secret, whatever the verb.
func (t *Tokens) Format(f fmt.State, _ rune) { redact(f) }

// LogValue logs no secret.
func (t *Tokens) LogValue() slog.Value { return slog.StringValue(redacted) }

// payload is what stands in an access token.
type payload struct {
	Issuer     string    `json:"iss"`
	Audience   audience  `json:"aud"`
	User       UserID    `json:"sub"`
	Session    SessionID `json:"sid"`
	Generation int64     `json:"gen"`
	IssuedAt   *unixTime `json:"iat"`
	NotBefore  *unixTime `json:"nbf,omitempty"`
	ExpiresAt  *unixTime `json:"exp"`
}

// unixTime is whole seconds: fractions and exponents are refused.
type unixTime int64

func (s unixTime) time() time.Time { return time.Unix(int64(s), 0).UTC() }

// audience is a string or, from others, a list of them.
type audience []string

// MarshalJSON writes the one audience that our tokens have.
func (a audience) MarshalJSON() ([]byte, error) { return json.Marshal(a[0]) }

// UnmarshalJSON reads a string or a list of strings.
func (a *audience) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]string)(a))
	}
	*a = audience{""}
	return json.Unmarshal(b, &(*a)[0])
}

// accessHeader is the first part of every token that the key signs. Tokens
// with another are refused unread: another algorithm or type, crit, jku, jwk,
// x5u, whatever.
func accessHeader(kid string) string {
	// %q is JSON's spelling here: a kid is hexadecimal.
	header := fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":%q}`, jwt.SigningMethodEdDSA.Alg(), kid, accessType)
	return base64.RawURLEncoding.EncodeToString([]byte(header))
}

// Access makes the access token of a session's generation, signed by the key
// that signs at the time at, and says when it expires.
func (t *Tokens) Access(user UserID, session SessionID, generation int64, at time.Time) (string, time.Time, error) {
	key, err := t.keys.signerAt(PurposeSign, at)
	if err != nil {
		return "", time.Time{}, err
	}
	issued := unixTime(at.Unix())
	expires := unixTime(at.Add(AccessLifetime).Unix())
	body, err := json.Marshal(payload{
		Issuer: t.issuer, Audience: audience{t.audience}, User: user, Session: session,
		Generation: generation, IssuedAt: &issued, ExpiresAt: &expires,
	})
	if err != nil {
		return "", time.Time{}, fmt.Errorf("access token: %w", err)
	}
	text := key.header + "." + base64.RawURLEncoding.EncodeToString(body)
	signature, err := jwt.SigningMethodEdDSA.Sign(text, key.private())
	if err != nil {
		return "", time.Time{}, fmt.Errorf("access token: %w", err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature), expires.time(), nil
}

// Verify reads an access token. It returns ErrTokenExpired for one that was
// valid, and ErrTokenInvalid for anything else that is not a token of ours in
// force now. It asks nobody; whether the session still lives is another
// question (see [Revocations]).
func (t *Tokens) Verify(token string) (Claims, error) {
	known, err := t.verify(token, t.clock())
	if err != nil {
		return Claims{}, err
	}
	return known.claims, nil
}

// verify is [Tokens.Verify] at a time, with what is remembered of the token.
func (t *Tokens) verify(token string, now time.Time) (*knownToken, error) {
	known, err := t.know(token, now)
	if err == nil {
		err = known.times.check(now)
	}
	if err != nil {
		t.refused.Add(1)
	}
	return known, err
}

// know returns what a token of ours says, in force or not.
func (t *Tokens) know(token string, now time.Time) (*knownToken, error) {
	if len(token) > mostToken {
		return nil, ErrTokenInvalid
	}
	header, _, _ := strings.Cut(token, ".")
	key, ok := t.keys.signerOf(header, now)
	if !ok {
		return nil, ErrTokenInvalid
	}
	var room [512]byte // most tokens fit: no copy of them is left to the collector
	name := sha256.Sum256(append(room[:0], token...))
	if known, ok := t.memory.get(name); ok && known.key == key.id {
		t.remembered.Add(1)
		return known, nil
	}
	read, err := t.read(token, key)
	if err != nil {
		return nil, ErrTokenInvalid.Because(err)
	}
	t.verified.Add(1)
	if read.times.check(now) == nil {
		t.memory.put(name, read)
	}
	return read, nil
}

// signerOf is the key whose tokens begin with that header.
func (k *Keyring) signerOf(header string, now time.Time) (*key, bool) {
	for _, key := range k.set.Load().sign {
		if key.header == header {
			return key, key.inForce(now)
		}
	}
	return nil, false
}

// read verifies a token's signature, then what it says.
func (t *Tokens) read(token string, key *key) (*knownToken, error) {
	// Go's base64 skips line breaks, which would give one token many spellings.
	cut := strings.LastIndexByte(token, '.')
	if cut <= len(key.header) || strings.ContainsAny(token, "\r\n") {
		return nil, errors.New("not three parts of base64url")
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(token[cut+1:])
	if err != nil {
		return nil, err
	}
	if err := jwt.SigningMethodEdDSA.Verify(token[:cut], signature, key.public()); err != nil {
		return nil, err
	}
	body, err := base64.RawURLEncoding.Strict().DecodeString(token[len(key.header)+1 : cut])
	if err != nil {
		return nil, err
	}
	said, err := decodePayload(body)
	if err != nil {
		return nil, err
	}
	return t.accept(said, key)
}

// accept checks all that does not change with time.
func (t *Tokens) accept(said payload, key *key) (*knownToken, error) {
	user, userErr := ParseUserID(string(said.User))
	session, sessionErr := ParseSessionID(string(said.Session))
	switch {
	case said.Issuer != t.issuer:
		return nil, errors.New("iss")
	case !slices.Contains(said.Audience, t.audience):
		return nil, errors.New("aud")
	case userErr != nil || user != said.User:
		return nil, errors.New("sub")
	case sessionErr != nil || session != said.Session:
		return nil, errors.New("sid")
	case said.Generation < 1:
		return nil, errors.New("gen")
	case said.IssuedAt == nil || said.ExpiresAt == nil:
		return nil, errors.New("iat, exp")
	}
	times := tokenTimes{issued: said.IssuedAt.time(), expires: said.ExpiresAt.time()}
	times.begins = times.issued
	if said.NotBefore != nil {
		times.begins = said.NotBefore.time()
	}
	if life := times.expires.Sub(times.issued); life <= 0 || life > AccessLifetime {
		return nil, errors.New("exp - iat")
	}
	claims := Claims{UserID: user, SessionID: session, Generation: said.Generation, ExpiresAt: times.expires}
	return &knownToken{key: key.id, claims: claims, times: times}, nil
}

// tokenTimes is when a token is in force.
type tokenTimes struct{ issued, begins, expires time.Time }

func (t tokenTimes) check(now time.Time) error {
	switch {
	case t.issued.After(now.Add(leeway)), t.begins.After(now.Add(leeway)):
		return ErrTokenInvalid
	case !now.Before(t.expires.Add(leeway)):
		return ErrTokenExpired
	}
	return nil
}

// decodePayload reads one JSON object in which each name stands once. The
// signature was right: this guards against our own mistakes.
func decodePayload(body []byte) (payload, error) {
	var said payload
	if err := flat(body); err != nil {
		return said, err
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if err := decoder.Decode(&said); err != nil {
		return said, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return said, errors.New("trailing data")
	}
	return said, nil
}

// flat refuses an object with a name that stands twice, that is not in lower
// case (JSON's decoder would take both), with too many of them, or with nested
// objects.
func flat(body []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(body))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('{') {
		return errors.New("not an object")
	}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		name, _ := token.(string)
		if seen[name] || len(seen) == mostClaims || strings.ContainsFunc(name, func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') }) {
			return errors.New("a name twice, in another spelling, or too many")
		}
		seen[name] = true
		if err := shallow(decoder); err != nil {
			return err
		}
	}
	return nil
}

// shallow skips a scalar or a list of scalars.
func shallow(decoder *json.Decoder) error {
	value, err := decoder.Token()
	if err != nil || value != json.Delim('[') {
		if value == json.Delim('{') {
			return errors.New("nested")
		}
		return err
	}
	for decoder.More() {
		if value, err := decoder.Token(); err != nil {
			return err
		} else if _, nested := value.(json.Delim); nested {
			return errors.New("nested")
		}
	}
	_, err = decoder.Token()
	return err
}

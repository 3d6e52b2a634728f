package talk

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"
)

// What a stored key is for.
const (
	PurposeSign    = "sign"    // access tokens, by Ed25519
	PurposeRefresh = "refresh" // refresh tokens, by HMAC-SHA256
)

const (
	// keyDelay is how long a new key waits before it signs: every node has
	// read it by then.
	keyDelay = 2 * time.Minute
	// keyReread is how often a node reads the keys.
	keyReread = time.Minute
	// leastSecret is the length of a secret, in bytes, at least.
	leastSecret = 32

	keyIDBytes = 8
	seedBytes  = 32
)

// How a stored key is kept: its first byte.
const (
	markPlain  = 0
	markSealed = 1
)

// Faults of a keyring's configuration. None names a secret.
var (
	ErrSecretShort   = fmt.Errorf("the secret has fewer than %d bytes", leastSecret)
	ErrSecretMissing = errors.New("the keys in the database are sealed: a secret is needed (FREE2TALK_SECRET or --secret-file)")
	ErrSecretWrong   = errors.New("the keys in the database were sealed with another secret")
)

// KeyStore is the part of [Store] that a keyring needs.
type KeyStore interface {
	Keys(ctx context.Context) ([]StoredKey, error)
	AddKeys(ctx context.Context, first bool, keys ...StoredKey) error
	DropKeys(ctx context.Context, ids ...string) error
}

// Keyring holds the keys of access and refresh tokens. A key signs from its
// ActiveAt until the next one's; it verifies until the last token that it
// signed has expired, and is then dropped. So a rotation logs nobody out.
//
// A row's Sealed is a mark and the 32-byte seed: as it is, or sealed by
// AES-256-GCM under a key that HKDF-SHA256 derives from the secret, bound to
// the row's id and purpose. It never prints what it holds.
type Keyring struct {
	store KeyStore
	aead  cipher.AEAD // nil without a secret
	set   atomic.Pointer[keySet]
}

// key is one key, ready for use.
type key struct {
	id       string
	purpose  string
	seed     hidden[[]byte]
	private  hidden[ed25519.PrivateKey] // of a signing key
	header   string                     // of a signing key: the tokens' first part
	activeAt time.Time
	retireAt time.Time // zero for the newest
	plain    bool
}

// hidden is a value that printing does not reach: fmt looks into unexported
// fields, past the methods that would redact them, but not into a function.
type hidden[T any] func() T

func hide[T any](value T) hidden[T] { return func() T { return value } }

// keySet is what was read at once: each purpose by ActiveAt, then id.
type keySet struct {
	sign, refresh []*key
}

// NewKeyring makes a keyring that seals by secret, or keeps keys as they are
// where secret is empty. It returns ErrSecretShort for a secret of fewer than
// 32 bytes. Call [Keyring.Load] before its first use.
func NewKeyring(store KeyStore, secret []byte) (*Keyring, error) {
	k := &Keyring{store: store}
	k.set.Store(&keySet{})
	switch {
	case len(secret) == 0:
		return k, nil
	case len(secret) < leastSecret:
		return nil, ErrSecretShort
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, "free2talk keyring 1", 32)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	k.aead, err = cipher.NewGCM(block)
	return k, err
}

// Load reads the keys, and makes the first pair, active at once, where there
// are none. It returns ErrSecretMissing or ErrSecretWrong where the secret does
// not open them.
func (k *Keyring) Load(ctx context.Context, now time.Time) error {
	if err := k.read(ctx); err != nil {
		return err
	}
	if set := k.set.Load(); len(set.sign) > 0 && len(set.refresh) > 0 {
		return nil
	}
	if err := k.store.AddKeys(ctx, true, k.pair(now, now)...); err != nil {
		return fmt.Errorf("keyring: make the first keys: %w", err)
	}
	return k.read(ctx) // another node's, where it was first
}

// Rotate adds a pair of keys that signs from two minutes after now.
func (k *Keyring) Rotate(ctx context.Context, now time.Time) error {
	if err := k.store.AddKeys(ctx, false, k.pair(now, now.Add(keyDelay))...); err != nil {
		return fmt.Errorf("keyring: add keys: %w", err)
	}
	return k.read(ctx)
}

// Refresh reads the keys again and drops those whose last token has expired.
func (k *Keyring) Refresh(ctx context.Context, now time.Time) error {
	if err := k.read(ctx); err != nil {
		return err
	}
	var past []string
	set := k.set.Load()
	for _, key := range slices.Concat(set.sign, set.refresh) {
		// Nodes' clocks differ a little: the row outlives its last use.
		if key.retired(now.Add(-keyReread)) {
			past = append(past, key.id)
		}
	}
	if len(past) == 0 {
		return nil
	}
	if err := k.store.DropKeys(ctx, past...); err != nil {
		return fmt.Errorf("keyring: drop keys: %w", err)
	}
	return k.read(ctx)
}

// Run refreshes the keyring each minute until ctx ends, and reports what fails.
func (k *Keyring) Run(ctx context.Context, clock Clock, report func(error)) {
	tick := time.NewTicker(keyReread)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := k.Refresh(ctx, clock()); err != nil && ctx.Err() == nil {
				report(err)
			}
		}
	}
}

// Plain reports whether a key lies in the database as it is, unsealed.
func (k *Keyring) Plain() bool {
	set := k.set.Load()
	return slices.ContainsFunc(slices.Concat(set.sign, set.refresh), func(key *key) bool { return key.plain })
}

// jwk is a public key as RFC 8037 writes it.
type jwk struct {
	Type      string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	ID        string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
}

// JWKS is the JSON Web Key Set of every key that signs access tokens, soon
// will, or did and still verifies at the time now.
func (k *Keyring) JWKS(now time.Time) ([]byte, error) {
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for _, key := range k.set.Load().sign {
		if key.retired(now) {
			continue
		}
		x := base64.RawURLEncoding.EncodeToString(key.public())
		set.Keys = append(set.Keys, jwk{Type: "OKP", Curve: "Ed25519", X: x, ID: key.id, Use: "sig", Algorithm: "EdDSA"})
	}
	return json.Marshal(set)
}

// signerAt is the key of purpose that signs at the time t: always the same
// for the same t, so that a token can be made again. It is the newest active
// one; before the first, the first.
func (k *Keyring) signerAt(purpose string, t time.Time) (*key, error) {
	keys := k.set.Load().of(purpose)
	for _, key := range slices.Backward(keys) {
		if !key.activeAt.After(t) {
			return key, nil
		}
	}
	if len(keys) == 0 {
		return nil, ErrDatabaseUnavailable.Because(errors.New("keyring: no keys were read yet"))
	}
	return keys[0], nil
}

// verifier is the key of purpose with that id, where it is in force at the time now.
func (k *Keyring) verifier(purpose, id string, now time.Time) (*key, bool) {
	for _, key := range k.set.Load().of(purpose) {
		if key.id == id {
			return key, key.inForce(now)
		}
	}
	return nil, false
}

// inForce: a clock may be a little behind the one that signed.
func (k *key) inForce(now time.Time) bool {
	return !k.activeAt.After(now.Add(leeway)) && !k.retired(now)
}

func (k *key) retired(now time.Time) bool {
	return !k.retireAt.IsZero() && now.After(k.retireAt)
}

// public is the second half of a private key, as RFC 8032 lays it out.
func (k *key) public() ed25519.PublicKey { return ed25519.PublicKey(k.private()[seedBytes:]) }

func (s *keySet) of(purpose string) []*key {
	if purpose == PurposeSign {
		return s.sign
	}
	return s.refresh
}

func (k *Keyring) read(ctx context.Context) error {
	rows, err := k.store.Keys(ctx)
	if err != nil {
		return fmt.Errorf("keyring: read keys: %w", err)
	}
	set := &keySet{}
	for _, row := range rows {
		key, err := k.open(row)
		if err != nil {
			return fmt.Errorf("keyring: key %.16q: %w", row.ID, err)
		}
		switch row.Purpose {
		case PurposeSign:
			set.sign = append(set.sign, key)
		case PurposeRefresh:
			set.refresh = append(set.refresh, key)
		}
	}
	// The last token of a key is signed as the next one takes over.
	order(set.sign, AccessLifetime+leeway)
	order(set.refresh, SessionAbsolute+leeway)
	k.set.Store(set)
	return nil
}

func order(keys []*key, lifetime time.Duration) {
	slices.SortFunc(keys, func(a, b *key) int {
		return cmp.Or(a.activeAt.Compare(b.activeAt), cmp.Compare(a.id, b.id))
	})
	for i, key := range keys[:max(0, len(keys)-1)] {
		key.retireAt = keys[i+1].activeAt.Add(lifetime)
	}
}

// pair makes a key for each purpose.
func (k *Keyring) pair(now, active time.Time) []StoredKey {
	var rows []StoredKey
	for _, purpose := range []string{PurposeSign, PurposeRefresh} {
		row := StoredKey{ID: hex.EncodeToString(random(keyIDBytes)), Purpose: purpose, CreatedAt: now, ActiveAt: active}
		row.Sealed = k.seal(row, random(seedBytes))
		rows = append(rows, row)
	}
	return rows
}

func (k *Keyring) seal(row StoredKey, seed []byte) []byte {
	if k.aead == nil {
		return append([]byte{markPlain}, seed...)
	}
	nonce := random(k.aead.NonceSize())
	return k.aead.Seal(append([]byte{markSealed}, nonce...), nonce, seed, boundTo(row))
}

func boundTo(row StoredKey) []byte { return []byte(row.ID + "|" + row.Purpose) }

func (k *Keyring) open(row StoredKey) (*key, error) {
	seed, err := k.unseal(row)
	if err != nil {
		return nil, err
	}
	id, err := hex.DecodeString(row.ID)
	if err != nil || len(id) != keyIDBytes || hex.EncodeToString(id) != row.ID || len(seed) != seedBytes {
		return nil, errors.New("the row is damaged")
	}
	opened := &key{id: row.ID, purpose: row.Purpose, seed: hide(seed), activeAt: row.ActiveAt, plain: row.Sealed[0] == markPlain}
	if row.Purpose == PurposeSign {
		opened.private = hide(ed25519.NewKeyFromSeed(seed))
		opened.header = accessHeader(row.ID)
	}
	return opened, nil
}

func (k *Keyring) unseal(row StoredKey) ([]byte, error) {
	switch {
	case len(row.Sealed) == 0:
		return nil, errors.New("the row is damaged")
	case row.Sealed[0] == markPlain:
		return row.Sealed[1:], nil
	case k.aead == nil:
		return nil, ErrSecretMissing
	case len(row.Sealed) < 1+k.aead.NonceSize():
		return nil, errors.New("the row is damaged")
	}
	nonce, sealed := row.Sealed[1:1+k.aead.NonceSize()], row.Sealed[1+k.aead.NonceSize():]
	seed, err := k.aead.Open(nil, nonce, sealed, boundTo(row))
	if err != nil {
		return nil, ErrSecretWrong
	}
	return seed, nil
}

const redacted = "[redacted]"

func redact(f fmt.State) { _, _ = f.Write([]byte(redacted)) }

// Format prints no secret, whatever the verb.
func (k *Keyring) Format(f fmt.State, _ rune) { redact(f) }

// LogValue logs no secret.
func (k *Keyring) LogValue() slog.Value { return slog.StringValue(redacted) }

// Format prints no secret, whatever the verb.
func (k *key) Format(f fmt.State, _ rune) { redact(f) }

// Format prints which key it is, and not the key.
func (k StoredKey) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "key %s for %s from %s %s", k.ID, k.Purpose, k.ActiveAt.Format(time.RFC3339), redacted)
}

// LogValue logs which key it is, and not the key.
func (k StoredKey) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", k.ID), slog.String("purpose", k.Purpose), slog.Time("active_at", k.ActiveAt))
}

// MarshalJSON writes which key it is, and not the key.
func (k StoredKey) MarshalJSON() ([]byte, error) { return json.Marshal(k.ID) }

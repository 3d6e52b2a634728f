package talk

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// keyShelf keeps keys as a database does.
type keyShelf struct {
	mu    sync.Mutex
	rows  []StoredKey
	reads int
	away  error
}

func (s *keyShelf) Keys(context.Context) ([]StoredKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return slices.Clone(s.rows), s.away
}

func (s *keyShelf) AddKeys(_ context.Context, first bool, keys ...StoredKey) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := slices.Clone(s.rows)
	for _, key := range keys {
		if !first || !slices.ContainsFunc(before, func(k StoredKey) bool { return k.Purpose == key.Purpose }) {
			s.rows = append(s.rows, key)
		}
	}
	return s.away
}

func (s *keyShelf) DropKeys(_ context.Context, ids ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rows = slices.DeleteFunc(s.rows, func(k StoredKey) bool { return slices.Contains(ids, k.ID) })
	return s.away
}

func (s *keyShelf) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func (s *keyShelf) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away = ErrDatabaseUnavailable
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func ring(t testing.TB, shelf KeyStore, secret string) *Keyring {
	t.Helper()
	keys, err := NewKeyring(shelf, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.Load(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	return keys
}

func signer(t testing.TB, k *Keyring, purpose string, at time.Time) string {
	t.Helper()
	key, err := k.signerAt(purpose, at)
	if err != nil {
		t.Fatal(err)
	}
	return key.id
}

const secret = "a secret of at least thirty-two bytes"

func TestKeyring(t *testing.T) {
	t.Run("the first keys are made once, however many nodes start", func(t *testing.T) {
		shelf := &keyShelf{}
		var group sync.WaitGroup
		for range 8 {
			group.Go(func() { ring(t, shelf, secret) })
		}
		group.Wait()
		if len(shelf.rows) != 2 || shelf.rows[0].Purpose == shelf.rows[1].Purpose || !shelf.rows[0].ActiveAt.Equal(noon) {
			t.Errorf("%v", shelf.rows)
		}
	})
	t.Run("nodes with one secret hold the same keys", func(t *testing.T) {
		shelf := &keyShelf{}
		a, b := ring(t, shelf, secret), ring(t, shelf, secret)
		for _, purpose := range []string{PurposeSign, PurposeRefresh} {
			x, _ := a.signerAt(purpose, noon)
			y, _ := b.signerAt(purpose, noon)
			if !bytes.Equal(x.seed(), y.seed()) {
				t.Error(purpose)
			}
		}
	})
	t.Run("a new key signs two minutes later, and the answer for a moment stays", func(t *testing.T) {
		k := ring(t, &keyShelf{}, secret)
		first := signer(t, k, PurposeRefresh, noon)
		if err := k.Rotate(t.Context(), noon.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		takeover := noon.Add(time.Hour + 2*time.Minute)
		if got := signer(t, k, PurposeRefresh, takeover.Add(-time.Microsecond)); got != first {
			t.Error("signs too early")
		}
		if got := signer(t, k, PurposeRefresh, takeover); got == first {
			t.Error("does not sign in time")
		}
		if signer(t, k, PurposeRefresh, noon) != first || signer(t, k, PurposeRefresh, noon.Add(-time.Hour)) != first {
			t.Error("the past has changed")
		}
	})
	t.Run("checklist_24_keys_retire_when_their_last_token_has_expired", func(t *testing.T) {
		shelf := &keyShelf{}
		k := ring(t, shelf, secret)
		sign, refresh := signer(t, k, PurposeSign, noon), signer(t, k, PurposeRefresh, noon)
		k.Rotate(t.Context(), noon)
		for purpose, c := range map[string]struct {
			id   string
			last time.Time
		}{
			PurposeSign:    {sign, noon.Add(2*time.Minute + AccessLifetime + leeway)},
			PurposeRefresh: {refresh, noon.Add(2*time.Minute + SessionAbsolute + leeway)},
		} {
			if _, ok := k.verifier(purpose, c.id, c.last); !ok {
				t.Errorf("%s: refused while a token may live", purpose)
			}
			if _, ok := k.verifier(purpose, c.id, c.last.Add(time.Microsecond)); ok {
				t.Errorf("%s: accepted too long", purpose)
			}
		}
	})
}

func TestKeyringForgets(t *testing.T) {
	t.Run("keys that are past are dropped, the newest never", func(t *testing.T) {
		shelf := &keyShelf{}
		k := ring(t, shelf, secret)
		k.Rotate(t.Context(), noon)
		for at, rows := range map[time.Duration]int{10 * time.Minute: 4, 20 * time.Minute: 3, SessionAbsolute + time.Hour: 2, 10 * SessionAbsolute: 2} {
			other := &keyShelf{rows: slices.Clone(shelf.rows)}
			o := ring(t, other, secret)
			if err := o.Refresh(t.Context(), noon.Add(at)); err != nil || len(other.rows) != rows {
				t.Errorf("after %s: %d rows, %v", at, len(other.rows), err)
			}
		}
	})
	t.Run("a database that is away leaves the keys as they were", func(t *testing.T) {
		shelf := &keyShelf{}
		k := ring(t, shelf, secret)
		shelf.leave()
		if err := k.Refresh(t.Context(), noon); !errors.Is(err, ErrDatabaseUnavailable) {
			t.Error(err)
		}
		signer(t, k, PurposeSign, noon)
	})
	t.Run("a keyring that was not loaded signs nothing", func(t *testing.T) {
		k, _ := NewKeyring(&keyShelf{}, nil)
		if _, err := k.signerAt(PurposeSign, noon); !errors.Is(err, ErrDatabaseUnavailable) {
			t.Error(err)
		}
	})
}

func TestKeyringSeals(t *testing.T) {
	load := func(shelf *keyShelf, secret string) error {
		k, err := NewKeyring(shelf, []byte(secret))
		if err != nil {
			return err
		}
		return k.Load(t.Context(), noon)
	}
	t.Run("checklist_64_a_short_secret_is_refused_and_not_printed", func(t *testing.T) {
		short := strings.Repeat("s", 31)
		if err := load(&keyShelf{}, short); !errors.Is(err, ErrSecretShort) || strings.Contains(err.Error(), short) {
			t.Error(err)
		}
	})
	t.Run("the wrong secret, or none, is told at the start", func(t *testing.T) {
		shelf := &keyShelf{}
		ring(t, shelf, secret)
		wrong := secret + "!"
		if err := load(shelf, wrong); !errors.Is(err, ErrSecretWrong) || strings.Contains(err.Error(), secret) {
			t.Error(err)
		}
		if err := load(shelf, ""); !errors.Is(err, ErrSecretMissing) {
			t.Error(err)
		}
	})
	t.Run("without a secret keys lie plain, and later ones are sealed", func(t *testing.T) {
		shelf := &keyShelf{}
		if k := ring(t, shelf, ""); !k.Plain() {
			t.Error("not told")
		}
		k := ring(t, shelf, secret)
		k.Rotate(t.Context(), noon)
		k.Refresh(t.Context(), noon.Add(10*SessionAbsolute))
		if k.Plain() || len(shelf.rows) != 2 {
			t.Error("the plain ones are still there")
		}
	})
	t.Run("a sealed key is bound to its row", func(t *testing.T) {
		shelf := &keyShelf{}
		ring(t, shelf, secret)
		shelf.rows[0].Sealed, shelf.rows[1].Sealed = shelf.rows[1].Sealed, shelf.rows[0].Sealed
		if err := load(shelf, secret); !errors.Is(err, ErrSecretWrong) {
			t.Error(err)
		}
	})
	t.Run("a damaged row is no panic", func(t *testing.T) {
		for _, row := range []StoredKey{
			{ID: "0011223344556677", Purpose: PurposeSign},
			{ID: "0011223344556677", Purpose: PurposeSign, Sealed: []byte{0}},
			{ID: "0011223344556677", Purpose: PurposeSign, Sealed: []byte{1, 2, 3}},
			{ID: "0011223344556677", Purpose: PurposeSign, Sealed: []byte{7, 2, 3}},
			{ID: "FFEEDDCCBBAA9988", Purpose: PurposeSign, Sealed: make([]byte, 33)},
			{ID: "'; --", Purpose: PurposeRefresh, Sealed: make([]byte, 33)},
		} {
			if err := load(&keyShelf{rows: []StoredKey{row}}, secret); err == nil {
				t.Errorf("%v was read", row)
			}
		}
	})
}

func TestJWKS(t *testing.T) {
	k := ring(t, &keyShelf{}, secret)
	k.Rotate(t.Context(), noon)
	read := func(now time.Time) (keys []map[string]string) {
		b, err := k.JWKS(now)
		var set struct {
			Keys []map[string]string `json:"keys"`
		}
		if err != nil || json.Unmarshal(b, &set) != nil {
			t.Fatalf("%s, %v", b, err)
		}
		return set.Keys
	}
	t.Run("it has keys before and after their time", func(t *testing.T) {
		if got := read(noon); len(got) != 2 {
			t.Errorf("%v", got)
		}
		if got := read(noon.Add(20 * time.Minute)); len(got) != 1 {
			t.Errorf("%v", got)
		}
	})
	t.Run("each is the public half", func(t *testing.T) {
		key, _ := k.signerAt(PurposeSign, noon)
		want := map[string]string{
			"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": key.id,
			"x": base64.RawURLEncoding.EncodeToString(key.public()),
		}
		if got := read(noon)[0]; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v", got)
		}
	})
}

func TestKeyringRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shelf := &keyShelf{}
		k := ring(t, shelf, secret)
		ctx, cancel := context.WithCancel(t.Context())
		before := shelf.count()
		var failures atomic.Int64
		go k.Run(ctx, func() time.Time { return noon }, func(error) { failures.Add(1) })
		<-time.After(3*time.Minute + time.Second) // the bubble's time
		synctest.Wait()
		if got := shelf.count() - before; got != 3 || failures.Load() != 0 {
			t.Errorf("%d reads, %d failures in three minutes", got, failures.Load())
		}
		shelf.leave()
		<-time.After(time.Minute)
		cancel()
		synctest.Wait()
		if failures.Load() != 1 {
			t.Errorf("%d failures", failures.Load())
		}
	})
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	t.Parallel()
	shelf := &keyShelf{}
	k := ring(t, shelf, "")
	tokens := NewTokens(k, func() time.Time { return noon }, "us", "them")
	key, _ := k.signerAt(PurposeRefresh, noon)
	row := shelf.rows[1]
	var out bytes.Buffer
	for _, value := range []any{k, tokens, key, row, &row, shelf.rows, k.set.Load(), struct{ K *Keyring }{k}, struct{ R StoredKey }{row}} {
		fmt.Fprintf(&out, "%v %+v %#v %s %x %d\n", value, value, value, value, value, value)
		slog.New(slog.NewTextHandler(&out, nil)).Info("checklist_61", "value", value)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("checklist_61", "value", value)
	}
	seed := row.Sealed[1:]
	for _, form := range []string{
		string(seed), hex.EncodeToString(seed), strings.ToUpper(hex.EncodeToString(seed)), base64.StdEncoding.EncodeToString(seed)[:40],
		base64.StdEncoding.EncodeToString(row.Sealed), strings.Trim(fmt.Sprint(seed), "[]"), fmt.Sprintf("%#v", seed)[len("[]byte{"):][:60],
	} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%q was printed:\n%s", form, out.String())
		}
	}
}

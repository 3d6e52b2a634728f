package talk

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func (m *mint) refresh(at time.Time) string {
	m.t.Helper()
	token, err := m.Refresh(adaPhone, 3, at)
	if err != nil {
		m.t.Fatal(err)
	}
	return token
}

// signed is any body with our MAC.
func (m *mint) signed(change func([]byte)) string {
	b, _ := base64.RawURLEncoding.DecodeString(m.refresh(noon))
	change(b)
	key, _ := m.keys.signerAt(PurposeRefresh, noon)
	return base64.RawURLEncoding.EncodeToString(key.mac(b[:refreshBody:refreshBody]))
}

func TestRefreshToken(t *testing.T) {
	m := newMint(t)
	token := m.refresh(noon)
	refuses := func(t *testing.T, name, token string) {
		t.Helper()
		if id, generation, err := m.ParseRefresh(token); !errors.Is(err, ErrRefreshInvalid) || id != "" || generation != 0 {
			t.Errorf("%s: %s %d, %v", name, id, generation, err)
		}
	}

	t.Run("it says which session and generation", func(t *testing.T) {
		if id, generation, err := m.ParseRefresh(token); id != adaPhone || generation != 3 || err != nil {
			t.Errorf("%s %d, %v", id, generation, err)
		}
		if len(token) != 87 {
			t.Errorf("%d characters", len(token))
		}
	})
	t.Run("checklist_29_the_same_again_on_every_node_also_after_a_rotation_of_keys", func(t *testing.T) {
		other := newMint(t)
		other.Tokens = NewTokens(ring(t, m.shelf, secret), m.clock, m.issuer, m.audience)
		if err := other.keys.Rotate(t.Context(), noon); err != nil {
			t.Fatal(err)
		}
		if other.refresh(noon) != token || other.refresh(noon.Add(keyDelay)) == token {
			t.Error("they differ")
		}
	})
	t.Run("checklist_26_malformed", func(t *testing.T) {
		b, _ := base64.RawURLEncoding.DecodeString(token)
		for name, wrong := range map[string]string{
			"empty": "", "dots": "..", "standard alphabet": base64.RawStdEncoding.EncodeToString(bytes.Repeat([]byte{0xff}, refreshBytes)),
			"one byte less": base64.RawURLEncoding.EncodeToString(b[:refreshBytes-1]), "one byte more": base64.RawURLEncoding.EncodeToString(append(b, 0)),
			"line break for the last": token[:86] + "\n", "huge": strings.Repeat("A", 1<<20), "an access token": m.access(noon),
			"version 0": m.signed(func(b []byte) { b[0] = 0 }), "version 2": m.signed(func(b []byte) { b[0] = 2 }),
			"an unknown key": m.signed(func(b []byte) { b[1] ^= 1 }), "generation 0": m.signed(func(b []byte) { clear(b[25:33]) }),
			"a negative generation": m.signed(func(b []byte) { binary.BigEndian.PutUint64(b[25:], math.MaxUint64) }),
		} {
			refuses(t, name, wrong)
		}
		for name, wrong := range respelled(token) {
			refuses(t, name, wrong)
		}
	})
	t.Run("checklist_27_each_bit_counts", func(t *testing.T) {
		before := m.Stats().RefreshRefused
		b, _ := base64.RawURLEncoding.DecodeString(token)
		for bit := range 8 * len(b) {
			b[bit/8] ^= 1 << (bit % 8)
			refuses(t, "a bit", base64.RawURLEncoding.EncodeToString(b))
			b[bit/8] ^= 1 << (bit % 8)
		}
		if got := m.Stats().RefreshRefused - before; got != int64(8*len(b)) {
			t.Errorf("%d were counted", got)
		}
	})
	t.Run("a key of signatures makes no MAC, and another server's neither", func(t *testing.T) {
		refuses(t, "another server's", newMint(t).refresh(noon))
	})
	t.Run("what cannot be a session makes no token", func(t *testing.T) {
		if _, err := m.Refresh("ada", 1, noon); err == nil {
			t.Error("a session that is no UUID")
		}
		if _, err := m.Refresh(adaPhone, 0, noon); err == nil {
			t.Error("generation 0")
		}
	})
}

func FuzzRefreshToken(f *testing.F) {
	m := newMint(f)
	good := m.refresh(noon)
	f.Add(good)
	for _, other := range respelled(good) {
		f.Add(other)
	}
	f.Add(m.signed(func(b []byte) { b[0] = 9 }))
	f.Fuzz(func(t *testing.T, token string) {
		id, generation, err := m.ParseRefresh(token)
		if err == nil && token != good || err != nil && !errors.Is(err, ErrRefreshInvalid) {
			t.Errorf("%q: %s %d, %v", token, id, generation, err)
		}
	})
}

func BenchmarkRefreshToken(b *testing.B) {
	m := newMint(b)
	token := m.refresh(noon)
	b.Run("make", func(b *testing.B) {
		for b.Loop() {
			m.refresh(noon)
		}
	})
	b.Run("parse", func(b *testing.B) {
		for b.Loop() {
			m.ParseRefresh(token)
		}
	})
}

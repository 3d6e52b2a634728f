package talk

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	ada      = UserID("01900000-0000-7000-8000-000000000001")
	adaPhone = SessionID("01900000-0000-7000-8000-00000000000a")
)

// mint is a place to make tokens, right and wrong ones.
type mint struct {
	*Tokens
	t     testing.TB
	now   time.Time
	shelf *keyShelf
	key   *key
}

func newMint(t testing.TB) *mint {
	m := &mint{t: t, now: noon, shelf: &keyShelf{}}
	keys := ring(t, m.shelf, secret)
	m.Tokens = NewTokens(keys, func() time.Time { return m.now }, "https://free2talk.example", "free2talk")
	m.key, _ = keys.signerAt(PurposeSign, noon)
	return m
}

func (m *mint) access(at time.Time) string {
	m.t.Helper()
	token, _, err := m.Access(ada, adaPhone, 3, at)
	if err != nil {
		m.t.Fatal(err)
	}
	return token
}

// header and claims are those of a right token at noon.
func (m *mint) header() map[string]any {
	return map[string]any{"alg": "EdDSA", "kid": m.key.id, "typ": "at+jwt"}
}

func (m *mint) claims() map[string]any {
	return map[string]any{
		"iss": "https://free2talk.example", "aud": "free2talk", "sub": ada, "sid": adaPhone, "gen": 3,
		"iat": noon.Unix(), "exp": noon.Add(AccessLifetime).Unix(),
	}
}

// forge signs what it is given by our own key.
func (m *mint) forge(header, claims any) string {
	return m.sign(header, claims, jwt.SigningMethodEdDSA, m.key.private())
}

func (m *mint) sign(header, claims any, method jwt.SigningMethod, key any) string {
	text := segment(header) + "." + segment(claims)
	signature, err := method.Sign(text, key)
	if err != nil {
		m.t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func segment(v any) string {
	raw, ok := v.(string)
	if !ok {
		raw = spelled(v)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(raw))
}

func spelled(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// with is m with some members set, or removed where the value is nil.
func with(m map[string]any, pairs ...any) map[string]any {
	m = maps.Clone(m)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
		if pairs[i+1] == nil {
			delete(m, pairs[i].(string))
		}
	}
	return m
}

func (m *mint) refuses(t *testing.T, name, token string) {
	t.Helper()
	if claims, err := m.Verify(token); !errors.Is(err, ErrTokenInvalid) || claims != (Claims{}) {
		t.Errorf("%s: %+v, %v", name, claims, err)
	}
}

func TestAccessToken(t *testing.T) {
	m := newMint(t)
	t.Run("it says who, and until when", func(t *testing.T) {
		token, expires, err := m.Access(ada, adaPhone, 3, noon)
		want := Claims{UserID: ada, SessionID: adaPhone, Generation: 3, ExpiresAt: noon.Add(15 * time.Minute)}
		for _, turn := range []string{"first", "remembered"} {
			if got, verifyErr := m.Verify(token); err != nil || verifyErr != nil || got != want || !expires.Equal(want.ExpiresAt) {
				t.Errorf("%s: %+v, %v, %v", turn, got, err, verifyErr)
			}
		}
		if got := m.Stats(); got.Verified != 1 || got.Remembered != 1 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("the same call gives the same token, on every node", func(t *testing.T) {
		other := NewTokens(ring(t, m.shelf, secret), m.clock, m.issuer, m.audience)
		again, _, _ := other.Access(ada, adaPhone, 3, noon)
		if m.access(noon) != again || m.access(noon) == m.access(noon.Add(time.Second)) {
			t.Error("they differ")
		}
	})
	t.Run("what the tests forge is right", func(t *testing.T) {
		if _, err := m.Verify(m.forge(m.header(), m.claims())); err != nil {
			t.Error(err)
		}
		if _, err := m.Verify(m.forge(m.header(), with(m.claims(), "aud", []string{"x", "free2talk"}, "nbf", noon.Unix(), "later", "claim"))); err != nil {
			t.Error(err)
		}
	})
	t.Run("checklist_16_what_is_no_token", func(t *testing.T) {
		for _, token := range []string{"", "x", "..", ".", "a.b.c", "Bearer x", strings.Repeat("a", 9<<10), m.access(noon) + "x", m.access(noon) + ".x", " " + m.access(noon)} {
			m.refuses(t, token[:min(20, len(token))], token)
		}
		padded := m.forge(m.header(), with(m.claims(), "x", strings.Repeat("x", 4<<10)))
		m.refuses(t, "over 4 KiB", padded)
	})
	t.Run("checklist_17_algorithms", func(t *testing.T) { m.algorithms(t) })
	t.Run("checklist_18_keys", func(t *testing.T) {
		for _, kid := range []any{nil, "", "0011223344556677", "../../etc", strings.Repeat("k", 1<<10), "' OR 1=1 --", 7, []string{m.key.id}} {
			m.refuses(t, "kid", m.forge(with(m.header(), "kid", kid), m.claims()))
		}
		foreign := newMint(t)
		for _, name := range []string{"jku", "x5u", "jwk"} {
			m.refuses(t, name, m.sign(with(m.header(), name, "https://evil.example/jwks"), m.claims(), jwt.SigningMethodEdDSA, foreign.key.private()))
		}
		m.refuses(t, "another's key", m.sign(m.header(), m.claims(), jwt.SigningMethodEdDSA, foreign.key.private()))
	})
	t.Run("checklist_19_claims", func(t *testing.T) { m.badClaims(t) })
	t.Run("checklist_20_types_crit_and_spelling", func(t *testing.T) { m.spellings(t) })
}

// TestAccessTokenCost measures what the whole process allocates, and so runs alone.
func TestAccessTokenCost(t *testing.T) {
	t.Run("checklist_21_22_bad_payloads_are_refused_and_cheap", func(t *testing.T) { newMint(t).badPayloads(t) })
}

func (m *mint) algorithms(t *testing.T) {
	public := m.key.public()
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rs, _ := rsa.GenerateKey(rand.Reader, 2048)
	m.refuses(t, "none", m.sign(with(m.header(), "alg", "none"), m.claims(), jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType))
	m.refuses(t, "HS256 by the public key", m.sign(with(m.header(), "alg", "HS256"), m.claims(), jwt.SigningMethodHS256, []byte(public)))
	m.refuses(t, "HS256 called EdDSA", m.sign(m.header(), m.claims(), jwt.SigningMethodHS256, []byte(public)))
	m.refuses(t, "RS256", m.sign(with(m.header(), "alg", "RS256"), m.claims(), jwt.SigningMethodRS256, rs))
	m.refuses(t, "ES256", m.sign(with(m.header(), "alg", "ES256"), m.claims(), jwt.SigningMethodES256, ec))
	for _, alg := range []any{"EdDSA ", "eddsa", "Ed25519", "", nil, 1} {
		m.refuses(t, "EdDSA in another spelling", m.forge(with(m.header(), "alg", alg), m.claims()))
	}
	token := m.access(noon)
	m.refuses(t, "no signature", token[:strings.LastIndexByte(token, '.')+1])
	m.refuses(t, "of another text", m.access(noon.Add(time.Second))[:len(token)-86]+token[len(token)-86:])
}

func (m *mint) badClaims(t *testing.T) {
	at := func(d time.Duration) int64 { return noon.Add(d).Unix() }
	for name, pairs := range map[string][]any{
		"aud other":            {"aud", "other"},
		"aud missing":          {"aud", nil},
		"aud null":             {"aud", json.RawMessage("null")},
		"aud empty list":       {"aud", []string{}},
		"aud list without us":  {"aud", []string{"a", "b"}},
		"aud number":           {"aud", 7},
		"iss other":            {"iss", "https://free2talk.example.evil"},
		"iss missing":          {"iss", nil},
		"sub missing":          {"sub", nil},
		"sub no UUID":          {"sub", "ada"},
		"sub not canonical":    {"sub", strings.ToUpper("01900000-0000-7000-8000-00000000000A")},
		"sid missing":          {"sid", nil},
		"sid no UUID":          {"sid", "{01900000-0000-7000-8000-00000000000a}"},
		"gen missing":          {"gen", nil},
		"gen 0":                {"gen", 0},
		"gen a string":         {"gen", "3"},
		"exp missing":          {"exp", nil},
		"exp null":             {"exp", json.RawMessage("null")},
		"exp a string":         {"exp", "1795348800"},
		"exp fraction":         {"exp", json.RawMessage("1795348800.5")},
		"exp before iat":       {"exp", at(-time.Second)},
		"exp - iat > 15 min":   {"exp", at(AccessLifetime + time.Second)},
		"exp far":              {"exp", int64(1) << 62},
		"exp and iat overflow": {"exp", int64(math.MaxInt64), "iat", -int64(1) << 62},
		"iat missing":          {"iat", nil},
		"iat future":           {"iat", at(6 * time.Second), "exp", at(time.Minute)},
		"nbf future":           {"nbf", at(6 * time.Second)},
		"nbf a string":         {"nbf", "now"},
	} {
		m.refuses(t, name, m.forge(m.header(), with(m.claims(), pairs...)))
	}
}

func (m *mint) spellings(t *testing.T) {
	for _, typ := range []any{"refresh", "id", "JWT", "AT+JWT", "application/at+jwt", "", nil, 1} {
		m.refuses(t, "typ", m.forge(with(m.header(), "typ", typ), m.claims()))
	}
	m.refuses(t, "crit", m.forge(with(m.header(), "crit", []string{"exp"}), m.claims()))
	m.refuses(t, "b64", m.forge(with(m.header(), "b64", false), m.claims()))
	token := m.access(noon)
	for name, other := range respelled(token) {
		m.refuses(t, name, other)
	}
	m.Verify(token)
	for name, other := range respelled(token) {
		m.refuses(t, name+" of one that is remembered", other)
	}
	refresh, _ := m.Refresh(adaPhone, 3, noon)
	m.refuses(t, "a refresh token", refresh)
}

// respelled are texts that a lenient decoder takes for the same token.
func respelled(token string) map[string]string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return map[string]string{
		"last character":  token[:len(token)-1] + alphabet[last^1:last^1+1],
		"padding":         token + "==",
		"line break":      token[:len(token)-9] + "\n" + token[len(token)-9:],
		"line break last": token + "\r\n",
		"line break amid": token[:len(token)/2] + "\n" + token[len(token)/2:],
		"line break head": token[:5] + "\r" + token[5:],
		"blank":           token + " ",
		"NUL":             token + "\x00",
	}
}

func (m *mint) badPayloads(t *testing.T) {
	body := spelled(m.claims())
	object := strings.TrimSuffix(body, "}")
	deep := strings.Repeat(`[`, 1200) + strings.Repeat(`]`, 1200)
	for name, token := range map[string]string{
		"a name twice":            m.forge(m.header(), object+`,"exp":`+"1795348801}"),
		"a name in two cases":     m.forge(m.header(), object+`,"EXP":`+"1795348801}"),
		"a name in odd letters":   m.forge(m.header(), object+`,"\u017fub":"x"}`),
		"a huge number":           m.forge(m.header(), object+`,"x":1e99999}`),
		"a huge generation":       m.forge(m.header(), with(m.claims(), "gen", json.RawMessage(strings.Repeat("9", 400)))),
		"nested lists":            m.forge(m.header(), object+`,"x":`+deep+`}`),
		"nested lists, unsigned":  m.key.header + "." + segment(`{"x":`+deep+`}`) + "." + strings.Repeat("A", 86),
		"nested objects":          m.forge(m.header(), object+`,"x":{"y":1}}`),
		"nested 10 000 deep":      m.key.header + "." + segment(strings.Repeat("[", 10000)) + "." + strings.Repeat("A", 86),
		"header 10 000 deep":      segment(strings.Repeat(`{"a":`, 10000)) + ".e30." + strings.Repeat("A", 86),
		"many names":              m.forge(m.header(), object+manyNames(40)+"}"),
		"invalid UTF-8":           m.forge(m.header(), strings.Replace(body, "free2talk\"", "free2talk\xff\"", 1)),
		"not JSON":                m.forge(m.header(), "claims"),
		"null":                    m.forge(m.header(), "null"),
		"a list":                  m.forge(m.header(), "["+body+"]"),
		"cut off":                 m.forge(m.header(), object),
		"something behind":        m.forge(m.header(), body+"{}"),
		"empty":                   m.forge(m.header(), ""),
		"1 MiB of dots":           strings.Repeat(".", 1<<20),
		"3 KiB of dots":           strings.Repeat(".", 3<<10),
		"a right header and dots": m.key.header + strings.Repeat(".", 3<<10),
	} {
		m.refuses(t, name, token)
		if allocated := cost(func() { m.Verify(token) }); allocated > 64<<10 {
			t.Errorf("%s: %d bytes", name, allocated)
		}
	}
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`,"` + strings.Repeat("x", i+1) + `":0`)
	}
	return b.String()
}

// cost is what f allocates: the least of some tries, as the rest of the process
// allocates too.
func cost(f func()) (allocated uint64) {
	allocated = math.MaxUint64
	for range 20 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f()
		runtime.ReadMemStats(&after)
		allocated = min(allocated, after.TotalAlloc-before.TotalAlloc)
	}
	return allocated
}

// BenchmarkRefusedToken is checklist 21's time: under a millisecond, however
// deep the payload.
func BenchmarkRefusedToken(b *testing.B) {
	m := newMint(b)
	deep := m.forge(m.header(), strings.TrimSuffix(spelled(m.claims()), "}")+`,"x":`+strings.Repeat("[", 1200)+strings.Repeat("]", 1200)+"}")
	for name, token := range map[string]string{"nested lists": deep, "1 MiB of dots": strings.Repeat(".", 1<<20)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := m.Verify(token); err == nil {
					b.Fatal("taken")
				}
			}
		})
	}
}

func TestAccessTokenTime(t *testing.T) {
	t.Parallel()
	m := newMint(t)
	token := m.access(noon)
	for _, memory := range []string{"fresh", "remembered"} {
		for _, c := range []struct {
			at   time.Duration
			want error
		}{
			{-6 * time.Second, ErrTokenInvalid},
			{-5 * time.Second, nil}, // a clock may be five seconds behind
			{-4 * time.Second, nil},
			{AccessLifetime - time.Second, nil},
			{AccessLifetime + 4*time.Second, nil},
			{AccessLifetime + 5*time.Second, ErrTokenExpired},
			{AccessLifetime + 6*time.Second, ErrTokenExpired},
			{time.Hour, ErrTokenExpired},
			{-time.Hour, ErrTokenInvalid}, // checklist 25: also for one that was known before the clock was set back
		} {
			if memory == "fresh" {
				m.memory = newTokenMemory()
			}
			m.now = noon.Add(c.at)
			if _, err := m.Verify(token); !errors.Is(err, c.want) || c.want == nil && err != nil {
				t.Errorf("checklist_25 %s, at %s: %v", memory, c.at, err)
			}
		}
		m.now = noon
		m.Verify(token)
	}
}

func TestAccessTokenRotation(t *testing.T) {
	m := newMint(t)
	other := NewTokens(ring(t, m.shelf, secret), m.clock, m.issuer, m.audience)
	before := m.access(noon)
	if err := m.keys.Rotate(t.Context(), noon); err != nil {
		t.Fatal(err)
	}
	// The new key's token, as a node with a wrong clock would make it.
	future := noon.Add(keyDelay)
	key, _ := m.keys.signerAt(PurposeSign, future)
	early := with(m.claims(), "iat", noon.Unix())
	premature := m.sign(with(m.header(), "kid", key.id), early, jwt.SigningMethodEdDSA, key.private())

	t.Run("checklist_24_a_key_is_refused_before_its_time", func(t *testing.T) {
		m.now = noon.Add(time.Minute)
		m.refuses(t, "known, not active", premature)
		if _, err := other.Verify(premature); !errors.Is(err, ErrTokenInvalid) {
			t.Errorf("not read yet: %v", err)
		}
		m.now = future
		if _, err := m.Verify(premature); err != nil {
			t.Errorf("in its time: %v", err)
		}
	})
	t.Run("checklist_24_nobody_notices_a_rotation", func(t *testing.T) {
		other.keys.Refresh(t.Context(), noon.Add(time.Minute)) // as every node does each minute
		for at := noon; at.Before(noon.Add(time.Hour)); at = at.Add(10 * time.Second) {
			m.now = at
			token := m.access(at)
			for _, node := range []*Tokens{m.Tokens, other} {
				if _, err := node.Verify(token); err != nil {
					t.Fatalf("%s: %v", at.Sub(noon), err)
				}
			}
			if _, err := other.Verify(before); at.Before(noon.Add(AccessLifetime)) && err != nil {
				t.Fatalf("the old token after %s: %v", at.Sub(noon), err)
			}
		}
	})
	t.Run("a key that was dropped takes the remembered tokens with it", func(t *testing.T) {
		m.now = noon.Add(3 * time.Minute)
		m.Verify(before)
		m.shelf.DropKeys(t.Context(), m.key.id)
		m.keys.Refresh(t.Context(), m.now)
		m.refuses(t, "remembered", before)
	})
}

func TestTokenMemory(t *testing.T) {
	t.Parallel()
	memory := newTokenMemory()
	name := func(i int) (n tokenName) { // all in one shard
		binary.BigEndian.PutUint32(n[1:], uint32(i))
		return n
	}
	memory.put(name(0), &knownToken{key: "kept"})
	for i := 1; i < 5*tokensYoung; i++ {
		memory.put(name(i), &knownToken{})
		if i%1000 == 0 {
			if known, ok := memory.get(name(0)); !ok || known.key != "kept" {
				t.Fatalf("what is used was forgotten after %d", i)
			}
		}
	}
	if shard := &memory.shards[0]; len(shard.young)+len(shard.old) > 2*tokensYoung {
		t.Errorf("%d tokens, at most %d", len(shard.young)+len(shard.old), 2*tokensYoung)
	}
	if _, ok := memory.get(name(1)); ok {
		t.Error("what nobody used is still there")
	}
}

func FuzzAccessToken(f *testing.F) {
	m := newMint(f)
	good := m.access(noon)
	seeds := []string{good, "", "..", m.forge(m.header(), "{}"), m.forge(m.header(), with(m.claims(), "exp", nil)), m.key.header + ".e30.AA"}
	for _, other := range respelled(good) {
		seeds = append(seeds, other)
	}
	for _, seed := range seeds {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		claims, err := m.Verify(token)
		switch {
		case err == nil && token != good:
			t.Errorf("%q was accepted as %+v", token, claims)
		case err != nil && !errors.Is(err, ErrTokenInvalid) && !errors.Is(err, ErrTokenExpired):
			t.Errorf("%q: %v", token, err)
		}
	})
}

// FuzzAccessPayload signs whatever it is given: the signature is no excuse.
func FuzzAccessPayload(f *testing.F) {
	m := newMint(f)
	body := spelled(m.claims())
	for _, seed := range []string{body, "{}", "null", `{"exp":1}`, `{"aud":[[]]}`, `{"exp":1,"exp":2}`, "[" + body} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, payload string) {
		claims, err := m.Verify(m.forge(m.header(), payload))
		if err == nil && (claims.UserID == "" || claims.SessionID == "" || claims.Generation < 1 || claims.ExpiresAt.After(noon.Add(AccessLifetime+leeway))) {
			t.Errorf("%q: %+v", payload, claims)
		}
	})
}

func BenchmarkAccessToken(b *testing.B) {
	m := newMint(b)
	token := m.access(noon)
	b.Run("make", func(b *testing.B) {
		for b.Loop() {
			m.access(noon)
		}
	})
	b.Run("verify", func(b *testing.B) {
		key := m.key
		for b.Loop() {
			m.read(token, key)
		}
	})
	b.Run("remembered", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Verify(token)
		}
	})
	b.Run("remembered in parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				m.Verify(token)
			}
		})
	})
}

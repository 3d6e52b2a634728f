package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
	"github.com/free2talk/free2talk/server/talk/talktest"
)

// forger makes tokens by hand, with the key that a node really signs with.
type forger struct {
	t      testing.TB
	kid    string
	key    ed25519.PrivateKey
	person *person
	now    time.Time
}

// forgerOf takes the newest signing key out of the database, where it lies plain.
func forgerOf(w *world, p *person) *forger {
	w.Helper()
	keys, err := w.nodes[0].store.Keys(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	f := &forger{t: w, person: p, now: w.nodes[0].clock.Now()}
	slices.SortFunc(keys, func(a, b talk.StoredKey) int { return a.ActiveAt.Compare(b.ActiveAt) })
	for _, key := range keys {
		if key.Purpose == talk.PurposeSign {
			f.kid, f.key = key.ID, ed25519.NewKeyFromSeed(key.Sealed[1:])
		}
	}
	return f
}

// object is a JSON object; set changes members, and removes those that are nil.
type object map[string]any

func (o object) set(pairs ...any) object {
	o = maps.Clone(o)
	for i := 0; i < len(pairs); i += 2 {
		o[pairs[i].(string)] = pairs[i+1]
		if pairs[i+1] == nil {
			delete(o, pairs[i].(string))
		}
	}
	return o
}

// header and claims are those of a right token.
func (f *forger) header() object { return object{"alg": "EdDSA", "kid": f.kid, "typ": "at+jwt"} }

func (f *forger) claims() object {
	return object{
		"iss": issuer, "aud": audience, "sub": f.person.ID, "sid": f.person.grant.SessionID, "gen": 1,
		"iat": f.now.Unix(), "exp": f.now.Add(talk.AccessLifetime).Unix(),
	}
}

func (f *forger) at(d time.Duration) int64 { return f.now.Add(d).Unix() }

func part(v any) string {
	text, raw := v.(string)
	if !raw {
		text = spelled(v)
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

// sign signs header and claims, which are text or become JSON.
func (f *forger) sign(header, claims any) string {
	return f.signBy(header, claims, jwt.SigningMethodEdDSA, f.key)
}

func (f *forger) signBy(header, claims any, method jwt.SigningMethod, key any) string {
	f.t.Helper()
	text := part(header) + "." + part(claims)
	signature, err := method.Sign(text, key)
	if err != nil {
		f.t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// forgeries are what is shown in place of an access token: the values of
// Authorization, by the item of the checklist and a name.
func (f *forger) forgeries() map[string]map[string][]string {
	all := map[string]map[string][]string{
		"checklist_16_what_is_no_token": {
			"another scheme": {"Basic YWRhOnNldmVu"}, "a scheme alone": {"Bearer"}, "nothing behind it": {"Bearer "},
			"no scheme": {f.sign(f.header(), f.claims())}, "9 KiB": {"Bearer " + strings.Repeat("a", 9<<10)},
			"two, both right": {"Bearer " + f.sign(f.header(), f.claims()), "Bearer " + f.sign(f.header(), f.claims())},
			"two in one":      {"Bearer " + f.sign(f.header(), f.claims()) + ", Bearer x"},
			"empty":           {""}, "a word": {"Bearer x"}, "two dots": {"Bearer .."},
		},
		"checklist_17_algorithms":                bearers(f.algorithms()),
		"checklist_18_kid_and_keys_from_outside": bearers(f.kids()),
		"checklist_19_claims":                    bearers(f.badClaims()),
		"checklist_20_types_crit_and_spelling":   bearers(f.spellings()),
		"checklist_21_payloads":                  bearers(f.payloads()),
		"checklist_22_dots":                      bearers(map[string]string{"4 KiB": strings.Repeat(".", 4<<10), "12 KiB": strings.Repeat(".", 12<<10)}),
	}
	return all
}

func bearers(tokens map[string]string) map[string][]string {
	values := map[string][]string{}
	for name, token := range tokens {
		values[name] = []string{"Bearer " + token}
	}
	return values
}

func (f *forger) algorithms() map[string]string {
	public := []byte(f.key.Public().(ed25519.PublicKey))
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	rs, _ := rsa.GenerateKey(rand.Reader, 2048)
	h, c := f.header(), f.claims()
	right := f.sign(h, c)
	return map[string]string{
		"none":                    f.signBy(h.set("alg", "none"), c, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType),
		"HS256 by the public key": f.signBy(h.set("alg", "HS256"), c, jwt.SigningMethodHS256, public),
		"HS256 called EdDSA":      f.signBy(h, c, jwt.SigningMethodHS256, public),
		"RS256":                   f.signBy(h.set("alg", "RS256"), c, jwt.SigningMethodRS256, rs),
		"ES256":                   f.signBy(h.set("alg", "ES256"), c, jwt.SigningMethodES256, ec),
		"with a blank":            f.sign(h.set("alg", "EdDSA "), c),
		"in another case":         f.sign(h.set("alg", "eddsa"), c),
		"missing":                 f.sign(h.set("alg", nil), c),
		"no signature":            right[:strings.LastIndexByte(right, '.')+1],
		"of another text":         f.sign(h, c.set("gen", 2))[:len(right)-86] + right[len(right)-86:],
	}
}

func (f *forger) kids() map[string]string {
	h, c := f.header(), f.claims()
	_, mine, _ := ed25519.GenerateKey(rand.Reader)
	jwk := object{"kty": "OKP", "crv": "Ed25519", "x": part(string(mine.Public().(ed25519.PublicKey)))}
	tokens := map[string]string{
		"missing": f.sign(h.set("kid", nil), c), "a number": f.sign(h.set("kid", 7), c),
		"ours, by another's key": f.signBy(h, c, jwt.SigningMethodEdDSA, mine),
		"a jwk of their own":     f.signBy(h.set("jwk", jwk), c, jwt.SigningMethodEdDSA, mine),
		"a jwk beside our key":   f.sign(h.set("jwk", jwk), c),
		"jku":                    f.signBy(h.set("jku", "http://127.0.0.1:1/keys"), c, jwt.SigningMethodEdDSA, mine),
		"x5u beside our key":     f.sign(h.set("x5u", "http://127.0.0.1:1/chain"), c),
	}
	for _, kid := range []string{"0011223344556677", "../../etc/passwd", strings.Repeat("k", 1<<10), "' OR 1=1 --", ""} {
		tokens["unknown: "+kid] = f.sign(h.set("kid", kid), c)
	}
	return tokens
}

func (f *forger) badClaims() map[string]string {
	tokens := map[string]string{}
	for name, pairs := range map[string][]any{
		"aud other": {"aud", "other"}, "aud missing": {"aud", nil}, "aud list without us": {"aud", []string{"a", "b"}},
		"iss other": {"iss", "free2talk.evil"}, "iss missing": {"iss", nil},
		"exp missing": {"exp", nil}, "exp - iat over 15 min": {"exp", f.at(talk.AccessLifetime + time.Second)},
		"nbf future": {"nbf", f.at(6 * time.Second)},
		"iat future": {"iat", f.at(6 * time.Second), "exp", f.at(time.Minute)},
		"sub no id":  {"sub", "ada"}, "sid missing": {"sid", nil}, "gen 0": {"gen", 0},
	} {
		tokens[name] = f.sign(f.header(), f.claims().set(pairs...))
	}
	return tokens
}

func (f *forger) spellings() map[string]string {
	h, c := f.header(), f.claims()
	tokens := map[string]string{
		"typ missing": f.sign(h.set("typ", nil), c), "crit": f.sign(h.set("crit", []string{"exp"}), c),
		"the refresh token": f.person.grant.RefreshToken,
	}
	for _, typ := range []string{"refresh", "rt+jwt", "id", "JWT", "AT+JWT"} {
		tokens["typ "+typ] = f.sign(h.set("typ", typ), c)
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	right := f.person.grant.AccessToken
	last := strings.IndexByte(alphabet, right[len(right)-1])
	tokens["last character"] = right[:len(right)-1] + alphabet[last^1:last^1+1]
	tokens["padding"] = right + "=="
	return tokens
}

func (f *forger) payloads() map[string]string {
	h, body := f.header(), spelled(f.claims())
	open := strings.TrimSuffix(body, "}")
	return map[string]string{
		"a name twice":            f.sign(h, open+`,"aud":"free2talk"}`),
		"a name in another case":  f.sign(h, open+`,"AUD":"free2talk"}`),
		"a huge number":           f.sign(h, open+`,"x":1e99999}`),
		"a huge exp":              f.sign(h, strings.Replace(body, `"exp":`, `"exp":999999999999999999999`, 1)),
		"nested":                  f.sign(h, open+`,"x":{"y":1}}`),
		"nested 10 000 deep":      part(h) + "." + part(strings.Repeat("[", 10_000)) + "." + strings.Repeat("A", 86),
		"nested 1 000 deep, ours": f.sign(h, open+`,"x":`+strings.Repeat("[", 1_000)+strings.Repeat("]", 1_000)+"}"),
		"invalid UTF-8":           f.sign(h, strings.Replace(body, `free2talk"`, "free2talk\xff\"", 1)),
		"not JSON":                f.sign(h, "claims"), "null": f.sign(h, "null"), "empty": f.sign(h, ""),
		"something behind": f.sign(h, body+"{}"),
	}
}

// TestToken shows every forgery to a node. Each is refused in the same words,
// at the cost of no query.
func TestToken(t *testing.T) {
	asked := &queries{}
	w := newWorld(t, onEmbedded, 1, plainKeys, withClock(talktest.NewClock().Now), watchedBy(asked))
	p := w.person()
	f := forgerOf(w, p)
	n := w.nodes[0]
	right := f.sign(f.header(), f.claims())
	if a := w.speak(n, "AuthService/GetMe", `{}`, "Authorization", "Bearer "+right); a.status != http.StatusOK || len(asked.take()) == 0 {
		t.Fatalf("what the test forges is not right: %d %s", a.status, a.body)
	}
	for item, tokens := range f.forgeries() {
		t.Run(item, func(t *testing.T) {
			for name, values := range tokens {
				var headers []string
				for _, value := range values {
					headers = append(headers, "Authorization", value)
				}
				a := w.speak(n, "AuthService/GetMe", `{}`, headers...)
				a.refusedAs(t, name, "unauthenticated", "TOKEN_INVALID")
				if strings.Contains(a.body, values[0][min(7, len(values[0])):]) && len(values[0]) > 20 {
					t.Errorf("%s is echoed: %s", name, a.body)
				}
			}
			if got := asked.take(); len(got) > 0 {
				t.Errorf("queries: %q", got)
			}
		})
	}
	t.Run("checklist_16_no_header", func(t *testing.T) {
		a := w.speak(n, "AuthService/GetMe", `{}`)
		a.refusedAs(t, "none", "unauthenticated", "TOKEN_MISSING")
		if got := asked.take(); len(got) > 0 || a.header.Get("Www-Authenticate") != "Bearer" {
			t.Errorf("queries %q, headers %v", got, a.header)
		}
	})
}

// TestTokenExpired moves the clock by hand, to the second.
func TestTokenExpired(t *testing.T) {
	clock := talktest.NewClock()
	asked := &queries{}
	w := newWorld(t, onEmbedded, 1, plainKeys, withClock(clock.Now), watchedBy(asked))
	p := w.person()
	f := forgerOf(w, p)
	show := func(token string) spoken {
		return w.speak(w.nodes[0], "AuthService/GetMe", `{}`, "Authorization", "Bearer "+token)
	}
	t.Run("checklist_19_the_leeway_is_five_seconds", func(t *testing.T) {
		early := f.sign(f.header(), f.claims().set("iat", f.at(4*time.Second), "exp", f.at(time.Minute)))
		soon := f.sign(f.header(), f.claims().set("nbf", f.at(5*time.Second)))
		late := f.sign(f.header(), f.claims().set("iat", f.at(-time.Minute), "exp", f.at(-4*time.Second)))
		for name, token := range map[string]string{"iat": early, "nbf": soon, "exp": late} {
			if a := show(token); a.status != http.StatusOK {
				t.Errorf("%s within the leeway: %s", name, a.body)
			}
		}
		past := f.sign(f.header(), f.claims().set("iat", f.at(-time.Minute), "exp", f.at(-6*time.Second)))
		asked.take()
		show(past).refusedAs(t, "exp past by 6 s", "unauthenticated", "TOKEN_EXPIRED")
		if got := asked.take(); len(got) > 0 {
			t.Errorf("queries: %q", got)
		}
	})
	t.Run("checklist_19_a_token_of_a_grant_lives_fifteen_minutes", func(t *testing.T) {
		clock.Add(talk.AccessLifetime + 4*time.Second)
		if a := show(p.grant.AccessToken); a.status != http.StatusOK {
			t.Errorf("within the leeway: %s", a.body)
		}
		clock.Add(2 * time.Second)
		show(p.grant.AccessToken).refusedAs(t, "6 s past", "unauthenticated", "TOKEN_EXPIRED")
	})
}

// TestTokenCostsNoRedis counts a Redis's own commands, with all limits on.
func TestTokenCostsNoRedis(t *testing.T) {
	server := testenv.StartRedis(t)
	redis := askOf(t, server)
	w := newWorld(t, onOwnRedis(server), 1, plainKeys, withClock(talktest.NewClock().Now), withLimits(t, ""))
	w.redisUsed()
	f := forgerOf(w, w.person())
	t.Run("checklist_16_17_18_19_20_21_22_no_call_for_a_malformed_token", func(t *testing.T) {
		// What the node does by itself, such as renewing its presence, may fall into
		// one showing or two; what a token costs falls into each.
		costs := func(what, token string) (calls int) {
			for range 10 {
				before := commands(t, redis)
				w.speak(w.nodes[0], "AuthService/GetMe", `{}`, "Authorization", token).refusedAs(t, what, "unauthenticated", "TOKEN_INVALID")
				if calls = commands(t, redis) - before; calls == 0 {
					break
				}
			}
			return calls
		}
		for item, tokens := range f.forgeries() {
			for name, values := range tokens {
				if what := item + ", " + name; len(values) == 1 {
					if calls := costs(what, values[0]); calls > 0 {
						t.Errorf("%s: %d calls at each showing", what, calls)
					}
				}
			}
		}
	})
	t.Run("checklist_16_at_most_the_limiters_for_a_missing_one", func(t *testing.T) {
		w.speak(w.nodes[0], "AuthService/GetMe", `{}`).refusedAs(t, "none", "unauthenticated", "TOKEN_MISSING")
		keys, err := redis.Keys(t.Context(), "*").Result()
		keys = slices.DeleteFunc(keys, func(key string) bool {
			return strings.Contains(key, ":presence:") || strings.Contains(key, ":analytics:") // what nodes do by themselves
		})
		if err != nil || len(keys) != 1 || !strings.Contains(keys[0], ":rl:api:") {
			t.Errorf("keys %q, %v", keys, err)
		}
	})
}

// TestTokenOfAMebibyte is more than a header may hold.
func TestTokenOfAMebibyte(t *testing.T) {
	w := newWorld(t, onEmbedded, 1)
	t.Run("checklist_22_1_MiB_of_dots", func(t *testing.T) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.nodes[0].url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() {
			_, _ = conn.Write([]byte("POST /free2talk.v1.AuthService/GetMe HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "))
			_, _ = conn.Write([]byte(strings.Repeat(".", 1<<20)))
		}()
		reply, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		if reply.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("status %d", reply.StatusCode)
		}
	})
}

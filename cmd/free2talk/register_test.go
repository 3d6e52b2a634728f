package main

import (
	"net/http"
	"strings"
	"testing"
)

// enroll registers by plain HTTP.
func (w *world) enroll(n *testNode, email, username, with string) spoken {
	w.Helper()
	return w.speak(n, "AuthService/Register", spelled(object{"email": email, "username": username, "password": with}))
}

func TestRegister(t *testing.T) {
	w := newWorld(t, onPostgres, 1)
	n := w.nodes[0]
	hashes := func() int64 { return n.accounts.Passwords.Stats().Done }
	// free registers what nobody has yet, but for what c says.
	people := 0
	try := func(change func(*[3]string)) spoken {
		people++
		name := "free-" + strings.Repeat("x", people)
		said := [3]string{name + "@example.org", name, password}
		change(&said)
		return w.enroll(n, said[0], said[1], said[2])
	}
	refuse := func(t *testing.T, field, value, reason string) {
		t.Helper()
		before := hashes()
		a := try(func(said *[3]string) { said[map[string]int{"email": 0, "username": 1, "password": 2}[field]] = value })
		a.refusedAs(t, field+" "+value, "invalid_argument", reason)
		if got := a.violations(); reason == "" && (len(got) == 0 || got[0] != field) {
			t.Errorf("%s %.40q: violations of %q", field, value, got)
		}
		if hashes() != before {
			t.Errorf("%s %.40q was hashed for", field, value)
		}
		if len(value) > 9 && strings.Contains(a.body, value) {
			t.Errorf("echoed: %s", a.body)
		}
	}
	with := func(value string) spoken { return try(func(said *[3]string) { said[2] = value }) }
	t.Run("checklist_1_lengths_of_a_password", func(t *testing.T) {
		refuse(t, "password", "seven 7", "")
		refuse(t, "password", strings.Repeat("é ", 64)+"!", "")
		refuse(t, "password", strings.Repeat("😀", 129), "")
		refuse(t, "password", strings.Repeat("x", 513), "")
		for _, good := range []string{"kettle 8", strings.Repeat("é ", 64), strings.Repeat("😀", 127) + "!"} {
			with(good).pair(t)
		}
	})
	t.Run("checklist_2_any_character_and_only_the_exact_bytes", func(t *testing.T) {
		const exact = "  P\u00e4ss 😀\x01\x1f word "
		w.enroll(n, "exact@example.org", "exact", exact).pair(t)
		w.knock(n, "exact", exact).pair(t)
		for _, near := range []string{strings.TrimSpace(exact), strings.ToLower(exact), strings.TrimSuffix(exact, " "), exact + " ", strings.Replace(exact, "\u00e4", "a\u0308", 1)} {
			w.knock(n, "exact", near).refusedAs(t, near, "unauthenticated", "BAD_CREDENTIALS")
		}
		refuse(t, "password", "seven blue\x00kettles", "")
	})
	t.Run("checklist_3_common_and_own_words", func(t *testing.T) {
		for _, weak := range []string{"password", "PassWord1", "12345678", "free2talk", "Free2Talk!1"} {
			refuse(t, "password", weak, "PASSWORD_WEAK")
		}
		for _, weak := range []string{"kettledrum", "Kettledrum123", "timpanist99"} {
			w.enroll(n, "timpanist@example.org", "kettledrum", weak).refusedAs(t, weak, "invalid_argument", "PASSWORD_WEAK")
		}
	})
	t.Run("checklist_4_e-mail_addresses", func(t *testing.T) {
		for _, bad := range []string{
			"", "nobody", "@example.org", "a@", strings.Repeat("a", 243) + "@example.org", "a@example.org\r\nBcc: b@example.org",
			"a\x00@example.org", "аda@example.org", "ada@exаmple.org", " ada@example.org", "ada@example.org ", "a b@example.org", "a@b@example.org",
		} {
			refuse(t, "email", bad, "")
		}
		w.enroll(n, "Case@Example.org", "case-one", password).pair(t)
		w.enroll(n, "case@exAMPLE.ORG", "case-two", password).refusedAs(t, "another case", "already_exists", "EMAIL_TAKEN")
		a := w.knock(n, "CASE@example.org", password)
		a.pair(t)
		if !strings.Contains(a.body, `"Case@Example.org"`) {
			t.Errorf("not as it was typed: %s", a.body)
		}
	})
	t.Run("checklist_5_usernames", func(t *testing.T) {
		for _, bad := range []string{"", "ab", strings.Repeat("a", 51), "a b c", "ada!", "адa", "ada\u200bada", "\u202eada", "ada\nada", "ada\x00", "ada.lovelace"} {
			refuse(t, "username", bad, "")
		}
		for _, reserved := range []string{"admin", "ROOT", "Support", "api", "ad-min", "free2talk"} {
			refuse(t, "username", reserved, "USERNAME_RESERVED")
		}
	})
	t.Run("checklist_6_taken_names_are_told", func(t *testing.T) {
		w.enroll(n, "taken@example.org", "taken", password).pair(t)
		before := hashes()
		w.enroll(n, "taken@example.org", "other", password).refusedAs(t, "the e-mail", "already_exists", "EMAIL_TAKEN")
		w.enroll(n, "other@example.org", "TAKEN", password).refusedAs(t, "the username", "already_exists", "USERNAME_TAKEN")
		if hashes() != before {
			t.Error("hashed for nothing")
		}
	})
	t.Run("checklist_8_nothing_else_is_taken_from_a_registration", func(t *testing.T) {
		a := w.speak(n, "AuthService/Register", spelled(object{
			"email": "mallory@example.org", "username": "mallory", "password": password,
			"role": "ROLE_ADMIN", "is_admin": true, "isAdmin": true, "id": "01900000-0000-7000-8000-000000000001",
			"user": object{"role": "ROLE_ADMIN"}, "passwordHash": "x", "createdAt": "2001-01-01T00:00:00Z",
		}))
		a.pair(t)
		for _, a := range []spoken{a, w.knock(n, "mallory", password)} {
			if !strings.Contains(a.body, `"ROLE_USER"`) || strings.Contains(a.body, "01900000-0000-7000-8000") || strings.Contains(a.body, "2001-01-01") {
				t.Errorf("taken: %s", a.body)
			}
		}
	})
}

// TestRegisterIsLimited counts what tells that a name is taken.
func TestRegisterIsLimited(t *testing.T) {
	w := newWorld(t, onEmbedded, 1, withLimits(t, "auth=5/15m"))
	n := w.nodes[0]
	w.enroll(n, "taken@example.org", "taken", password).pair(t)
	t.Run("checklist_6_who_asks_for_taken_names_is_limited", func(t *testing.T) {
		w.enroll(n, "a@example.org", "a b", password).refusedAs(t, "a typo", "invalid_argument", "")
		for i := range 5 {
			if i%2 == 0 {
				w.enroll(n, "taken@example.org", "other", password).refusedAs(t, "the e-mail", "already_exists", "EMAIL_TAKEN")
			} else {
				w.enroll(n, "other@example.org", "taken", password).refusedAs(t, "the username", "already_exists", "USERNAME_TAKEN")
			}
		}
		for _, a := range []spoken{w.enroll(n, "taken@example.org", "other", password), w.enroll(n, "new@example.org", "new-one", password)} {
			a.refusedAs(t, "the sixth", "resource_exhausted", "RATE_LIMITED")
			a.saysWhen(t, "the sixth")
			if a.status != http.StatusTooManyRequests {
				t.Errorf("status %d", a.status)
			}
		}
	})
}

// TestRegisterAtOnce has a hundred people want one e-mail address.
func TestRegisterAtOnce(t *testing.T) {
	const people = 100
	w := newWorld(t, onPostgres, 2)
	t.Run("checklist_7_one_account", func(t *testing.T) {
		answers := together(people, func(i int) spoken {
			email := "ada@example.org"
			if i%2 == 0 {
				email = "ADA@example.org"
			}
			return w.speak(w.at(i), "AuthService/Register", spelled(object{
				"email": email, "username": "ada-" + strings.Repeat("a", i%40) + string(rune('a'+i/40)), "password": password,
			}), "Connect-Timeout-Ms", "30000")
		})
		in := 0
		for _, a := range answers {
			if a.status == http.StatusOK {
				in++
				continue
			}
			a.refusedAs(t, "a loser", "already_exists", "EMAIL_TAKEN")
		}
		if in != 1 || w.number("SELECT count(*) FROM users") != 1 {
			t.Errorf("%d registered, %d rows", in, w.number("SELECT count(*) FROM users"))
		}
	})
}

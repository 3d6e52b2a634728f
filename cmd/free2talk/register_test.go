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

// desk is where people register, one after the other.
type desk struct {
	*world
	n      *testNode
	people int
}

// try registers who is not there yet, but for one field.
func (d *desk) try(field, value string) spoken {
	d.Helper()
	d.people++
	name := "free-" + strings.Repeat("x", d.people)
	said := object{"email": name + "@example.org", "username": name, "password": password, field: value}
	return d.speak(d.n, "AuthService/Register", spelled(said))
}

func (d *desk) hashes() int64 { return d.n.accounts.Passwords.Stats().Done }

// refuse says that a value is invalid, by its field or by a reason, and that
// nothing was hashed for it.
func (d *desk) refuse(t *testing.T, field, value, reason string) {
	t.Helper()
	before := d.hashes()
	a := d.try(field, value)
	a.refusedAs(t, field+" "+value, "invalid_argument", reason)
	if got := a.violations(); reason == "" && (len(got) == 0 || got[0] != field) {
		t.Errorf("%s %.40q: violations of %q", field, value, got)
	}
	if d.hashes() != before {
		t.Errorf("%s %.40q was hashed for", field, value)
	}
	if len(value) > 9 && strings.Contains(a.body, value) {
		t.Errorf("echoed: %s", a.body)
	}
}

func TestRegister(t *testing.T) {
	w := newWorld(t, onPostgres, 1)
	d := &desk{world: w, n: w.nodes[0]}
	t.Run("checklist_1_lengths_of_a_password", d.lengths)
	t.Run("checklist_2_any_character_and_only_the_exact_bytes", d.characters)
	t.Run("checklist_3_common_and_own_words", d.commonWords)
	t.Run("checklist_4_e-mail_addresses", d.addresses)
	t.Run("checklist_5_usernames", d.usernames)
	t.Run("checklist_6_taken_names_are_told", d.takenNames)
	t.Run("checklist_8_nothing_else_is_taken_from_a_registration", d.otherFields)
}

// lengths are of a password, in characters and in bytes.
func (d *desk) lengths(t *testing.T) {
	d.refuse(t, "password", "seven 7", "")
	d.refuse(t, "password", strings.Repeat("é ", 64)+"!", "")
	d.refuse(t, "password", strings.Repeat("😀", 129), "")
	d.refuse(t, "password", strings.Repeat("x", 513), "")
	for _, good := range []string{"kettle 8", strings.Repeat("é ", 64), strings.Repeat("😀", 127) + "!"} {
		d.try("password", good).pair(t)
	}
}

// characters may be any in a password, and all of them count.
func (d *desk) characters(t *testing.T) {
	const exact = "  P\u00e4ss 😀\x01\x1f word "
	d.enroll(d.n, "exact@example.org", "exact", exact).pair(t)
	d.knock(d.n, "exact", exact).pair(t)
	for _, near := range []string{strings.TrimSpace(exact), strings.ToLower(exact), strings.TrimSuffix(exact, " "), exact + " ", strings.Replace(exact, "\u00e4", "a\u0308", 1)} {
		d.knock(d.n, "exact", near).refusedAs(t, near, "unauthenticated", "BAD_CREDENTIALS")
	}
	d.refuse(t, "password", "seven blue\x00kettles", "")
}

// commonWords are what everybody guesses first, and one's own names.
func (d *desk) commonWords(t *testing.T) {
	for _, weak := range []string{"password", "PassWord1", "12345678", "free2talk", "Free2Talk!1"} {
		d.refuse(t, "password", weak, "PASSWORD_WEAK")
	}
	for _, weak := range []string{"kettledrum", "Kettledrum123", "timpanist99"} {
		d.enroll(d.n, "timpanist@example.org", "kettledrum", weak).refusedAs(t, weak, "invalid_argument", "PASSWORD_WEAK")
	}
}

// addresses are of e-mail.
func (d *desk) addresses(t *testing.T) {
	for _, bad := range []string{
		"", "nobody", "@example.org", "a@", strings.Repeat("a", 243) + "@example.org", "a@example.org\r\nBcc: b@example.org",
		"a\x00@example.org", "\u0430da@example.org", "ada@ex\u0430mple.org", " ada@example.org", "ada@example.org ", "a b@example.org", "a@b@example.org",
	} {
		d.refuse(t, "email", bad, "")
	}
	d.enroll(d.n, "Case@Example.org", "case-one", password).pair(t)
	d.enroll(d.n, "case@exAMPLE.ORG", "case-two", password).refusedAs(t, "another case", "already_exists", "EMAIL_TAKEN")
	a := d.knock(d.n, "CASE@example.org", password)
	a.pair(t)
	if !strings.Contains(a.body, `"Case@Example.org"`) {
		t.Errorf("not as it was typed: %s", a.body)
	}
}

// usernames have few characters, and some are reserved.
func (d *desk) usernames(t *testing.T) {
	for _, bad := range []string{"", "ab", strings.Repeat("a", 51), "a b c", "ada!", "\u0430\u0434a", "ada\u200bada", "\u202eada", "ada\nada", "ada\x00", "ada.lovelace"} {
		d.refuse(t, "username", bad, "")
	}
	for _, reserved := range []string{"admin", "ROOT", "Support", "api", "ad-min", "free2talk"} {
		d.refuse(t, "username", reserved, "USERNAME_RESERVED")
	}
}

// takenNames are told, before anything is hashed.
func (d *desk) takenNames(t *testing.T) {
	d.enroll(d.n, "taken@example.org", "taken", password).pair(t)
	before := d.hashes()
	d.enroll(d.n, "taken@example.org", "other", password).refusedAs(t, "the e-mail", "already_exists", "EMAIL_TAKEN")
	d.enroll(d.n, "other@example.org", "TAKEN", password).refusedAs(t, "the username", "already_exists", "USERNAME_TAKEN")
	if d.hashes() != before {
		t.Error("hashed for nothing")
	}
}

// otherFields than a registration's are not taken from it.
func (d *desk) otherFields(t *testing.T) {
	a := d.speak(d.n, "AuthService/Register", spelled(object{
		"email": "mallory@example.org", "username": "mallory", "password": password,
		"role": "ROLE_ADMIN", "is_admin": true, "isAdmin": true, "id": "01900000-0000-7000-8000-000000000001",
		"user": object{"role": "ROLE_ADMIN"}, "passwordHash": "x", "createdAt": "2001-01-01T00:00:00Z",
	}))
	a.pair(t)
	for _, a := range []spoken{a, d.knock(d.n, "mallory", password)} {
		if !strings.Contains(a.body, `"ROLE_USER"`) || strings.Contains(a.body, "01900000-0000-7000-8000") || strings.Contains(a.body, "2001-01-01") {
			t.Errorf("taken: %s", a.body)
		}
	}
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

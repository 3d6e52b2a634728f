package talk

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/text/language"
)

// reserved names would let somebody speak for the server, or stand where a
// program writes a word of its own. They are kept as their skeletons.
var reserved = skeletons(
	"abuse", "account", "accounts", "admin", "administrator", "administration", "anonymous", "api", "auth",
	"billing", "bot", "contact", "deleted", "everyone", "free2talk", "free2talkadmin", "free2talksupport",
	"free2talkteam", "freetotalk", "guest", "help", "helpdesk", "here", "hostmaster", "info", "legal", "login",
	"logout", "mail", "me", "mod", "moderator", "moderators", "myself", "nan", "news", "nil", "nobody", "none",
	"noreply", "null", "official", "operator", "owner", "password", "postmaster", "privacy", "register", "room",
	"rooms", "root", "security", "self", "server", "service", "settings", "signin", "signup", "staff", "superuser",
	"support", "sysadmin", "sysop", "system", "team", "terms", "true", "false", "undefined", "unknown",
	"user", "username", "users", "webmaster", "www",
)

func skeletons(names ...string) map[string]bool {
	set := map[string]bool{}
	for _, name := range names {
		set[skeleton(name)] = true
	}
	return set
}

// lookalikes brings characters that look alike to one of them.
var lookalikes = strings.NewReplacer("_", "", "-", "", "0", "o", "1", "i", "l", "i", "3", "e", "4", "a", "5", "s", "7", "t")

func skeleton(name string) string { return lookalikes.Replace(strings.ToLower(name)) }

// CheckUsername returns ErrUsernameReserved for the names that nobody may
// take, in any case and under simple disguises, and an *InvalidInput for what
// is not 3 to 50 of A-Z, a-z, 0-9, _ and -.
func CheckUsername(name string) error {
	if len(name) <= 50 && reserved[skeleton(name)] {
		return ErrUsernameReserved
	}
	if len(name) < 3 || len(name) > 50 || strings.ContainsFunc(name, func(r rune) bool { return !wordly(r) && r != '_' && r != '-' }) {
		return &InvalidInput{"username", "3 to 50 of A-Z, a-z, 0-9, _ and -"}
	}
	return nil
}

// wordly reports whether r is an ASCII letter or digit.
func wordly(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
}

// CheckLanguages returns tags in the form in which they are stored: BCP 47,
// canonical ("iw" is "he"), lower case. It returns an *InvalidInput, naming the
// place in field, for a tag that names no language or comes twice.
func CheckLanguages(field string, tags []string) ([]string, error) {
	checked := make([]string, 0, len(tags))
	for i, tag := range tags {
		canonical, ok := canonicalLanguage(tag)
		place := fmt.Sprintf("%s[%d]", field, i)
		if !ok {
			return nil, &InvalidInput{place, "a BCP 47 language tag, such as es or pt-br"}
		}
		if slices.Contains(checked, canonical) {
			return nil, &InvalidInput{place, "a language that was not named before"}
		}
		checked = append(checked, canonical)
	}
	return checked, nil
}

// CanonicalLanguage is how rooms spell a language that somebody looks for: "he"
// for "iw". What is no language stays as it is, and finds nothing.
func CanonicalLanguage(tag string) string {
	if canonical, ok := canonicalLanguage(tag); ok {
		return canonical
	}
	return tag
}

// canonicalLanguage knows language, script, region and variants. Extensions
// and private use say how to sort or to write, not what is spoken.
func canonicalLanguage(tag string) (string, bool) {
	if len(tag) > 35 || strings.ContainsFunc(tag, func(r rune) bool { return !wordly(r) && r != '-' }) {
		return "", false
	}
	parsed, err := language.Parse(tag)
	if err != nil || len(parsed.Extensions()) > 0 {
		return "", false
	}
	base, _, _ := parsed.Raw() // Base would guess one for "und-mx"
	switch name := base.String(); {
	case name == "und", name == "mul", name == "mis", name == "zxx": // unknown, several, none of the known, none
		return "", false
	case len(name) == 3 && "qaa" <= name && name <= "qtz": // private use
		return "", false
	}
	return strings.ToLower(parsed.String()), true
}

// mostSlug is how much of a name goes into a slug.
const mostSlug = 48

// Slug makes the last part of a room's address out of its name: what of it
// can be written in [a-z0-9-], at most 48 characters, and eight random ones,
// so that it is never empty and never the same twice.
func Slug(name string) string {
	var b [5]byte // 40 bits are eight characters of base 32
	rand.Read(b[:])
	return slug(name, b)
}

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func slug(name string, random [5]byte) string {
	words := strings.FieldsFunc(plain(name), func(r rune) bool { return !wordly(r) })
	text := strings.Join(words, "-")
	text = strings.Trim(text[:min(len(text), mostSlug)], "-")
	if text == "" {
		text = "room" // a name in another script
	}
	return text + "-" + base32Lower.EncodeToString(random[:])
}

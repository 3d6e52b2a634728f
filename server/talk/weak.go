package talk

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Bounds of a password. Every character counts, and all are allowed but NUL.
const (
	LeastPassword = 8   // characters
	MostPassword  = 128 // characters
	bytesPassword = 512
)

// Where the list is from and under which licences stands in common_passwords.LICENSE.
//
//go:embed common_passwords.txt
var commonPasswords string

// common is split when the first password is checked, so that it costs a
// start nothing.
var common = sync.OnceValue(func() []string {
	return strings.Split(strings.TrimSuffix(commonPasswords, "\n"), "\n")
})

// CheckPassword returns an *InvalidInput where password is too short, too long
// or holds a NUL, and ErrPasswordWeak where it is one of those that many people
// use, or made of the person's own words (username, e-mail address, display
// name) and ours, with nothing but digits and punctuation around them.
// It costs microseconds: check before hashing.
func CheckPassword(password string, own ...string) error {
	return checkPassword("password", password, own...)
}

// checkPassword is [CheckPassword] for the request's field of that name.
func checkPassword(field, password string, own ...string) error {
	switch n := utf8.RuneCountInString(password); {
	case len(password) > bytesPassword, n > MostPassword:
		return &InvalidInput{field, "at most 128 characters"}
	case n < LeastPassword:
		return &InvalidInput{field, "at least 8 characters"}
	case !utf8.ValidString(password), strings.ContainsRune(password, 0):
		return &InvalidInput{field, "text without NUL"}
	}
	if _, found := slices.BinarySearch(common(), strings.ToLower(password)); found {
		return ErrPasswordWeak
	}
	if madeOf(password, append([]string{"free2talk"}, own...)) {
		return ErrPasswordWeak
	}
	return nil
}

// madeOf reports whether password consists of words and parts of them, digits
// and punctuation, without regard to case and accents.
func madeOf(password string, words []string) bool {
	whole := keep(plain(password), unicode.IsLetter, unicode.IsDigit)
	letters := keep(whole, unicode.IsLetter)
	var parts []string
	for _, word := range words {
		word, _, _ = strings.Cut(word, "@") // of an e-mail address the local part
		word = plain(word)
		name := keep(word, unicode.IsLetter, unicode.IsDigit)
		if name == "" {
			continue
		}
		if whole == name {
			return true
		}
		parts = append(parts, keep(name, unicode.IsLetter))
		for _, part := range strings.FieldsFunc(word, func(r rune) bool { return !unicode.IsLetter(r) }) {
			if utf8.RuneCountInString(part) >= 3 { // fewer would forbid by chance
				parts = append(parts, part)
			}
		}
	}
	return letters != "" && spells(letters, parts)
}

// spells reports whether text is parts one after another, each as often as one likes.
func spells(text string, parts []string) bool {
	reached := make([]bool, len(text)+1)
	reached[0] = true
	for i := range text {
		for _, part := range parts {
			if reached[i] && part != "" && strings.HasPrefix(text[i:], part) {
				reached[i+len(part)] = true
			}
		}
	}
	return reached[len(text)]
}

// plain is s in lower case and without accents.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFKD.String(s))
}

// keep is s with only the characters that one of the classes has.
func keep(s string, classes ...func(rune) bool) string {
	return strings.Map(func(r rune) rune {
		for _, class := range classes {
			if class(r) {
				return r
			}
		}
		return -1
	}, s)
}

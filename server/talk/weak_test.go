package talk

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheckPassword(t *testing.T) {
	own := []string{"Ada_Lovelace", "countess.ada+talk@example.org", "Ada King-Noël"}
	invalid := func(err error) bool {
		var e *InvalidInput
		return errors.As(err, &e) && e.Field == "password"
	}

	t.Run("checklist_1_length_counts_characters", func(t *testing.T) {
		for password, ok := range map[string]bool{
			"xq7 vß9":                        false, // 7
			"xq7 vß9ä":                       true,  // 8
			strings.Repeat("xy7ß", 32):       true,  // 128
			strings.Repeat("😀", 128):         true,  // 512 bytes
			strings.Repeat("xy7ß", 32) + "x": false,
			strings.Repeat("😀", 128) + "x":   false, // 513 bytes
			strings.Repeat("x y", 1<<20):     false,
			"":                               false,
		} {
			if err := CheckPassword(password); (err == nil) != ok || !ok && !invalid(err) {
				t.Errorf("%d characters: %v", utf8.RuneCountInString(password), err)
			}
		}
	})
	t.Run("checklist_2_any_character_but_NUL", func(t *testing.T) {
		for _, password := range []string{"a b  c d e", "\t\r\n\x01\x1b[0m\x7f", "пароль мой", "😀😀😀😀😀😀😀😀", "        "} {
			if err := CheckPassword(password, own...); err != nil {
				t.Errorf("%q: %v", password, err)
			}
		}
		for _, password := range []string{"long enough\x00", "\x00long enough", "long \xff enough"} {
			if err := CheckPassword(password); !invalid(err) {
				t.Errorf("%q: %v", password, err)
			}
		}
	})
	t.Run("checklist_3_common_passwords_are_weak_in_any_case", func(t *testing.T) {
		for _, password := range []string{
			"password", "Password1", "12345678", "QWERTYUIOP", "iloveyou", "sunshine", "Jennifer", "michelle",
			"letmein1", "Passw0rd", "1q2w3e4r5t", "qwerty123", "password123", "trustno1", "football", "11111111",
		} {
			if err := CheckPassword(password, own...); !errors.Is(err, ErrPasswordWeak) {
				t.Errorf("%q: %v", password, err)
			}
		}
	})
	t.Run("checklist_3_ones_own_words_are_weak", func(t *testing.T) {
		for _, password := range []string{
			"free2talk", "Free2Talk!", "freetalk1234", "!!free2talk!!2026", "ada_lovelace", "AdaLovelace", "lovelace1815",
			"ada.ada.ada", "lovelace-ada", "countess.ada", "Countess1815", "ada king noel", "NOËLking99", "adalovelacefree2talk",
		} {
			if err := CheckPassword(password, own...); !errors.Is(err, ErrPasswordWeak) {
				t.Errorf("%q: %v", password, err)
			}
		}
		for _, password := range []string{"lovelace engine", "ada wrote it first", "example.org", "84920184657", "freedom2speak"} {
			if err := CheckPassword(password, own...); err != nil {
				t.Errorf("%q: %v", password, err)
			}
		}
	})
	t.Run("a name without letters", func(t *testing.T) {
		if err := CheckPassword("2026-11-22", "2026_11_22"); !errors.Is(err, ErrPasswordWeak) {
			t.Error(err)
		}
		if err := CheckPassword("4711-0815-23", "2026_11_22", "", "@", "a"); err != nil {
			t.Error(err)
		}
	})
}

func TestCommonPasswords(t *testing.T) {
	t.Parallel()
	list := common()
	if len(list) < 3000 || !slices.IsSorted(list) || len(slices.Compact(slices.Clone(list))) != len(list) {
		t.Fatalf("%d entries; sorted: %t", len(list), slices.IsSorted(list))
	}
	for _, entry := range list {
		if len(entry) < LeastPassword || entry != strings.ToLower(entry) || strings.ContainsAny(entry, "\r\n") {
			t.Fatalf("%q", entry)
		}
	}
}

func FuzzCheckPassword(f *testing.F) {
	f.Add("free2talk", "ada", "ada@example.org")
	f.Add("\x00\xff", "", "@")
	f.Add("NOËLking99", "Ada King-Noël", "ﷺ")
	f.Fuzz(func(t *testing.T, password, username, email string) {
		err := CheckPassword(password, username, email)
		var invalid *InvalidInput
		if err != nil && !errors.Is(err, ErrPasswordWeak) && !errors.As(err, &invalid) {
			t.Errorf("%q: %v", password, err)
		}
		// Equal to one's own name, of the right length: never accepted.
		if err == nil && username != "" && strings.EqualFold(password, username) && keep(plain(username), func(r rune) bool { return r < 128 && wordly(r) }) == strings.ToLower(username) {
			t.Errorf("%q is the username", password)
		}
	})
}

func BenchmarkCheckPassword(b *testing.B) {
	long := strings.Repeat("lovelace ada ", 9)
	for b.Loop() {
		CheckPassword(long, "Ada_Lovelace", "countess.ada@example.org", "Ada King")
	}
}

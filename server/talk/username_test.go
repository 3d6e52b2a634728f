package talk

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCheckUsername(t *testing.T) {
	t.Run("checklist_5_reserved_in_any_case_and_disguise", func(t *testing.T) {
		for _, name := range []string{
			"admin", "root", "support", "api", "me", "ADMIN", "Adm1n", "a_d-m_i-n", "r00t", "R0_0t", "he1p", "nu11", "nul1",
			"free2talk", "Free_2_Talk", "fr3e2talk", "m0derator", "st4ff", "5y5tem", "--me--", "offic1al", "undefined", "NaN",
		} {
			if err := CheckUsername(name); !errors.Is(err, ErrUsernameReserved) {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
	t.Run("checklist_5_only_plain_characters", func(t *testing.T) {
		for _, name := range []string{
			"", "ab", strings.Repeat("a", 51), "ada lovelace", "ada\u202e", "ada\u200b", "adа", "ada\x00", "ada\n", "ada.l", "ädä", "a\xffb",
			strings.Repeat("admin", 1<<18),
		} {
			var invalid *InvalidInput
			if err := CheckUsername(name); !errors.As(err, &invalid) || invalid.Field != "username" {
				t.Errorf("%.60q: %v", name, err)
			}
		}
	})
	t.Run("other names are free", func(t *testing.T) {
		for _, name := range []string{"ada", "Ada_Lovelace-1815", "administer", "rooted", "admin7x", strings.Repeat("a", 50), "___", "007"} {
			if err := CheckUsername(name); err != nil {
				t.Errorf("%q: %v", name, err)
			}
		}
	})
}

func FuzzCheckUsername(f *testing.F) {
	for _, seed := range []string{"ada", "admin", "a_D-m1N", "", "ada\u202e", "\xff", "r00t"} {
		f.Add(seed)
	}
	shape := regexp.MustCompile(`^[A-Za-z0-9_-]{3,50}$`)
	f.Fuzz(func(t *testing.T, name string) {
		err := CheckUsername(name)
		if err == nil && !shape.MatchString(name) {
			t.Errorf("%q was accepted", name)
		}
		if shape.MatchString(name) && err != nil && !errors.Is(err, ErrUsernameReserved) {
			t.Errorf("%q: %v", name, err)
		}
		if shape.MatchString(name) && (err == nil) != (CheckUsername(strings.ToUpper(name)) == nil) {
			t.Errorf("%q: its case matters", name)
		}
	})
}

func TestCheckLanguages(t *testing.T) {
	t.Parallel()
	got, err := CheckLanguages("languages", []string{"es-MX", "EN", "zh-Hant-tw", "iw", "sr-Latn", "ca-valencia", "yue", "es-419"})
	want := []string{"es-mx", "en", "zh-hant-tw", "he", "sr-latn", "ca-valencia", "yue", "es-419"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	again, err := CheckLanguages("languages", got)
	if err != nil || !slices.Equal(again, got) {
		t.Errorf("again: %v, %v", again, err)
	}
	for _, tag := range []string{
		"", "und", "und-419", "x-klingon", "xx", "qqq", "english", "en_US", "en-", "-en", "e", "en-US-u-ca-buddhist", "en-x-twain",
		"en\x00", "en ", "еn", "i-klingon-but-much-too-long-to-be-one", "en-a-bbb", "a1", "root", "mul",
	} {
		_, err := CheckLanguages("room.languages", []string{"fr", tag})
		var invalid *InvalidInput
		if !errors.As(err, &invalid) || invalid.Field != "room.languages[1]" {
			t.Errorf("%q: %v", tag, err)
		}
	}
	if _, err := CheckLanguages("l", []string{"he", "IW"}); err == nil {
		t.Error("one language twice")
	}
	if got, err := CheckLanguages("l", nil); err != nil || len(got) != 0 {
		t.Errorf("none: %v, %v", got, err)
	}
}

func FuzzCheckLanguages(f *testing.F) {
	for _, seed := range []string{"en", "zh-hant-tw", "iw", "und", "en-u-ca-buddhist", "sgn-be-fr", "i-klingon"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, tag string) {
		once, err := CheckLanguages("l", []string{tag})
		if err != nil {
			return
		}
		twice, err := CheckLanguages("l", once)
		if err != nil || !slices.Equal(once, twice) || once[0] != strings.ToLower(once[0]) {
			t.Errorf("%q: %v, then %v, %v", tag, once, twice, err)
		}
	})
}

var slugShape = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*-[a-z2-7]{8}$`)

func TestSlug(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"Spanish for Beginners":        "spanish-for-beginners-aaaaaaaa",
		"  ¡Español, José!  ":          "espanol-jose-aaaaaaaa",
		"にほんご":                         "room-aaaaaaaa",
		"":                             "room-aaaaaaaa",
		"---":                          "room-aaaaaaaa",
		"../../etc/passwd":             "etc-passwd-aaaaaaaa",
		"Ｆｕｌｌ　ｗｉｄｔｈ":                   "full-width-aaaaaaaa",
		strings.Repeat("a", 100):       strings.Repeat("a", 48) + "-aaaaaaaa",
		strings.Repeat("abcd ", 100):   strings.Repeat("abcd-", 9) + "abc-aaaaaaaa",
		strings.Repeat("a", 47) + " b": strings.Repeat("a", 47) + "-aaaaaaaa",
	} {
		if got := slug(name, [5]byte{}); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if a, b := Slug("tea"), Slug("tea"); a == b || !slugShape.MatchString(a) {
		t.Errorf("%q, %q", a, b)
	}
}

func FuzzSlug(f *testing.F) {
	for _, seed := range []string{"Spanish for Beginners", "にほんご", "", "-", "ﷺ", "\xff\x00", "İstanbul", "ŉ", strings.Repeat("ab ", 40)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got := Slug(name)
		if !slugShape.MatchString(got) || len(got) > mostSlug+9 || !utf8.ValidString(got) {
			t.Errorf("%q: %q", name, got)
		}
	})
}

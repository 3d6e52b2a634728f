package cache

import (
	"testing"
)

func TestEntry(t *testing.T) {
	t.Parallel()
	lease := newLease(tagOf("a history"))
	if newLease(tagOf("a history")) == lease {
		t.Error("two leases are the same")
	}
	for entry, want := range map[string]struct {
		tag     byte
		payload string
	}{
		lease: {tagLease, ""}, string(absent(lease)): {tagAbsent, ""},
		string(filled(lease, 'a', []byte("payload"))): {tagValue, "payload"},
		string(filled(lease, 'a', nil)):               {tagValue, ""},
	} {
		tag, payload, err := split(entry, 'a')
		check(t, err)
		equal(t, "tag", tag, want.tag)
		equal(t, "payload", payload, want.payload)
	}
}

// Whatever lies in Redis is an entry or is refused; it never panics, and what
// is taken for a value is what was written.
func FuzzSplit(f *testing.F) {
	lease := newLease(tagOf("a history"))
	for _, seed := range []string{"", "L", lease, string(absent(lease)), string(filled(lease, 'a', []byte("x"))), string(filled(lease, 'b', nil))} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, entry string) {
		tag, payload, err := split(entry, 'a')
		switch {
		case err != nil:
		case tag == tagValue:
			equal(t, "the value again", string(filled("L"+entry[1:entryHead], 'a', []byte(payload))), entry)
		case len(entry) != entryHead:
			t.Errorf("%q is a %c", entry, tag)
		}
	})
}

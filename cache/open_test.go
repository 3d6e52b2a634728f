package cache

import (
	"strings"
	"testing"
	"time"
)

func TestURLs(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"redis://127.0.0.1:6379":                      "127.0.0.1:6379",
		"redis://:secret@127.0.0.1:6379/2":            "127.0.0.1:6379 secret 2",
		"rediss://me:secret@cache.example:6380":       "cache.example:6380 secret me tls",
		"redis+sentinel://:secret@a:1,b:2,c:3/master": "a:1,b:2,c:3 secret master",
		"redis+cluster://me:secret@a:1,b:2":           "a:1,b:2 secret me",
		"redis+cluster://a:1":                         "a:1",
		"rediss+cluster://a:1,b:2":                    "a:1,b:2 tls",
		"rediss+sentinel://a:1,b:2/master":            "a:1,b:2 master tls",
	} {
		o, err := parseURL(url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		got := []string{strings.Join(o.Addrs, ",")}
		for _, part := range []string{o.Password, o.Username, o.MasterName} {
			if part != "" {
				got = append(got, part)
			}
		}
		if o.DB != 0 {
			got = append(got, "2")
		}
		if o.TLSConfig != nil {
			got = append(got, "tls")
		}
		equal(t, url, strings.Join(got, " "), want)
	}
}

// Checklist 64: what is wrong is said without the password.
func TestWrongURLs(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "localhost:6379", "http://:hunter2@a:1", "redis+sentinel://:hunter2@a:1,b:2", "redis+cluster://:hunter2@a,b",
		"redis://:hunter2@a:port", "redis://:hunter2@a:1/notanumber", "redis+cluster://me:hunter2@a:1,b:%zz", "redis://me:hunt%zzer2@a:1",
	} {
		r, err := Open(Config{URL: url})
		if err == nil {
			t.Errorf("%q was taken: %s", url, r)
		} else if strings.Contains(err.Error(), "hunt") {
			t.Errorf("the password is told: %v", err)
		}
	}
}

func TestStringHidesThePassword(t *testing.T) {
	t.Parallel()
	r, err := Open(Config{URL: "redis://:hunter2@127.0.0.1:1"})
	check(t, err)
	defer r.Close()
	equal(t, "string", r.String(), "redis 127.0.0.1:1")
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	now := time.Now()
	opened := 0
	b := newBreaker(func() { opened++ })
	b.now = func() time.Time { return now }
	for range breakAfter {
		equal(t, "closed", b.allow(), true)
		b.report(true)
	}
	equal(t, "open", b.allow(), false)
	equal(t, "opened", opened, 1)
	now = now.Add(2 * breakFor)
	equal(t, "the probe", b.allow(), true)
	equal(t, "beside the probe", b.allow(), false)
	b.report(true)
	equal(t, "after a probe that failed", b.allow(), false)
	now = now.Add(2 * breakFor)
	equal(t, "the next probe", b.allow(), true)
	b.forgo()
	equal(t, "the one after it", b.allow(), true)
	b.report(false)
	equal(t, "whole", b.allow(), true)
	equal(t, "and stays so", b.allow(), true)
	equal(t, "opened", opened, 1)
}

// Redis has answered another role: the next call may see for itself, one alone.
func TestAHintLetsOneCallTry(t *testing.T) {
	t.Parallel()
	b := newBreaker(nil)
	for range breakAfter {
		equal(t, "allowed", b.allow(), true)
		b.report(true)
	}
	equal(t, "allowed while it is open", b.allow(), false)
	b.hint()
	equal(t, "open, still", b.open(), true)
	equal(t, "one", b.allow(), true)
	equal(t, "another", b.allow(), false)
	b.report(true)
	equal(t, "after it failed", b.allow(), false)
	b.hint()
	equal(t, "once more", b.allow(), true)
	b.report(false)
	equal(t, "open", b.open(), false)
	b.trip()
	equal(t, "tripped", b.allow(), false)
	b.hint()
	equal(t, "open, where it was tripped alone", b.open(), false)
}

// While heartbeats wait for Redis no call does: not in the sixth second either.
func TestNoCallProbesBesideHeartbeats(t *testing.T) {
	t.Parallel()
	now := time.Now()
	b := newBreaker(nil)
	b.now = func() time.Time { return now }
	for range breakAfter {
		b.report(true)
	}
	for range 60 {
		now = now.Add(beatEvery)
		b.trip() // what an unanswered heartbeat does
		equal(t, "allowed", b.allow(), false)
	}
	b.hint()
	equal(t, "allowed once one is answered", b.allow(), true)
}

// An attempt to recover that fails is soon made again, and then less often.
func TestRecoveriesBackOff(t *testing.T) {
	t.Parallel()
	trust := newTrust(func() {})
	last := time.Duration(0)
	for i := range 8 {
		trust.heard(time.Now(), "a")
		trust.next = time.Time{}
		epoch, due := trust.recoveryDue(time.Now())
		equal(t, "due", due, true)
		equal(t, "whole", trust.recovered(epoch, errAway), false)
		if i == 0 && trust.wait > 100*time.Millisecond || trust.wait < last || trust.wait > recoverEvery {
			t.Errorf("attempt %d is followed by a wait of %v", i, trust.wait)
		}
		last = trust.wait
	}
	trust.next = time.Time{}
	epoch, _ := trust.recoveryDue(time.Now())
	equal(t, "whole", trust.recovered(epoch, nil), true)
	equal(t, "forgotten", trust.wait, 0)
}

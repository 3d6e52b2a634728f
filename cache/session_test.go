package cache

import (
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

func TestSessions(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, where corner) {
		r := where.open(t)
		s := NewSessions(r)
		at := time.Now().UTC().Truncate(time.Microsecond)
		first := talk.SessionUse{ID: "s1", At: at, IP: "192.0.2.1", UserAgent: "curl", Generation: 3}
		second := talk.SessionUse{ID: "s2", At: at.Add(-time.Hour), IP: "2001:db8::", Generation: 1}
		check(t, raw(r).Set(t.Context(), r.keys.session("s3"), "no hash", time.Hour).Err())
		check(t, s.Touch(t.Context(), []talk.SessionUse{first, second, {ID: "s3", At: at}}))
		check(t, s.Touch(t.Context(), nil))
		older := first
		older.At, older.IP = at.Add(-time.Minute), "older"
		check(t, s.Touch(t.Context(), []talk.SessionUse{older})) // batches of two nodes may cross
		used, err := s.Used(t.Context(), []talk.SessionID{"s1", "s2", "s3", "s4"})
		check(t, err)
		equal(t, "known", len(used), 2)
		equal(t, "first", used["s1"], first)
		equal(t, "second", used["s2"], second)
		left := raw(r).PTTL(t.Context(), r.keys.session("s1")).Val()
		if left < sessionTTL*8/10 || left > sessionTTL*12/10 {
			t.Errorf("it lasts %s", left)
		}
		check(t, s.Touch(t.Context(), []talk.SessionUse{{ID: "s3", At: at}}))
		used, err = s.Used(t.Context(), []talk.SessionID{"s3"})
		check(t, err)
		equal(t, "what was no hash", used["s3"].At, at)
	})
}

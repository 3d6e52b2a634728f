package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/free2talk/free2talk/client"
	"github.com/free2talk/free2talk/server/talk"
	"github.com/free2talk/free2talk/server/talk/talktest"
)

// rotateKeys makes new keys, as `free2talk keys rotate` does, and has every
// node read them, as it does each minute.
func (w *world) rotateKeys(clock *talktest.Clock) {
	w.Helper()
	if err := w.nodes[0].keys.Rotate(w.Context(), clock.Now()); err != nil {
		w.Fatal(err)
	}
	w.rereadKeys(clock)
}

func (w *world) rereadKeys(clock *talktest.Clock) {
	w.Helper()
	for _, n := range w.nodes {
		if err := n.keys.Refresh(w.Context(), clock.Now()); err != nil {
			w.Fatal(err)
		}
	}
}

// published are the ids of the keys that a node tells the world.
func (w *world) published(t *testing.T, n *testNode) []string {
	t.Helper()
	status, body := w.get(n, "/.well-known/jwks.json")
	var set struct{ Keys []struct{ Kid string } }
	if err := json.Unmarshal([]byte(body), &set); err != nil || status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	var ids []string
	for _, key := range set.Keys {
		ids = append(ids, key.Kid)
	}
	return ids
}

// keyChange is from one signing key to the next.
type keyChange struct {
	*world
	clock     *talktest.Clock
	began     time.Time
	p         *person
	old, next *forger
}

// signsAfter is how long a new key waits before it signs.
const signsAfter = 2 * time.Minute

// shows says what every node answers to an access token: "" where it is good.
func (c *keyChange) shows(t *testing.T, what, token, reason string) {
	t.Helper()
	for _, n := range c.nodes {
		if _, got := c.me(n, token).failure(); got != reason {
			t.Errorf("%s, at %v: %q, want %q", what, c.clock.Now().Sub(c.began), got, reason)
		}
	}
}

// issued is a token that is signed now.
func (c *keyChange) issued(by *forger) string {
	by.now = c.clock.Now()
	return by.sign(by.header(), by.claims())
}

func TestKeys(t *testing.T) {
	clock := talktest.NewClock()
	w := newWorld(t, onPostgres, 2, plainKeys, withClock(clock.Now))
	p := w.person()
	c := &keyChange{world: w, clock: clock, began: clock.Now(), p: p, old: forgerOf(w, p)}
	w.rotateKeys(clock)
	c.next = forgerOf(w, p)
	t.Run("checklist_24_a_new_key_is_refused_before_its_time", c.tooEarly)
	t.Run("checklist_24_and_taken_from_then_on", c.onTime)
	t.Run("checklist_24_the_old_key_is_good_until_its_retirement", c.retired)
}

// tooEarly is for two minutes, so that every node has read it.
func (c *keyChange) tooEarly(t *testing.T) {
	if c.next.kid == c.old.kid {
		t.Fatal("no new key")
	}
	c.shows(t, "the new key", c.issued(c.next), client.ReasonTokenInvalid)
	c.shows(t, "the old key", c.issued(c.old), "")
	for _, n := range c.nodes {
		if ids := c.published(t, n); !slices.Contains(ids, c.next.kid) || !slices.Contains(ids, c.old.kid) {
			t.Errorf("published: %q", ids)
		}
	}
	c.clock.Set(c.began.Add(signsAfter - 6*time.Second))
	c.shows(t, "the new key", c.issued(c.next), client.ReasonTokenInvalid)
}

// onTime both are good, and the new one signs.
func (c *keyChange) onTime(t *testing.T) {
	c.clock.Set(c.began.Add(signsAfter))
	c.shows(t, "the new key", c.issued(c.next), "")
	c.shows(t, "the old key", c.issued(c.old), "")
	granted := c.renew(c.nodes[1], c.p.grant.RefreshToken).pair(t) // by the old key of refresh tokens
	if kid := signerOf(t, granted.AccessToken); kid != c.next.kid {
		t.Errorf("signed by %s", kid)
	}
}

// retired is a key when the last token that it signed has expired.
func (c *keyChange) retired(t *testing.T) {
	last := signsAfter + talk.AccessLifetime
	c.clock.Set(c.began.Add(last))
	c.shows(t, "the old key", c.issued(c.old), "")
	c.clock.Set(c.began.Add(last + 6*time.Second))
	c.shows(t, "the old key", c.issued(c.old), client.ReasonTokenInvalid)
	c.shows(t, "the new key", c.issued(c.next), "")
	c.clock.Set(c.began.Add(last + 2*time.Minute))
	c.rereadKeys(c.clock)
	for _, n := range c.nodes {
		if ids := c.published(t, n); slices.Contains(ids, c.old.kid) || !slices.Contains(ids, c.next.kid) {
			t.Errorf("published: %q", ids)
		}
	}
}

// signerOf is the kid of an access token.
func signerOf(t *testing.T, token string) string {
	t.Helper()
	text, _, _ := strings.Cut(token, ".")
	var header struct{ Kid string }
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(raw, &header)
	}
	if err != nil {
		t.Fatal(err)
	}
	return header.Kid
}

// walker is somebody who uses the site all the time.
type walker struct {
	access, refresh string
	renewed         time.Time
}

// walk calls, and renews its tokens after ten minutes, until ctx ends.
func (w *world) walk(ctx context.Context, clock *talktest.Clock, p *walker, i int, calls *atomic.Int64) error {
	for ctx.Err() == nil {
		calls.Add(1)
		i++
		if clock.Now().Sub(p.renewed) < 10*time.Minute {
			if a := w.me(w.at(i), p.access); a.status != http.StatusOK {
				return fmt.Errorf("the access token: %s", a.body)
			}
			continue
		}
		a := w.renew(w.at(i), p.refresh)
		var reply struct{ Tokens pair }
		if err := json.Unmarshal([]byte(a.body), &reply); err != nil || a.status != http.StatusOK {
			return fmt.Errorf("the refresh token: %s", a.body)
		}
		p.access, p.refresh, p.renewed = reply.Tokens.AccessToken, reply.Tokens.RefreshToken, clock.Now()
	}
	return nil
}

// TestKeysUnderLoad rotates the keys four times in an hour that passes in some
// seconds, while people call: so that keys begin, sign, retire and are dropped.
func TestKeysUnderLoad(t *testing.T) {
	const people = 8
	clock := talktest.NewClock()
	w := newWorld(t, onPostgres, 2, withClock(clock.Now))
	var walkers []*walker
	for range people {
		p := w.person()
		walkers = append(walkers, &walker{p.grant.AccessToken, p.grant.RefreshToken, clock.Now()})
	}
	t.Run("checklist_24_nobody_is_logged_out", func(t *testing.T) {
		ctx, end := context.WithCancel(t.Context())
		defer end()
		var calls atomic.Int64
		var walking sync.WaitGroup
		failed := make(chan error, people)
		for i, p := range walkers {
			walking.Go(func() { failed <- w.walk(ctx, clock, p, i, &calls) })
		}
		first := w.published(t, w.nodes[0])
		w.anHourOfKeys(clock, func() {
			seen := calls.Load()
			w.eventually(20*time.Second, "people go on", func() bool { return calls.Load() >= seen+2*people || len(failed) > 0 })
		})
		end()
		walking.Wait()
		for range people {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
		if last := w.published(t, w.nodes[0]); slices.Contains(last, first[0]) {
			t.Errorf("the first key is still there: %q", last)
		}
		t.Logf("%d calls", calls.Load())
	})
}

// anHourOfKeys passes in steps of twenty seconds, with new keys every quarter.
func (w *world) anHourOfKeys(clock *talktest.Clock, step func()) {
	w.Helper()
	for i := range 180 {
		if i%45 == 0 {
			w.rotateKeys(clock)
		}
		clock.Add(20 * time.Second)
		if i%3 == 0 {
			w.rereadKeys(clock)
		}
		step()
	}
}

// TestClocks has nodes whose own clocks are wrong: the database's counts.
func TestClocks(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onPostgres, 1, plainKeys)
	for _, off := range []time.Duration{-time.Hour, time.Hour} {
		w.settings.local = func() time.Time { return time.Now().Add(off) }
		w.start()
	}
	t.Run("checklist_25_nodes_an_hour_off_agree", func(t *testing.T) {
		for i, n := range w.nodes {
			p := w.account(n)
			began, err := n.store.Now(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			next := w.renew(n, p.grant.RefreshToken).pair(t)
			if life := next.AccessExpiresAt.Sub(began); life < talk.AccessLifetime-2*time.Second || life > talk.AccessLifetime+2*time.Second {
				t.Errorf("node %d: a token lives for %v", i, life)
			}
			for j, other := range w.nodes {
				if a := w.me(other, next.AccessToken); a.status != http.StatusOK {
					t.Errorf("node %d's token at node %d: %s", i, j, a.body)
				}
				if again := w.renew(other, p.grant.RefreshToken).pair(t); again != next {
					t.Errorf("node %d's successor at node %d is another", i, j)
				}
			}
		}
	})
	t.Run("checklist_25_no_token_outlives_its_exp_by_the_databases_time", func(t *testing.T) {
		f := forgerOf(w, w.person())
		now, err := w.nodes[0].store.Now(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f.now = now
		past := f.sign(f.header(), f.claims().set("iat", f.at(-time.Minute), "exp", f.at(-10*time.Second)))
		future := f.sign(f.header(), f.claims().set("iat", f.at(time.Hour), "exp", f.at(time.Hour+time.Minute)))
		for i, n := range w.nodes {
			w.me(n, past).refusedAs(t, fmt.Sprintf("node %d, past", i), "unauthenticated", "TOKEN_EXPIRED")
			w.me(n, future).refusedAs(t, fmt.Sprintf("node %d, future", i), "unauthenticated", "TOKEN_INVALID")
		}
	})
}

// TestClockSkew shows a node tokens of issuers whose clocks differ from its own.
func TestClockSkew(t *testing.T) {
	clock := talktest.NewClock()
	w := newWorld(t, onEmbedded, 1, plainKeys, withClock(clock.Now))
	f := forgerOf(w, w.person())
	t.Run("checklist_25_four_seconds_are_taken_and_ten_are_not", func(t *testing.T) {
		for off, reasons := range map[time.Duration][2]string{
			4 * time.Second:  {"", ""},
			10 * time.Second: {client.ReasonTokenInvalid, client.ReasonTokenExpired},
		} {
			ahead := f.sign(f.header(), f.claims().set("iat", f.at(off), "exp", f.at(off+talk.AccessLifetime)))
			behind := f.sign(f.header(), f.claims().set("iat", f.at(-off-talk.AccessLifetime), "exp", f.at(-off)))
			for i, token := range []string{ahead, behind} {
				if _, got := w.me(w.nodes[0], token).failure(); got != reasons[i] {
					t.Errorf("off by %v: %q, want %q", off, got, reasons[i])
				}
			}
		}
	})
}

// TestClockIsSetBack has a machine whose clock is set back by an hour while its
// node runs, where even the differences of that clock are wrong then.
func TestClockIsSetBack(t *testing.T) {
	t.Parallel()
	clock := talktest.NewClock()
	w := newWorld(t, onPostgres, 1, withClock(clock.Now))
	var off atomic.Int64
	w.settings.local = func() time.Time { return clock.Now().Add(time.Duration(off.Load())) }
	w.start()
	p := w.person()
	t.Run("checklist_25_set_back_by_an_hour", func(t *testing.T) {
		off.Store(int64(-time.Hour))
		clock.Add(talk.AccessLifetime + 6*time.Second)
		w.eventually(time.Second, "the node goes by the database's clock again", func() bool {
			_, reason := w.me(w.nodes[1], p.grant.AccessToken).failure()
			return reason == client.ReasonTokenExpired
		})
		next := w.renew(w.nodes[1], p.grant.RefreshToken).pair(t)
		if !next.AccessExpiresAt.Equal(clock.Now().Add(talk.AccessLifetime)) {
			t.Errorf("the next lives until %v, it is %v", next.AccessExpiresAt, clock.Now())
		}
	})
}

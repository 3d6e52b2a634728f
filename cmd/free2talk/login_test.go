package main

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// knock signs in by plain HTTP; name is an e-mail address where it holds an @.
func (w *world) knock(n *testNode, name, with string, headers ...string) spoken {
	w.Helper()
	field := "username"
	if strings.Contains(name, "@") {
		field = "email"
	}
	return w.speak(n, "AuthService/Login", spelled(object{field: name, "password": with}), headers...)
}

// ban keeps an account out, until a time or for good. Its sessions live on.
func (w *world) ban(username string, until time.Time) {
	w.Helper()
	text := "NULL"
	if !until.IsZero() {
		text = "'" + until.UTC().Format(time.RFC3339) + "'"
	}
	result, err := w.nodes[0].store.DB().NewRaw("UPDATE users SET banned = TRUE, banned_until = "+text+" WHERE username = ?", username).Exec(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	if rows, err := result.RowsAffected(); err != nil || rows != 1 {
		w.Fatalf("%d rows, %v", rows, err)
	}
}

// guesses are the ways to fail at the door that must look the same.
var guesses = []struct{ name, login, with string }{
	{"a wrong password", "ada", "eight red kettles"},
	{"a wrong password, by e-mail", "ada@example.org", "eight red kettles"},
	{"an unknown username", "nobody", password},
	{"an unknown e-mail", "nobody@example.org", password},
	{"a banned account with a wrong password", "bob", "eight red kettles"},
	{"too short to be anybody's", "ada", "x"},
}

// withGuests opens the accounts that are guessed at: ada's, and bob's, which is banned.
func (w *world) withGuests() {
	w.Helper()
	for _, name := range []string{"ada", "bob"} {
		w.registered(w.nodes[0], name)
	}
	w.ban("bob", time.Time{})
}

func TestLogin(t *testing.T) {
	w := newWorld(t, onPostgres, 1, withLimits(t, "api=1000/15m,auth=1000/15m"))
	w.withGuests()
	n := w.nodes[0]
	t.Run("checklist_9_one_answer_to_all_guesses", func(t *testing.T) {
		var first spoken
		for i, guess := range guesses {
			a := w.knock(n, guess.login, guess.with)
			a.refusedAs(t, guess.name, "unauthenticated", "BAD_CREDENTIALS")
			for name := range a.header {
				if name == "Date" || name == "X-Request-Id" || strings.HasPrefix(name, "Ratelimit") {
					a.header[name] = nil // it is there, whatever it says
				}
			}
			if i == 0 {
				first = a
			}
			if a.body != first.body || !maps.EqualFunc(a.header, first.header, slices.Equal) {
				t.Errorf("%s differs:\n%v %s\n%v %s", guess.name, a.header, a.body, first.header, first.body)
			}
		}
	})
	t.Run("checklist_9_who_is_banned_hears_so_with_the_right_password", func(t *testing.T) {
		a := w.knock(n, "bob", password)
		a.refusedAs(t, "for good", "permission_denied", "BANNED")
		var info errdetails.ErrorInfo
		if a.detail(&info); info.GetMetadata()["until"] != "" {
			t.Errorf("until %v", info.GetMetadata())
		}
		until := time.Now().Add(time.Hour).UTC().Truncate(time.Second)
		w.ban("bob", until)
		a = w.knock(n, "bob@example.org", password)
		a.refusedAs(t, "for an hour", "permission_denied", "BANNED")
		if a.detail(&info); info.GetMetadata()["until"] != until.Format(time.RFC3339) {
			t.Errorf("until %v, want %v", info.GetMetadata(), until)
		}
		w.ban("bob", time.Now().Add(-time.Second))
		w.knock(n, "bob", password).pair(t)
	})
}

// TestLoginWork counts what each guess costs.
func TestLoginWork(t *testing.T) {
	asked := &queries{}
	w := newWorld(t, onEmbedded, 1, watchedBy(asked))
	w.withGuests()
	n := w.nodes[0]
	hashes := func() int64 { return n.accounts.Passwords.Stats().Done }
	t.Run("checklist_10_all_guesses_are_the_same_work", func(t *testing.T) {
		text := regexp.MustCompile(`'[^']*'|"(email|username)"`) // what was asked for
		shapes := map[string]string{}
		for _, guess := range guesses {
			asked.take()
			before := hashes()
			w.knock(n, guess.login, guess.with).refusedAs(t, guess.name, "unauthenticated", "BAD_CREDENTIALS")
			if done := hashes() - before; done != 1 {
				t.Errorf("%s: %d hashes", guess.name, done)
			}
			shapes[text.ReplaceAllString(strings.Join(asked.take(), ";"), "?")] = guess.name
		}
		if len(shapes) != 1 {
			t.Errorf("they ask for different things: %q", slices.Sorted(maps.Keys(shapes)))
		}
	})
	t.Run("checklist_10_all_guesses_wait_at_one_gate", func(t *testing.T) {
		w.hashed("slow", 64<<10, 8)
		defer w.crowdGone(t, w.besiege("slow", crowdOf))
		results := make(chan error, len(guesses))
		for _, guess := range guesses {
			before := n.accounts.Passwords.Stats().Queued
			go func() { results <- asError(w.knock(n, guess.login, guess.with, "Connect-Timeout-Ms", "30000")) }()
			w.eventually(5*time.Second, guess.name+" waits", func() bool { return n.accounts.Passwords.Stats().Queued > before })
		}
		for range guesses {
			if err := <-results; err.Error() != "unauthenticated BAD_CREDENTIALS" {
				t.Error(err)
			}
		}
	})
}

// asError is what a call came to, in a word.
func asError(a spoken) error {
	if a.status == http.StatusOK {
		return nil
	}
	code, reason := a.failure()
	return fmt.Errorf("%s %s", code, reason)
}

// crowdOf is how many slow log-ins hold the gate for some seconds.
var crowdOf = 4 * runtime.GOMAXPROCS(0)

// hashed opens an account whose password is none, and takes as long to verify as
// these parameters say.
func (w *world) hashed(name string, memory, passes int) {
	w.Helper()
	b64 := base64.RawStdEncoding.EncodeToString
	hash := fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=1$%s$%s", memory, passes, b64([]byte("sixteen bytes...")), b64(make([]byte, 32)))
	account, _ := w.registered(w.nodes[0], name)
	id := talk.UserID(account.GetUser().GetId())
	err := w.nodes[0].outbox.Change(w.Context(), talk.Scope{Users: []talk.UserID{id}}, func(state *talk.State) error {
		user, err := state.User(id)
		if err == nil {
			user.SetPassword(hash, state.Now)
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
}

// besiege sends n log-ins to a slow account, and returns once they hold the gate.
func (w *world) besiege(name string, n int) <-chan error {
	w.Helper()
	door, gate := w.nodes[0], w.nodes[0].accounts.Passwords
	results := make(chan error, n)
	for range n {
		go func() { results <- asError(w.knock(door, name, password, "Connect-Timeout-Ms", "30000")) }()
	}
	w.eventually(10*time.Second, "the gate is held", func() bool {
		stats := gate.Stats()
		return stats.Running == int64(crowdOf/4) && stats.Queued+stats.Running == int64(n)
	})
	return results
}

// crowdGone waits for the log-ins of a besieged account: none succeeds.
func (w *world) crowdGone(t *testing.T, results <-chan error) {
	t.Helper()
	for range cap(results) {
		if err := <-results; err == nil || err.Error() != "unauthenticated BAD_CREDENTIALS" {
			t.Errorf("a slow log-in: %v", err)
		}
	}
}

// TestLoginCrowd has more people at the door than fit before it: some are
// right, most are wrong, and all of them wait in one line.
func TestLoginCrowd(t *testing.T) {
	w := newWorld(t, onPostgres, 1)
	w.registered(w.nodes[0], "ada")
	w.hashed("quick", 8, 1) // so that the line passes in a second
	w.hashed("slow", 64<<10, 8)
	t.Run("checklist_11_what_exceeds_the_queue_is_told_to_come_back", w.overcrowded)
	t.Run("checklist_11_others_are_answered_while_the_gate_is_held", w.answersOthers)
}

// overcrowded sends more people than fit, at once, while the gate is held.
func (w *world) overcrowded(t *testing.T) {
	const crowd = 300
	n, gate := w.nodes[0], w.nodes[0].accounts.Passwords
	slow := w.besiege("slow", crowdOf)
	before := gate.Stats()
	answers := together(crowd, func(i int) spoken {
		if i%10 == 0 {
			return w.knock(n, "ada", password, "Connect-Timeout-Ms", "30000")
		}
		return w.knock(n, "quick", password, "Connect-Timeout-Ms", "30000")
	})
	w.crowdGone(t, slow)
	in, busy := 0, 0
	for i, a := range answers {
		switch _, reason := a.failure(); {
		case reason == "BUSY":
			busy++
			a.refusedAs(t, "beyond the queue", "unavailable", "BUSY")
			a.saysWhen(t, "beyond the queue")
		case i%10 == 0:
			in++
			a.pair(t)
		default:
			a.refusedAs(t, "a wrong password", "unauthenticated", "BAD_CREDENTIALS")
		}
	}
	after := gate.Stats()
	if sent := after.Refused - before.Refused; busy == 0 || int64(busy) != sent {
		t.Errorf("%d were sent away, the gate counted %d", busy, sent)
	}
	if done, most := after.Done-before.Done, int64(crowd-busy+crowdOf); done < int64(crowd-busy) || done > most {
		t.Errorf("%d hashes for %d log-ins", done, crowd-busy)
	}
	if after.Queued != 0 || after.Running != 0 {
		t.Errorf("left behind: %+v", after)
	}
	t.Logf("%d right ones in, %d sent away", in, busy)
}

// answersOthers asks for what needs no password, while the gate is held.
func (w *world) answersOthers(t *testing.T) {
	n, gate := w.nodes[0], w.nodes[0].accounts.Passwords
	owner := w.person()
	room := w.room(owner, 4)
	slow := w.besiege("slow", crowdOf)
	stranger := w.client(n)
	if _, err := stranger.Rooms.GetRoom(t.Context(), roomByID(room.GetId())); err != nil {
		t.Error(err)
	}
	if _, err := stranger.Rooms.ListRooms(t.Context(), &free2talkv1.ListRoomsRequest{}); err != nil {
		t.Error(err)
	}
	if status, body := w.get(n, "/healthz"); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	if gate.Stats().Running == 0 {
		t.Error("the gate was not held any more")
	}
	w.crowdGone(t, slow)
}

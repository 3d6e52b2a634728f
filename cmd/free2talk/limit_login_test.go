package main

import (
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/free2talk/free2talk/client"
	"github.com/free2talk/free2talk/internal/testenv"
)

// Resolution 6, L3; checklist 12.
func TestL3_checklist12_of_a_hundred_wrong_passwords_at_once_five_are_tried(t *testing.T) {
	w := newWorld(t, onPostgres, 2, behindProxy, withLimits(t, "api=off"))
	w.redisUsed()
	w.registered(w.nodes[0], "ada")
	for range testenv.Effort(3, 300) {
		w.judged(func(c *claims, from string) { w.guess(t, c, from) })
	}
	testenv.Record(t, testenv.Figure{Row: "L3", What: "more than five hashes", Of: int64(testenv.Effort(3, 300)), Each: "rounds of 100 wrong passwords"})
}

func (w *world) guess(t *testing.T, c *claims, from string) {
	wrong := func(n *testNode, from string) spoken { return w.login(n, "ada", "seven blue kittens", from) }
	before := w.hashes()
	answers := together(100, func(i int) spoken { return wrong(w.at(i), from) })
	c.came("wrong", answers, map[string]int{client.ReasonBadCredentials: 5, client.ReasonRateLimited: 95})
	for _, n := range w.nodes {
		right := w.login(n, "ada", password, from)
		c.came("the right password from there", []spoken{right}, map[string]int{client.ReasonRateLimited: 1})
		right.saysWhen(t, "the right password from there")
		c.equal("the right password, beside a wrong one", timeless(t, right), timeless(t, wrong(n, from)))
	}
	c.equal("hashes computed", w.hashes()-before, int64(5))
	elsewhere := strings.TrimSuffix(from, "1") + "2"
	c.came("elsewhere", []spoken{wrong(w.nodes[0], elsewhere)}, map[string]int{client.ReasonBadCredentials: 1})
	c.came("elsewhere", []spoken{w.login(w.nodes[1], "ada", password, elsewhere)}, map[string]int{"": 1})
}

// timeless is an answer without what tells the time or names the request.
func timeless(t *testing.T, s spoken) map[string]any {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal([]byte(s.body), &body); err != nil {
		t.Fatal(err)
	}
	for _, d := range body["details"].([]any) {
		if d := d.(map[string]any); d["type"] == "google.rpc.RetryInfo" {
			delete(d, "value")
			delete(d, "debug")
		}
	}
	header := maps.Clone(s.header)
	for _, name := range []string{"Date", "Ratelimit", "Retry-After", "X-Request-Id", "Content-Length"} {
		if _, there := header[name]; there {
			header[name] = nil
		}
	}
	return map[string]any{"status": s.status, "header": map[string][]string(header), "body": body}
}

// Resolution 6; checklist 12: people who type it right are never refused,
// however many share an address, and all get in at the first try: the line
// waits as long as the calls themselves do. `make faults` has two hundred of
// them: the race detector makes a hash take five times as long.
func TestChecklist12_people_behind_one_address_all_get_in(t *testing.T) {
	w := newWorld(t, onPostgres, 2, behindProxy, withLimits(t, ""))
	w.redisUsed()
	w.registered(w.nodes[0], "ada")
	crowd := make([]*person, testenv.Effort(60, 200))
	for i := range crowd {
		crowd[i] = w.account(w.at(i))
	}
	if _, err := w.nodes[0].store.DB().NewRaw(`
		UPDATE users SET password_hash = ada.password_hash FROM users AS ada
		WHERE ada.username = 'ada'`).Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	began, before := time.Now(), w.hashes()
	answers := together(len(crowd), func(i int) spoken {
		return w.login(w.at(i), crowd[i].Username, password, "10.0.0.1")
	})
	if got := reasons(answers); got[""] != len(crowd) {
		t.Errorf("got %v", got)
	}
	if got := w.hashes() - before; got != int64(len(crowd)) {
		t.Errorf("%d hashes were computed for %d people", got, len(crowd))
	}
	t.Logf("%d people got in within %v", len(crowd), time.Since(began))
}

// loginUntilHeard logs in with the right password, and comes back as often as
// it is told that the server is busy, which busy counts.
func (w *world) loginUntilHeard(i int, name, from string, busy *atomic.Int64) spoken {
	for try := 0; ; try++ {
		answer := w.login(w.at(i+try), name, password, from)
		if _, reason := answer.failure(); reason != client.ReasonBusy {
			return answer
		}
		busy.Add(1)
		answer.saysWhen(w, "busy")
		var retry errdetails.RetryInfo
		answer.detail(&retry)
		<-time.After(retry.GetRetryDelay().AsDuration())
	}
}

// Checklist 12: what was mistyped in a form is no guess.
func TestChecklist12_typos_count_nothing(t *testing.T) {
	w := newWorld(t, onPostgres, 2, behindProxy, withLimits(t, "api=off"))
	w.redisUsed()
	w.registered(w.nodes[0], "ada")
	w.judged(func(c *claims, from string) {
		for i := range 10 {
			typo := w.speak(w.at(i), "AuthService/Login", `{"email":"ada at example","password":"seven blue kittens"}`, "X-Forwarded-For", from)
			c.equal("no e-mail", typo.status, http.StatusBadRequest)
		}
		for i := range 5 {
			c.equal("no password", w.login(w.at(i), "bob", "", from).status, http.StatusBadRequest)
			c.came("wrong", []spoken{w.login(w.at(i), "ada", "seven blue kittens", from)}, map[string]int{client.ReasonBadCredentials: 1})
		}
		c.came("the sixth", []spoken{w.login(w.nodes[0], "ada", "seven blue kittens", from)}, map[string]int{client.ReasonRateLimited: 1})
	})
}

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
)

// refresh turns a token over at n, by a client that keeps nothing.
func (w *world) refresh(ctx context.Context, n *testNode, token string) (*free2talkv1.Tokens, error) {
	reply, err := w.client(n).Auth.Refresh(ctx, &free2talkv1.RefreshRequest{RefreshToken: token})
	return reply.GetTokens(), err
}

// at is a node by number, of whatever size.
func (w *world) at(i int) *testNode { return w.nodes[i%len(w.nodes)] }

// Resolution 4, S2; checklist 29.
func TestS2_checklist29_two_hundred_refreshes_of_one_token_are_one_rotation(t *testing.T) {
	w := newWorld(t, onPostgres, 2)
	ctx := patient(t)
	for range testenv.Effort(5, 200) {
		p := w.account(w.node())
		token := p.grant.RefreshToken
		for generation := 2; generation < 4; generation++ {
			var made [200]*free2talkv1.Tokens
			errs := together(len(made), func(i int) (err error) { made[i], err = w.refresh(ctx, w.at(i), token); return err })
			w.counted(errs, map[string]int{"": len(made)})
			for _, other := range made[1:] {
				if !proto.Equal(made[0], other) {
					t.Fatalf("two answers: %v and %v", made[0].GetAccessExpiresAt(), other.GetAccessExpiresAt())
				}
			}
			if got := w.number("SELECT generation FROM sessions WHERE id = ?", p.grant.SessionID); got != generation || made[0].GetRefreshToken() == token {
				t.Fatalf("generation %d after one token was turned over, want %d", got, generation)
			}
			for i := range w.nodes {
				if w.alive(ctx, w.at(i), made[0].GetAccessToken()) != "" {
					t.Fatal("the session ended")
				}
			}
			token = made[0].GetRefreshToken()
		}
	}
	testenv.Record(t, testenv.Figure{Row: "S2", What: "other than one rotation", Of: int64(2 * testenv.Effort(5, 200)), Each: "rounds of 200 refreshes, 2 nodes"})
}

// alive is "" where an access token is good at n, else the reason.
func (w *world) alive(ctx context.Context, n *testNode, access string) string {
	_, err := w.client(n, client.WithTokens(client.Tokens{Access: access})).Auth.GetMe(ctx, &free2talkv1.GetMeRequest{})
	if err != nil && client.Reason(err) == "" {
		return err.Error()
	}
	return client.Reason(err)
}

// Resolution 4, S1, S4; checklist 32.
func TestS1_checklist32_after_a_logout_no_refresh_succeeds_and_no_token_lives(t *testing.T) {
	w := newWorld(t, onPostgres, 2)
	ctx := patient(t)
	var access []string
	won := 0
	for round := range testenv.Effort(200, 1000) {
		made := w.raceLogout(ctx, round, 50)
		won += len(made) - 1
		access = append(access, made...)
	}
	testenv.Record(t, testenv.Figure{Row: "S1", What: "refreshed after a logout", Of: int64(testenv.Effort(200, 1000)), Each: "races of 50 refreshes"})
	t.Logf("%d refreshes came back before the logout", won)
	for _, n := range w.nodes {
		w.eventually(2*time.Second, "every node knows the sessions that ended", func() bool {
			access = slices.DeleteFunc(access, func(token string) bool { return w.alive(ctx, n, token) == client.ReasonSessionRevoked })
			return len(access) == 0
		})
	}
}

// raceLogout returns the access tokens that came back, the first one too.
func (w *world) raceLogout(ctx context.Context, round, refreshers int) []string {
	p := w.account(w.node())
	door := w.at(round)
	logout := w.as(door, p)
	var out atomic.Bool
	made := make([]*free2talkv1.Tokens, refreshers+1)
	made[0] = &free2talkv1.Tokens{AccessToken: p.grant.AccessToken, RefreshToken: p.grant.RefreshToken}
	errs := together(refreshers+1, func(i int) error {
		if i == 0 {
			err := logout.Logout(ctx)
			out.Store(true)
			return err
		}
		late := out.Load()
		var err error
		made[i], err = w.refresh(ctx, w.at(i), p.grant.RefreshToken)
		if err == nil && late {
			w.Error("a refresh that began after the logout succeeded")
		}
		return err
	})
	if counts := tally(errs); counts[""]+counts[client.ReasonSessionRevoked] != len(errs) || errs[0] != nil {
		w.Fatalf("got %v", counts)
	}
	return w.allDead(ctx, door, made)
}

// allDead checks what came back of a session that ended at door.
func (w *world) allDead(ctx context.Context, door *testNode, made []*free2talkv1.Tokens) []string {
	refresh, access := map[string]bool{}, map[string]bool{}
	for _, tokens := range made {
		if tokens != nil {
			refresh[tokens.GetRefreshToken()], access[tokens.GetAccessToken()] = true, true
		}
	}
	for token := range refresh {
		for _, n := range w.nodes {
			if _, err := w.refresh(ctx, n, token); client.Reason(err) != client.ReasonSessionRevoked {
				w.Errorf("a refresh after the logout: %v", err)
			}
		}
	}
	for token := range access {
		if reason := w.alive(ctx, door, token); reason != client.ReasonSessionRevoked {
			w.Errorf("an access token after the logout, where it was made: %q", reason)
		}
	}
	return slices.Collect(maps.Keys(access))
}

// Resolution 4; checklist 7.
func TestChecklist7_a_hundred_registrations_of_one_name_are_one_account(t *testing.T) {
	w := newWorld(t, onPostgres, 2)
	for round := range testenv.Effort(1, 20) {
		w.raceToRegister(t, 100, client.ReasonEmailTaken, func(i int) (email, username string) {
			return cased(fmt.Sprintf("same%d@example.org", round), i), fmt.Sprintf("other-%d-%d", round, i)
		})
		w.raceToRegister(t, testenv.Effort(20, 100), client.ReasonUsernameTaken, func(i int) (email, username string) {
			return fmt.Sprintf("other%d-%d@example.org", round, i), cased(fmt.Sprintf("same-name-%d", round), i)
		})
	}
}

// cased spells a name so that no two neighbours spell it alike.
func cased(name string, i int) string {
	letters := strings.Split(name, "")
	for j := range letters {
		if i>>(j%7)&1 == 1 {
			letters[j] = strings.ToUpper(letters[j])
		}
	}
	return strings.Join(letters, "")
}

// raceToRegister has so many people register at once under names that are one.
// A machine that has no time for all the hashes leaves some without an answer.
func (w *world) raceToRegister(t *testing.T, people int, taken string, names func(i int) (email, username string)) {
	t.Helper()
	ctx := patient(t)
	rows := func() [2]int {
		return [2]int{w.number("SELECT count(*) FROM users"), w.number("SELECT count(*) FROM sessions")}
	}
	before := rows()
	errs := together(people, func(i int) error {
		email, username := names(i)
		_, err := w.client(w.at(i)).Register(ctx, email, username, password)
		return err
	})
	wins, unheard := 0, 0
	for _, err := range errs {
		switch code := connect.CodeOf(err); {
		case err == nil:
			wins++
		case code == connect.CodeUnavailable, code == connect.CodeDeadlineExceeded:
			unheard++
		case client.Reason(err) != taken:
			t.Error(err)
		}
	}
	if wins > 1 || wins+unheard == 0 {
		t.Errorf("got %v", tally(errs))
	}
	if got := rows(); got[0] != before[0]+1 || got[1] != before[1]+1 {
		t.Errorf("users and sessions: %v, before %v", got, before)
	}
	t.Logf("%d won, %d heard nothing", wins, unheard)
}

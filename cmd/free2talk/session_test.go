package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"

	"github.com/free2talk/free2talk/client"
	"github.com/free2talk/free2talk/server/talk"
	"github.com/free2talk/free2talk/server/talk/talktest"
)

// devices signs somebody in so many times, each at another node.
func (w *world) devices(t *testing.T, name string, n int) []pair {
	t.Helper()
	var pairs []pair
	for i := range n {
		pairs = append(pairs, w.knock(w.at(i), name, password).pair(t))
	}
	return pairs
}

// tokensOfAll are the access tokens and the refresh tokens of all.
func tokensOfAll(pairs ...pair) (access, refresh []string) {
	for _, p := range pairs {
		access, refresh = append(access, p.AccessToken), append(refresh, p.RefreshToken)
	}
	return access, refresh
}

func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t, onPostgres, 3)
	t.Run("checklist_33_S4_a_changed_password_ends_the_others", w.endsByPassword)
	t.Run("checklist_33_S4_a_deleted_account_ends_all", w.endsByDeletion)
	t.Run("checklist_33_S4_a_ban_ends_all", w.endsByBan)
	t.Run("S4_a_logout_ends_it_on_every_node", func(t *testing.T) {
		p := w.person()
		if a := w.speak(w.nodes[0], "AuthService/Logout", `{}`, "Authorization", "Bearer "+p.grant.AccessToken); a.status != http.StatusOK {
			t.Fatal(a.body)
		}
		w.dead(t, []string{p.grant.AccessToken}, []string{p.grant.RefreshToken})
	})
}

// endsByPassword has one of three devices change the password.
func (w *world) endsByPassword(t *testing.T) {
	w.registered(w.nodes[0], "ada")
	devices := w.devices(t, "ada", 3)
	const next = "eight red kettles"
	changed := w.speak(w.nodes[1], "AuthService/ChangePassword", spelled(object{"currentPassword": password, "newPassword": next}),
		"Authorization", "Bearer "+devices[0].AccessToken).pair(t)
	access, refresh := tokensOfAll(devices[1:]...)
	w.dead(t, access, refresh)
	for _, n := range w.nodes {
		for _, token := range []string{devices[0].AccessToken, changed.AccessToken} {
			if a := w.me(n, token); a.status != http.StatusOK {
				t.Errorf("who changed it goes on: %s", a.body)
			}
		}
	}
	if changed.SessionID != devices[0].SessionID || changed.RefreshToken == devices[0].RefreshToken {
		t.Error("this session was not carried on with new tokens")
	}
	w.renew(w.nodes[2], changed.RefreshToken).pair(t)
	w.knock(w.nodes[2], "ada", password).refusedAs(t, "the old password", "unauthenticated", "BAD_CREDENTIALS")
	w.knock(w.nodes[2], "ada", next).pair(t)
}

// endsByDeletion has one of three devices delete the account.
func (w *world) endsByDeletion(t *testing.T) {
	w.registered(w.nodes[0], "bob")
	devices := w.devices(t, "bob", 3)
	a := w.speak(w.nodes[1], "AuthService/DeleteAccount", spelled(object{"password": password}), "Authorization", "Bearer "+devices[0].AccessToken)
	if a.status != http.StatusOK {
		t.Fatal(a.body)
	}
	access, refresh := tokensOfAll(devices...)
	w.dead(t, access, refresh)
	w.knock(w.nodes[2], "bob", password).refusedAs(t, "the erased", "unauthenticated", "BAD_CREDENTIALS")
}

// endsByBan has an account banned that is signed in on three devices.
func (w *world) endsByBan(t *testing.T) {
	account, _ := w.registered(w.nodes[0], "carol")
	devices := w.devices(t, "carol", 3)
	w.ban("carol", time.Time{})
	id := talk.UserID(account.GetUser().GetId())
	err := w.nodes[1].outbox.Change(t.Context(), talk.Scope{Users: []talk.UserID{id}, Sessions: true}, func(state *talk.State) error {
		user, err := state.User(id)
		if err == nil {
			user.Revoke(talk.RevokedByBan, state.Now, func(*talk.Session) bool { return true })
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	access, refresh := tokensOfAll(devices...)
	w.dead(t, access, refresh)
	w.knock(w.nodes[2], "carol", password).refusedAs(t, "the banned", "permission_denied", "BANNED")
}

// TestChangePasswordRefused names what is wrong by the name it was sent under.
func TestChangePasswordRefused(t *testing.T) {
	w := newWorld(t, onEmbedded, 1)
	account, _ := w.registered(w.nodes[0], "ada")
	mine := w.knock(w.nodes[0], "ada", password).pair(t)
	change := func(current, next string) spoken {
		return w.speak(w.nodes[0], "AuthService/ChangePassword", spelled(object{"currentPassword": current, "newPassword": next}), "Authorization", "Bearer "+mine.AccessToken)
	}
	for _, next := range []string{"seven77", strings.Repeat("é", 129), "eight\x00 red"} {
		a := change(password, next)
		a.refusedAs(t, next, "invalid_argument", "")
		if fields := a.violations(); len(fields) != 1 || fields[0] != "new_password" {
			t.Errorf("%q: violations of %q", next, fields)
		}
		caller := talk.Caller{UserID: talk.UserID(account.GetUser().GetId()), SessionID: talk.SessionID(mine.SessionID)}
		_, err := w.nodes[0].accounts.ChangePassword(t.Context(), caller, password, next)
		var input *talk.InvalidInput
		if !errors.As(err, &input) || input.Field != "new_password" {
			t.Errorf("the domain says %v", err)
		}
	}
	change(password, "password123").refusedAs(t, "a common one", "invalid_argument", "PASSWORD_WEAK")
	change("wrong kettles", "eight red kettles").refusedAs(t, "not proved", "unauthenticated", "BAD_CREDENTIALS")
	w.knock(w.nodes[0], "ada", password).pair(t) // nothing was changed
}

// violations are the fields that an error complains of.
func (s spoken) violations() []string {
	var all validate.Violations
	s.detail(&all)
	var fields []string
	for _, v := range all.GetViolations() {
		var names []string
		for _, element := range v.GetField().GetElements() {
			names = append(names, element.GetFieldName())
		}
		fields = append(fields, strings.Join(names, "."))
	}
	return fields
}

// device is a session as ListSessions shows it.
type device struct {
	ID, UserAgent, IP                string
	CreatedAt, LastUsedAt, ExpiresAt time.Time
	Current                          bool
}

func (w *world) listed(t *testing.T, n *testNode, token string, headers ...string) []device {
	t.Helper()
	a := w.speak(n, "AuthService/ListSessions", `{}`, append([]string{"Authorization", "Bearer " + token}, headers...)...)
	var reply struct{ Sessions []device }
	if err := json.Unmarshal([]byte(a.body), &reply); err != nil || a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	return reply.Sessions
}

// deviceList is one person's devices, as they sign in one after the other.
type deviceList struct {
	*world
	clock   *talktest.Clock
	began   time.Time
	devices []pair
}

// apart is how long after the other they sign in.
const apart = 10 * time.Second

// signIn is at the i-th turn.
func (l *deviceList) signIn(t *testing.T, i int) {
	t.Helper()
	l.clock.Set(l.began.Add(time.Duration(i) * apart))
	l.devices = append(l.devices, l.knock(l.at(i), "ada", password, "User-Agent", fmt.Sprintf("device/%d", i)).pair(t))
}

// TestSessionList signs one person in on twenty-two devices.
func TestSessionList(t *testing.T) {
	clock := talktest.NewClock()
	l := &deviceList{world: newWorld(t, onPostgres, 2, withClock(clock.Now)), clock: clock, began: clock.Now()}
	l.registered(l.nodes[0], "ada") // the first device
	for i := 1; i < talk.SessionsPerUser; i++ {
		l.signIn(t, i)
	}
	t.Run("checklist_35_what_a_list_of_devices_shows", l.shown)
	t.Run("checklist_35_one_more_ends_the_oldest", l.displaced)
}

// shown is everything that the contract says of a device.
func (l *deviceList) shown(t *testing.T) {
	now, fifth := l.clock.Add(2*time.Minute), l.devices[4]
	list := l.listed(t, l.nodes[0], fifth.AccessToken, "User-Agent", "device/five again")
	if len(list) != talk.SessionsPerUser {
		t.Fatalf("%d devices", len(list))
	}
	for _, got := range list {
		at := int(got.CreatedAt.Sub(l.began) / apart)
		want := device{
			ID: got.ID, UserAgent: fmt.Sprintf("device/%d", at), IP: "127.0.0.1",
			CreatedAt: l.began.Add(time.Duration(at) * apart), LastUsedAt: got.CreatedAt, ExpiresAt: got.CreatedAt.Add(talk.SessionIdle),
		}
		switch at {
		case 0:
			want.UserAgent = got.UserAgent // the Go client's
		case 5:
			want.ID, want.UserAgent, want.LastUsedAt, want.Current = fifth.SessionID, "device/five again", now, true
		}
		if got != want {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	}
	l.eventually(3*time.Second, "the last used comes first, on every node", func() bool {
		list := l.listed(t, l.nodes[1], fifth.AccessToken)
		return list[0].ID == fifth.SessionID && list[0].Current
	})
}

// displaced is who signed in first.
func (l *deviceList) displaced(t *testing.T) {
	first := l.oldest(t, l.devices[0].AccessToken)
	l.signIn(t, 50)
	l.signIn(t, 51)
	list := l.listed(t, l.nodes[1], l.devices[20].AccessToken)
	if len(list) != talk.SessionsPerUser {
		t.Errorf("%d devices", len(list))
	}
	for _, d := range list {
		if d.ID == first || d.ID == l.devices[0].SessionID {
			t.Errorf("an oldest one lives: %+v", d)
		}
	}
	l.dead(t, []string{l.devices[0].AccessToken}, []string{l.devices[0].RefreshToken})
	l.renew(l.nodes[0], l.devices[1].RefreshToken).pair(t)
}

// oldest is the session that was opened first.
func (w *world) oldest(t *testing.T, token string) string {
	t.Helper()
	var first device
	for _, d := range w.listed(t, w.nodes[0], token) {
		if first.ID == "" || d.CreatedAt.Before(first.CreatedAt) {
			first = d
		}
	}
	return first.ID
}

// revokedBy waits until every node refuses an access token, within that time
// from now.
func (w *world) revokedBy(within time.Duration, token string) {
	w.Helper()
	began := time.Now()
	for _, n := range w.nodes {
		w.eventually(within-time.Since(began), "every node refuses the access token", func() bool {
			_, reason := w.me(n, token).failure()
			return reason == client.ReasonSessionRevoked
		})
	}
}

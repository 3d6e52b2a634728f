package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

func TestAccounts(t *testing.T) {
	t.Parallel()
	t.Run("are opened, and their tokens work", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		ada := s.signUp("ada")
		if ada.tokens.GetRefreshToken() == "" || !ada.tokens.GetAccessExpiresAt().AsTime().Equal(s.clock.Now().Add(15*time.Minute)) {
			t.Errorf("tokens %v", ada.tokens)
		}
		room := ada.open("Tapas and talk").GetId()
		me, err := s.auth.GetMe(ada.ctx(), &freev1.GetMeRequest{})
		if err != nil || me.GetAccount().GetEmail() != "ada@example.com" || me.GetAccount().GetUser().GetDisplayName() != "ada" ||
			me.GetCurrentRoomId() != room || me.GetOwnedRoomId() != room {
			t.Errorf("me: %v, %v", me, err)
		}
	})
	t.Run("take nothing that a registration does not say", func(t *testing.T) { // checklist 8
		t.Parallel()
		s := newSite(t)
		s.post("AuthService/Register", `{"email":"a@example.com","username":"mallory","password":"`+password+`","role":"ROLE_ADMIN","isAdmin":true,"id":"x"}`)
		res, err := s.users.GetUser(t.Context(), &freev1.GetUserRequest{Key: &freev1.GetUserRequest_Username{Username: "mallory"}})
		if err == nil && res.GetUser().GetRole() != freev1.Role_ROLE_USER {
			t.Errorf("mass assignment: %v", res)
		}
	})
	t.Run("are signed in to by either name, and list their devices", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		ada := s.signUp("ada")
		s.clock.Add(time.Minute)
		for _, login := range []*freev1.LoginRequest{
			{Login: &freev1.LoginRequest_Email{Email: "ADA@example.com"}, Password: password},
			{Login: &freev1.LoginRequest_Username{Username: "Ada"}, Password: password},
		} {
			if _, err := s.auth.Login(t.Context(), login); err != nil {
				t.Fatal(err)
			}
		}
		list, err := s.auth.ListSessions(ada.ctx(), &freev1.ListSessionsRequest{})
		if err != nil || len(list.GetSessions()) != 3 {
			t.Fatalf("sessions %v, %v", list, err)
		}
		for _, session := range list.GetSessions() {
			if session.GetCurrent() != (session.GetId() == ada.tokens.GetSessionId()) || session.GetIp() != "127.0.0.1" || session.GetUserAgent() == "" {
				t.Errorf("session %v", session)
			}
		}
		all, err := s.auth.LogoutAll(ada.ctx(), &freev1.LogoutAllRequest{})
		if err != nil || all.GetRevokedSessions() != 3 {
			t.Errorf("all: %v, %v", all, err)
		}
		_, err = s.auth.GetMe(ada.ctx(), &freev1.GetMeRequest{})
		fails(t, err, connect.CodeUnauthenticated, "SESSION_REVOKED")
	})
	t.Run("end one of their devices, twice as once, and nobody else's", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		ada, bob := s.signUp("ada"), s.signUp("bob")
		phone, err := s.auth.Login(t.Context(), &freev1.LoginRequest{Login: &freev1.LoginRequest_Username{Username: "ada"}, Password: password})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := s.auth.RevokeSession(ada.ctx(), &freev1.RevokeSessionRequest{SessionId: phone.GetTokens().GetSessionId()}); err != nil {
				t.Fatal(err)
			}
		}
		_, err = s.auth.RevokeSession(bob.ctx(), &freev1.RevokeSessionRequest{SessionId: ada.tokens.GetSessionId()})
		fails(t, err, connect.CodeNotFound, "SESSION_NOT_FOUND")
	})
}

func TestAccountsByPassword(t *testing.T) {
	t.Parallel()
	t.Run("change their password and go on", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		ada := s.signUp("ada")
		_, err := s.auth.ChangePassword(ada.ctx(), &freev1.ChangePasswordRequest{CurrentPassword: "wrong", NewPassword: password + "!"})
		fails(t, err, connect.CodeUnauthenticated, "BAD_CREDENTIALS")
		res, err := s.auth.ChangePassword(ada.ctx(), &freev1.ChangePasswordRequest{CurrentPassword: password, NewPassword: password + "!"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.auth.Refresh(t.Context(), &freev1.RefreshRequest{RefreshToken: res.GetTokens().GetRefreshToken()}); err != nil {
			t.Error(err)
		}
	})
	t.Run("are erased", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		ada := s.signUp("ada")
		room := ada.open("Tapas and talk").GetId()
		if _, err := s.auth.DeleteAccount(ada.ctx(), &freev1.DeleteAccountRequest{Password: password}); err != nil {
			t.Fatal(err)
		}
		seen, err := s.rooms.GetRoom(t.Context(), &freev1.GetRoomRequest{Key: &freev1.GetRoomRequest_Id{Id: room}})
		if err != nil || seen.GetRoom().GetStatus() != freev1.RoomStatus_ROOM_STATUS_CLOSED || seen.GetRoom().GetOwner().GetUsername() != "" {
			t.Errorf("room %v, %v", seen, err)
		}
		s.signUp("ada") // the names are free
	})
}

func TestLogout(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada := s.signUp("ada")
	for range 2 { // twice is no error
		if _, err := s.auth.Logout(ada.ctx(), &freev1.LogoutRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.auth.Refresh(t.Context(), &freev1.RefreshRequest{RefreshToken: ada.tokens.GetRefreshToken()})
	fails(t, err, connect.CodeUnauthenticated, "SESSION_REVOKED")
	_, err = s.auth.Logout(t.Context(), &freev1.LogoutRequest{})
	fails(t, err, connect.CodeUnauthenticated, "TOKEN_MISSING")
}

func TestRefresh(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada := s.signUp("ada")
	s.clock.Add(time.Minute)
	next, err := s.auth.Refresh(t.Context(), &freev1.RefreshRequest{RefreshToken: ada.tokens.GetRefreshToken()})
	if err != nil || next.GetTokens().GetSessionId() != ada.tokens.GetSessionId() || next.GetTokens().GetRefreshToken() == ada.tokens.GetRefreshToken() {
		t.Errorf("%v, %v", next, err)
	}
	_, err = s.auth.Refresh(t.Context(), &freev1.RefreshRequest{})
	fails(t, err, connect.CodeUnauthenticated, "REFRESH_INVALID")
	_, err = s.auth.Refresh(t.Context(), &freev1.RefreshRequest{RefreshToken: "nonsense"})
	fails(t, err, connect.CodeUnauthenticated, "REFRESH_INVALID")
}

// browser is a person in cookie mode: what a script sees of the answers, and
// the cookie that it does not see.
type browser struct {
	*site
	cookie string
	access string
}

const cookieName = "__Host-f2t_refresh"

// browse signs a new person up in cookie mode.
func (s *site) browse(name string) (*browser, answer) {
	s.t.Helper()
	a := s.post("AuthService/Register", `{"email":"`+name+`@example.com","username":"`+name+`","password":"`+password+`","cookie":true}`,
		"Sec-Fetch-Site", "same-origin")
	if a.status != http.StatusOK || len(a.cookies) != 1 {
		s.t.Fatalf("registered: %d %s %v", a.status, a.raw, a.cookies)
	}
	b := &browser{site: s}
	b.take(a)
	return b, a
}

func (b *browser) take(a answer) {
	b.cookie = a.cookies[0].Value
	if tokens, ok := a.body["tokens"].(map[string]any); ok {
		b.access, _ = tokens["accessToken"].(string)
	}
}

// call is one of the browser, with its cookie.
func (b *browser) call(procedure, body string, headers ...string) answer {
	b.t.Helper()
	headers = append([]string{"Cookie", cookieName + "=" + b.cookie, "Sec-Fetch-Site", "same-origin"}, headers...)
	return b.post(procedure, body, headers...)
}

// Checklist 39: the cookie's flags, exactly; the token in no body.
func TestCookieFlags(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b, registered := s.browse("ada")
	login := b.call("AuthService/Login", `{"username":"ada","password":"`+password+`","cookie":true}`)
	b.take(login)
	refreshed := b.call("AuthService/Refresh", `{}`)
	b.take(refreshed)
	changed := b.call("AuthService/ChangePassword", `{"currentPassword":"`+password+`","newPassword":"`+password+`!"}`, "Authorization", "Bearer "+b.access)
	for name, a := range map[string]answer{"register": registered, "login": login, "refresh": refreshed, "change": changed} {
		if len(a.cookies) != 1 || a.status != http.StatusOK {
			t.Fatalf("%s: %d %s, cookies %v", name, a.status, a.raw, a.cookies)
		}
		c := a.cookies[0]
		want := cookieName + "=" + c.Value + "; Path=/; Max-Age=604800; HttpOnly; Secure; SameSite=Strict"
		if c.Raw != want || c.Value == "" {
			t.Errorf("%s sets %q", name, c.Raw)
		}
		if strings.Contains(a.raw, "refreshToken") || strings.Contains(a.raw, c.Value) || !strings.Contains(a.raw, "accessToken") {
			t.Errorf("%s says %s", name, a.raw)
		}
	}
}

func TestCookieIsNotSentUnasked(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a := s.post("AuthService/Register", `{"email":"a@example.com","username":"ada","password":"`+password+`"}`)
	if len(a.cookies) != 0 || !strings.Contains(a.raw, "refreshToken") {
		t.Errorf("%s, cookies %v", a.raw, a.cookies)
	}
}

// The body's token counts before the cookie's.
func TestRefreshTakesTheBodyFirst(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b, _ := s.browse("ada")
	bob := s.signUp("bob")
	a := b.call("AuthService/Refresh", `{"refreshToken":"`+bob.tokens.GetRefreshToken()+`"}`)
	if tokens, _ := a.body["tokens"].(map[string]any); tokens["sessionId"] != bob.tokens.GetSessionId() || len(a.cookies) != 0 {
		t.Errorf("%s, cookies %v", a.raw, a.cookies)
	}
}

// Checklist 40: another site neither uses the cookie nor has one set, and
// nothing is rotated, opened or ended for it.
func TestCookieCrossSite(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b, _ := s.browse("ada")
	for name, from := range map[string][]string{
		"by Sec-Fetch-Site": {"Sec-Fetch-Site", "cross-site"},
		"by Origin":         {"Sec-Fetch-Site", "", "Origin", "https://evil.example"},
		"same site only":    {"Sec-Fetch-Site", "same-site"},
	} {
		for _, call := range [][2]string{
			{"AuthService/Refresh", `{}`},
			{"AuthService/Logout", `{}`},
			{"AuthService/Login", `{"username":"ada","password":"` + password + `","cookie":true}`},
			{"AuthService/Register", `{"email":"e@example.com","username":"eve","password":"` + password + `","cookie":true}`},
		} {
			a := b.call(call[0], call[1], from...)
			if a.status != http.StatusForbidden || a.reason() != "CROSS_SITE" || len(a.cookies) != 0 {
				t.Errorf("%s, %s: %d %s, cookies %v", call[0], name, a.status, a.raw, a.cookies)
			}
		}
	}
	if a := b.call("AuthService/Refresh", `{}`); a.status != http.StatusOK {
		t.Errorf("the session did not stay as it was: %s", a.raw)
	}
	s.signUp("eve") // was not registered from there
	if a := b.call("AuthService/Login", `{"username":"ada","password":"`+password+`"}`, "Sec-Fetch-Site", "cross-site"); a.status != http.StatusOK {
		t.Errorf("without a cookie the site does not matter: %s", a.raw)
	}
	if a := b.call("AuthService/Login", `{"username":"ada","password":"`+password+`","cookie":true}`,
		"Sec-Fetch-Site", "cross-site", "Origin", "https://app.example"); a.status != http.StatusOK || len(a.cookies) != 1 {
		t.Errorf("a configured origin is no other site: %s", a.raw)
	}
}

// Checklist 44: a refresh that lost or failed leaves the cookie alone.
func TestFailedRefreshKeepsTheCookie(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b, _ := s.browse("ada")
	old := b.cookie
	s.clock.Add(time.Minute)
	b.take(b.call("AuthService/Refresh", `{}`))
	winner := b.cookie
	b.cookie = old
	if again := b.call("AuthService/Refresh", `{}`); again.status != http.StatusOK || again.cookies[0].Value != winner {
		t.Errorf("the loser within ten seconds: %s", again.raw)
	}
	b.call("UserService/GetUser", `{"username":"ada"}`, "Authorization", "Bearer "+b.access) // the winner's token is seen
	s.clock.Add(talk.RefreshGrace)
	for cookie, reason := range map[string]string{old: "REFRESH_REUSED", "damaged": "REFRESH_INVALID"} {
		b.cookie = cookie
		if a := b.call("AuthService/Refresh", `{}`); a.status != http.StatusUnauthorized || a.reason() != reason || len(a.cookies) != 0 {
			t.Errorf("%s: %d %s, cookies %v", reason, a.status, a.raw, a.cookies)
		}
	}
}

func TestLogoutClearsTheCookie(t *testing.T) {
	t.Parallel()
	const cleared = cookieName + "=; Path=/; Max-Age=0; HttpOnly; Secure; SameSite=Strict"
	for name, end := range map[string]func(*browser) answer{
		"by the cookie": func(b *browser) answer { return b.call("AuthService/Logout", `{}`) },
		"by the token": func(b *browser) answer {
			return b.call("AuthService/Logout", `{}`, "Authorization", "Bearer "+b.access)
		},
		"by the cookie, beside a bad token": func(b *browser) answer {
			return b.call("AuthService/Logout", `{}`, "Authorization", "Bearer x.y.z")
		},
		"everywhere": func(b *browser) answer {
			return b.call("AuthService/LogoutAll", `{}`, "Authorization", "Bearer "+b.access)
		},
		"with the account": func(b *browser) answer {
			return b.call("AuthService/DeleteAccount", `{"password":"`+password+`"}`, "Authorization", "Bearer "+b.access)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, _ := newSite(t).browse("ada")
			a := end(b)
			if a.status != http.StatusOK || len(a.cookies) != 1 || a.cookies[0].Raw != cleared {
				t.Errorf("%d %s, cookies %v", a.status, a.raw, a.cookies)
			}
			if a := b.call("AuthService/Refresh", `{}`); a.status != http.StatusUnauthorized || len(a.cookies) != 0 {
				t.Errorf("the session lives: %s", a.raw)
			}
		})
	}
	t.Run("but not where it failed", func(t *testing.T) {
		t.Parallel()
		b, _ := newSite(t).browse("ada")
		for _, call := range [][2]string{{"AuthService/DeleteAccount", `{"password":"wrong"}`}, {"AuthService/LogoutAll", `[]`}} {
			a := b.call(call[0], call[1], "Authorization", "Bearer "+b.access)
			if a.status == http.StatusOK || len(a.cookies) != 0 {
				t.Errorf("%s: %d %s, cookies %v", call[0], a.status, a.raw, a.cookies)
			}
		}
	})
	t.Run("nor for another site that shows the token", func(t *testing.T) {
		t.Parallel()
		b, _ := newSite(t).browse("ada")
		a := b.post("AuthService/Logout", `{}`, "Authorization", "Bearer "+b.access, "Sec-Fetch-Site", "cross-site")
		if a.status != http.StatusOK || len(a.cookies) != 0 {
			t.Errorf("%d %s, cookies %v", a.status, a.raw, a.cookies)
		}
	})
}

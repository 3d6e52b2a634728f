package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/reflect/protoreflect"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// TestChain/stands_in_its_order is the architecture's sentence about one request.
func TestChain(t *testing.T) {
	t.Parallel()
	t.Run("stands in its order, each link with a reason", func(t *testing.T) {
		t.Parallel()
		e := newEdge(t, nil)
		var names []string
		for _, l := range e.chain() {
			names = append(names, l.name)
			if l.reason == "" || l.interceptor == nil {
				t.Errorf("%s: no reason or no interceptor", l.name)
			}
		}
		want := "otel → access log → translate → recover → ending → deadline → identify → rate limit → authorize → validate → stream"
		if got := strings.Join(names, " → "); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
	t.Run("asks in its order", chainAsksInItsOrder)
	t.Run("settles a call before its body is read", chainReadsNoBody)
}

// What a call would be refused for by several links, the first of them says.
func chainAsksInItsOrder(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(c *Config) {
		c.Limits = Limits{"api": {Policy: "api", Places: 2, Window: DefaultLimits()["api"].Window}}
	})
	invalid := `{"name": ""}`
	e.post(createRoomPath, invalid, "Authorization: Bearer nonsense").expect(t, "unauthenticated", "TOKEN_INVALID")
	if n := len(e.limiter.seen()); n != 0 {
		t.Errorf("a bad token cost %d trips to the limiter", n) // checklist 16
	}
	e.post(createRoomPath, invalid).expect(t, "unauthenticated", "TOKEN_MISSING")
	if n := len(e.limiter.seen()); n != 1 {
		t.Errorf("a missing token cost %d trips to the limiter, want 1", n)
	}
	e.post(createRoomPath, invalid).expect(t, "resource_exhausted", "RATE_LIMITED")
	e.post(createRoomPath, invalid, "Authorization: Bearer user-ada").expect(t, "invalid_argument", "")
	if e.fake.calls() != 0 {
		t.Error("a handler ran")
	}
}

// The request announces a body that never comes: who is refused by headers
// alone gets an answer all the same.
func chainReadsNoBody(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(c *Config) { c.Limits = Limits{"auth": {Policy: "auth", Places: 1, Window: 1e9}} })
	e.limiter.failed["auth 127.0.0.1"] = 1
	for _, c := range []struct{ name, path, header, want string }{
		{"anonymous", createRoomPath, "", "TOKEN_MISSING"},
		{"bad token", createRoomPath, "Authorization: Bearer x y\r\n", "TOKEN_INVALID"},
		{"limited", loginPath, "", "RATE_LIMITED"},
	} {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(e.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("POST " + c.path + " HTTP/1.1\r\nHost: x\r\n" +
			"Content-Type: application/json\r\nContent-Length: 60000\r\n" + c.header + "\r\n"))
		_ = conn.SetReadDeadline(time.Now().Add(bodyWithin / 2))
		buf := make([]byte, 4096)
		n, err := conn.Read(buf)
		if err != nil || !strings.Contains(string(buf[:n]), c.want) {
			t.Errorf("%s: got %q, %v", c.name, buf[:n], err)
		}
		_ = conn.Close()
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	t.Run("is demanded of every RPC at the start", func(t *testing.T) {
		t.Parallel()
		_, err := newServer(Config{Identify: &fakeIdentifier{}}, func(srv *connect.Server) {
			for _, procedure := range []string{"/a.B/C", "/a.B/D"} {
				srv.Register(connect.Method{Spec: connect.Spec{Procedure: procedure, Schema: methodWithoutPolicy()}, Handler: nil})
			}
		})
		if err == nil || !strings.Contains(err.Error(), "/a.B/C") || !strings.Contains(err.Error(), "/a.B/D") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("of the whole contract is understood", func(t *testing.T) {
		t.Parallel()
		s, err := New(Config{Identify: &fakeIdentifier{}})
		if err != nil {
			t.Fatal(err)
		}
		login := s.rules[loginPath]
		if login == nil || !login.ignoresToken || !login.secret || len(login.limits) == 0 {
			t.Errorf("Login: %+v", login)
		}
		if refresh := s.rules[refreshPath]; !refresh.acceptsCookie {
			t.Errorf("Refresh: %+v", refresh)
		}
	})
}

// methodWithoutPolicy is a method whose options say nothing.
func methodWithoutPolicy() protoreflect.MethodDescriptor {
	return noPolicy{free2talkv1.File_free2talk_v1_room_service_proto.Services().Get(0).Methods().Get(0)}
}

type noPolicy struct{ protoreflect.MethodDescriptor }

func (noPolicy) Options() protoreflect.ProtoMessage { return nil }

// TestIdentify16 is checklist 16: what is not exactly one bearer token is refused.
func TestIdentify16(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		values  []string
		token   string
		brought bool
		bad     bool
	}{
		{"none", nil, "", false, false},
		{"one", []string{"Bearer abc.def-_~+/="}, "abc.def-_~+/=", true, false},
		{"any case of the scheme", []string{"bearer abc"}, "abc", true, false},
		{"two", []string{"Bearer abc", "Bearer abc"}, "", true, true},
		{"Basic", []string{"Basic abc"}, "", true, true},
		{"Bearer alone", []string{"Bearer"}, "", true, true},
		{"Bearer and a blank", []string{"Bearer "}, "", true, true},
		{"two blanks", []string{"Bearer  abc"}, "", true, true},
		{"a list", []string{"Bearer abc, Bearer def"}, "", true, true},
		{"empty", []string{""}, "", true, true},
		{"not ASCII", []string{"Bearer ábc"}, "", true, true},
		{"4 KiB", []string{"Bearer " + strings.Repeat("a", 4<<10)}, strings.Repeat("a", 4<<10), true, false},
		{"4 KiB and one", []string{"Bearer " + strings.Repeat("a", 4<<10+1)}, "", true, true},
	} {
		token, brought, err := bearer(c.values)
		if token != c.token || brought != c.brought || errors.Is(err, talk.ErrTokenInvalid) != c.bad {
			t.Errorf("%s: got %.20q %v %v", c.name, token, brought, err)
		}
	}
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	cookie := "Cookie: " + refreshCookie + "=r1"
	for _, c := range []struct {
		name, path   string
		headers      []string
		code, reason string // "" means that the handler runs
	}{
		{"a public RPC needs none", getRoomPath, nil, "", ""},
		{"a public RPC refuses a bad one", getRoomPath, []string{"Authorization: Bearer expired"}, "unauthenticated", "TOKEN_EXPIRED"},
		{"a login ignores a bad one", loginPath, []string{"Authorization: Basic x"}, "", ""},
		{"a revoked session is refused", getMePath, []string{"Authorization: Bearer revoked"}, "unauthenticated", "SESSION_REVOKED"},
		{"a revoked session may log out", logoutPath, []string{"Authorization: Bearer revoked"}, "", ""},
		{"the cookie speaks for who has no token", logoutPath, []string{cookie}, "", ""},
		{"the cookie speaks for whose token has expired", logoutPath, []string{cookie, "Authorization: Bearer expired"}, "", ""},
		{"the cookie is no token elsewhere", getMePath, []string{cookie}, "unauthenticated", "TOKEN_MISSING"},
		{"nothing at all", logoutPath, nil, "unauthenticated", "TOKEN_MISSING"},
	} {
		body := `{}`
		if c.path == getRoomPath {
			body = `{"id": "` + aRoomID + `"}`
		}
		if c.path == loginPath {
			body = `{"username": "ada", "password": "correct horse"}`
		}
		got := e.post(c.path, body, c.headers...)
		if c.code == "" {
			if got.status != http.StatusOK {
				t.Errorf("%s: %d %s", c.name, got.status, got.body)
			}
			continue
		}
		got.expect(t, c.code, c.reason)
		if got.header.Get("WWW-Authenticate") != "Bearer" {
			t.Errorf("%s: WWW-Authenticate %q", c.name, got.header.Get("WWW-Authenticate"))
		}
	}
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	role := talk.RoleUser
	var broken error
	s := &Server{config: Config{Role: func(context.Context, talk.Caller) (talk.Role, error) { return role, broken }}}
	admin := &rules{access: free2talkv1.Access_ACCESS_ADMIN}
	known := &request{rules: admin, known: true}
	if err := s.admit(t.Context(), &request{rules: admin}); !errors.Is(err, talk.ErrTokenMissing) {
		t.Errorf("anonymous: %v", err)
	}
	if err := s.admit(t.Context(), known); !errors.Is(err, talk.ErrNotAdmin) {
		t.Errorf("user: %v", err)
	}
	role = talk.RoleAdmin
	if err := s.admit(t.Context(), known); err != nil {
		t.Errorf("admin: %v", err)
	}
	broken = talk.ErrDatabaseUnavailable
	if err := s.admit(t.Context(), known); !errors.Is(err, broken) {
		t.Errorf("no database: %v", err)
	}
	if err := (&Server{}).admit(t.Context(), known); !errors.Is(err, talk.ErrNotAdmin) {
		t.Errorf("nobody can tell: %v", err)
	}
	if err := s.admit(t.Context(), &request{rules: &rules{access: 99}, known: true}); err == nil {
		t.Error("an unknown access let somebody through")
	}
}

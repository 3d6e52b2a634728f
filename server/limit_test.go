package server

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

func TestParseLimits(t *testing.T) {
	t.Parallel()
	t.Run("changes what it names", func(t *testing.T) {
		t.Parallel()
		limits, err := ParseLimits(" api=600/1m , auth=off,")
		if err != nil {
			t.Fatal(err)
		}
		if got, want := limits.String(), "api=600/1m0s,strict=3/1h0m0s,room_create=10/1h0m0s,message=20/10s,auth=off"; got != want {
			t.Errorf("got %s", got)
		}
		again, err := ParseLimits(limits.String())
		if err != nil || again.String() != limits.String() {
			t.Errorf("read back: %s, %v", again, err)
		}
	})
	t.Run("has the original's numbers", func(t *testing.T) {
		t.Parallel()
		limits, err := ParseLimits("")
		if err != nil || limits.String() != "api=100/15m0s,strict=3/1h0m0s,room_create=10/1h0m0s,message=20/10s,auth=5/15m0s" {
			t.Errorf("got %s, %v", limits, err)
		}
		if !limits["auth"].Failures || limits["api"].Failures {
			t.Error("auth alone counts failures alone")
		}
	})
	t.Run("names all faults at once", parseLimitsNamesAll)
	if _, err := newServer(Config{Identify: &fakeIdentifier{}, Limits: Limits{"nope": {}}}, (&fakeHandlers{}).register); err == nil {
		t.Error("a limit that is none was taken")
	}
}

func parseLimitsNamesAll(t *testing.T) {
	t.Parallel()
	faults := []string{
		"api", "nope=1/1s", "auth=0/1m", "strict=3", "message=x/1s", "room_create=1/1ms", "strict=1/25h", "message=1/1s", "message=2/1s",
	}
	_, err := ParseLimits(strings.Join(faults, ","))
	for _, fault := range faults {
		if fault != "message=1/1s" && (err == nil || !strings.Contains(err.Error(), `"`+fault+`"`)) {
			t.Errorf("%s is not named: %v", fault, err)
		}
	}
}

// TestLimitHeaders is draft 11, as headers and never trailers, in three protocols.
func TestLimitHeaders(t *testing.T) {
	t.Parallel()
	for name, options := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEdge(t, func(c *Config) { c.Limits, _ = ParseLimits("api=5/15m,room_create=1/1h") })
			rooms := e.rooms(options...)
			create := func() (http.Header, error) {
				ctx, info := as(t.Context(), "user-ada")
				_, err := rooms.CreateRoom(ctx, &free2talkv1.CreateRoomRequest{Name: "Cafe", Languages: []string{"es"}})
				if info.ResponseTrailer().Has("RateLimit") {
					t.Error("it is a trailer")
				}
				h := http.Header{}
				for _, k := range []string{"RateLimit", "RateLimit-Policy", "Retry-After"} {
					h.Set(k, info.ResponseHeader().Get(k))
				}
				return h, err
			}
			h, err := create()
			if err != nil {
				t.Fatal(err)
			}
			expectHeader(t, h, "RateLimit-Policy", `"api";q=5;w=900, "room_create";q=1;w=3600`)
			expectHeader(t, h, "RateLimit", `"api";r=3;t=900, "room_create";r=0;t=3600`)
			h, err = create()
			expectHeader(t, h, "RateLimit", `"api";r=1;t=900, "room_create";r=0;t=91`)
			expectHeader(t, h, "Retry-After", "91")
			expectLimited(t, err, "room_create")
		})
	}
}

func expectHeader(t *testing.T, h http.Header, name, want string) {
	t.Helper()
	if got := h.Get(name); got != want {
		t.Errorf("%s: got %s, want %s", name, got, want)
	}
}

func expectLimited(t *testing.T, err error, policy string) {
	t.Helper()
	info, _ := detail[*errdetails.ErrorInfo](err)
	if info.GetReason() != "RATE_LIMITED" || info.GetDomain() != "free2talk" || info.GetMetadata()["policy"] != policy {
		t.Errorf("ErrorInfo %v of %v", info, err)
	}
	if retry, _ := detail[*errdetails.RetryInfo](err); retry.GetRetryDelay().AsDuration() != 90*time.Second+time.Millisecond {
		t.Errorf("RetryInfo %v", retry)
	}
	if quota, _ := detail[*errdetails.QuotaFailure](err); len(quota.GetViolations()) != 1 || quota.GetViolations()[0].GetSubject() != policy {
		t.Errorf("QuotaFailure %v", quota)
	}
}

func TestLimitKeys(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(c *Config) { c.TrustedProxies = loopback() })
	from6 := "X-Forwarded-For: 2001:db8:1:2:3:4:5:6"
	room := `{"name": "Cafe", "languages": ["es"]}`
	e.post(createRoomPath, room, "Authorization: Bearer user-ada", from6)
	e.post(createRoomPath, room, from6)
	e.post(loginPath, `{"username": "ada", "password": "correct horse"}`, "Authorization: Bearer user-ada", from6)
	e.post("/free2talk.v1.RoomService/Nope", `{}`, from6)
	want := []string{
		"api ada", "room_create ada", // by user where there is one
		"api 2001:db8:1:2::/64",  // else by address; what counts by user alone waits for one
		"auth 2001:db8:1:2::/64", // a login has no user yet, and only its failures count
		"api 2001:db8:1:2::/64",  // what does not exist
	}
	if got := e.limiter.seen(); !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestLimitFailures12 is checklist 12, on this side of the limiter: what counts.
func TestLimitFailures12(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	login := func() answer { return e.post(loginPath, `{"username": "ada", "password": "correct horse"}`) }
	for _, c := range []struct {
		err  error
		more int
	}{
		{nil, 0}, {talk.ErrBadCredentials, 1}, {talk.ErrBanned, 1}, {talk.ErrEmailTaken, 1}, {talk.ErrUsernameTaken.Because(errors.New("x")), 1},
		{talk.ErrPasswordWeak, 0}, {talk.ErrBusy, 0}, {talk.ErrDatabaseUnavailable, 0}, {context.Canceled, 0}, {errors.New("broken"), 0},
		{&talk.InvalidInput{Field: "email", Sentence: "is wrong"}, 0},
	} {
		before := e.limiter.failed["auth 127.0.0.1"]
		e.fake.set(func(context.Context, string) error { return c.err })
		login()
		if got := e.limiter.failed["auth 127.0.0.1"] - before; got != c.more || e.limiter.open != 0 {
			t.Errorf("%v: counted %d, want %d; %d are open", c.err, got, c.more, e.limiter.open)
		}
	}
	e.fake.set(func(context.Context, string) error { panic("at the disco") })
	login()
	e.post(loginPath, `{"username": "ada"}`)
	if e.limiter.open != 0 || e.limiter.failed["auth 127.0.0.1"] != 4 {
		t.Errorf("after a panic and a typing error: %+v", e.limiter)
	}
	e.fake.set(func(context.Context, string) error { return talk.ErrBadCredentials })
	login()
	ran := e.fake.calls()
	refused := login()
	refused.expect(t, "resource_exhausted", "RATE_LIMITED")
	expectHeader(t, refused.header, "Retry-After", "540")
	if items := refused.header.Get("RateLimit"); !strings.Contains(items, `"auth";r=0;t=540`) {
		t.Errorf("RateLimit %s", items)
	}
	if e.fake.calls() != ran {
		t.Error("the sixth try reached the handler")
	}
}

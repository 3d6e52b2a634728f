package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"connectrpc.com/connect/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// canary is planted in every cause: it must be nowhere in what a caller gets.
const canary = "canary-7f3a"

var errCanary = errors.New("dial postgres://ada:" + canary + "@db: refused")

type failure struct {
	err    error
	code   connect.Code
	reason string
	retry  time.Duration
}

// failures has one of every kind.
func failures() map[string]failure {
	until := talk.ErrKicked.With("until", "2026-01-01T00:00:00Z")
	return map[string]failure{
		"invalid":           {talk.ErrPasswordWeak, connect.CodeInvalidArgument, "PASSWORD_WEAK", 0},
		"unauthenticated":   {talk.ErrBadCredentials.Because(errCanary), connect.CodeUnauthenticated, "BAD_CREDENTIALS", 0},
		"denied":            {until, connect.CodePermissionDenied, "KICKED", 0},
		"not found":         {fmt.Errorf("load %s: %w", canary, talk.ErrRoomNotFound), connect.CodeNotFound, "ROOM_NOT_FOUND", 0},
		"exists":            {talk.ErrEmailTaken, connect.CodeAlreadyExists, "EMAIL_TAKEN", 0},
		"unsettled":         {talk.ErrRoomFull, connect.CodeFailedPrecondition, "ROOM_FULL", 0},
		"aborted":           {talk.ErrVersionMismatch, connect.CodeAborted, "VERSION_MISMATCH", 0},
		"exhausted":         {talk.ErrSlowConsumer, connect.CodeResourceExhausted, "SLOW_CONSUMER", time.Second},
		"too large":         {talk.ErrBodyTooLarge, connect.CodeResourceExhausted, "BODY_TOO_LARGE", 0},
		"unavailable":       {talk.ErrDatabaseUnavailable.Because(errCanary), connect.CodeUnavailable, "DATABASE_UNAVAILABLE", time.Second},
		"busy":              {talk.ErrBusy.After(3 * time.Second), connect.CodeUnavailable, "BUSY", 3 * time.Second},
		"input":             {&talk.InvalidInput{Field: "room.name", Sentence: "is too short"}, connect.CodeInvalidArgument, "", 0},
		"canceled":          {fmt.Errorf("%s: %w", canary, context.Canceled), connect.CodeCanceled, "", 0},
		"deadline":          {fmt.Errorf("%s: %w", canary, context.DeadlineExceeded), connect.CodeDeadlineExceeded, "", 0},
		"a socket's":        {os.ErrDeadlineExceeded, connect.CodeDeadlineExceeded, "", 0},
		"bytes":             {&http.MaxBytesError{Limit: 1}, connect.CodeResourceExhausted, "BODY_TOO_LARGE", 0},
		"unknown":           {errCanary, connect.CodeInternal, "", 0},
		"a library's":       {connect.NewError(connect.CodeUnknown, canary), connect.CodeInternal, "", 0},
		"another internal":  {connect.NewError(connect.CodeInternal, canary), connect.CodeInternal, "", 0},
		"a remote":          {connect.NewError(connect.CodeNotFound, canary).WithRemote(), connect.CodeInternal, "", 0},
		"a kind of no code": {&talk.Error{Kind: 99, Reason: "NEW", Sentence: canary}, connect.CodeInternal, "", 0},
		"authored":          {connect.NewError(connect.CodeUnimplemented, "not yet").WithCause(errCanary), connect.CodeUnimplemented, "", 0},
		"authored, away":    {connect.NewError(connect.CodeUnavailable, "leaving"), connect.CodeUnavailable, "", time.Second},
	}
}

// TestErrors60 is checklist 60: every kind, in every protocol, unary and streamed.
func TestErrors60(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(c *Config) { c.Limits = Limits{} })
	for protocol, options := range protocols {
		rooms := e.rooms(options...)
		for name, f := range failures() {
			e.fake.set(func(context.Context, string) error { return f.err })
			ctx, info := as(t.Context(), "")
			_, err := rooms.GetRoom(ctx, getARoom())
			f.expect(t, protocol+", "+name, err, info)
			ctx, info = as(t.Context(), "")
			stream, err := rooms.WatchRooms(ctx, &free2talkv1.WatchRoomsRequest{})
			if err == nil {
				_, err = stream.Receive()
			}
			f.expect(t, protocol+", streamed, "+name, err, info)
		}
	}
	if strings.Count(e.log.String(), canary) == 0 {
		t.Error("the causes are not in the log either")
	}
}

func getARoom() *free2talkv1.GetRoomRequest {
	return &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: aRoomID}}
}

func (f failure) expect(t *testing.T, name string, err error, info *connect.CallInfo) {
	t.Helper()
	if connect.CodeOf(err) != f.code {
		t.Errorf("%s: code %v, want %v: %v", name, connect.CodeOf(err), f.code, err)
	}
	if strings.Contains(fmt.Sprintf("%+v", err), canary) || strings.Contains(fmt.Sprint(headerMap(info)), canary) {
		t.Errorf("%s: the cause got out: %v", name, err)
	}
	if wire, ok := errors.AsType[*connect.Error](err); ok {
		for _, d := range wire.Details() {
			if strings.Contains(string(d.Value)+string(d.Debug), canary) {
				t.Errorf("%s: the cause is in a detail", name)
			}
		}
	}
	said, _ := detail[*errdetails.ErrorInfo](err)
	if said.GetReason() != f.reason || f.reason != "" && said.GetDomain() != "free2talk" {
		t.Errorf("%s: ErrorInfo %v, want %s", name, said, f.reason)
	}
	retry, has := detail[*errdetails.RetryInfo](err)
	if has != (f.retry > 0) || retry.GetRetryDelay().AsDuration() != f.retry {
		t.Errorf("%s: RetryInfo %v, want %v", name, retry, f.retry)
	}
	if f.code == connect.CodeInternal {
		request, _ := detail[*errdetails.RequestInfo](err)
		if id := request.GetRequestId(); id == "" || id != info.ResponseHeader().Get("X-Request-Id") {
			t.Errorf("%s: request id %q, header %q", name, id, info.ResponseHeader().Get("X-Request-Id"))
		}
	}
	if f.code == connect.CodeUnauthenticated && info.ResponseHeader().Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("%s: no WWW-Authenticate", name)
	}
}

func headerMap(info *connect.CallInfo) map[string][]string {
	all := maps.Collect(info.ResponseHeader().All())
	for k, v := range info.ResponseTrailer().All() {
		all["trailer "+k] = v
	}
	return all
}

// Every error of the domain's table has a code, so that none becomes internal.
func TestErrorKindsHaveCodes(t *testing.T) {
	t.Parallel()
	for kind := talk.Invalid; kind <= talk.Unavailable; kind++ {
		if wireCode[kind] == 0 {
			t.Errorf("kind %d has no code", kind)
		}
	}
}

func TestInvalidInputNamesItsField(t *testing.T) {
	t.Parallel()
	violations, ok := detail[*validate.Violations](invalidInput(&talk.InvalidInput{Field: "room.name", Sentence: "is too short"}))
	if !ok || len(violations.GetViolations()) != 1 {
		t.Fatalf("got %v", violations)
	}
	v := violations.GetViolations()[0]
	if path := protovalidate.FieldPathString(v.GetField()); path != "room.name" || v.GetMessage() != "is too short" {
		t.Errorf("got %s: %s", path, v.GetMessage())
	}
}

// TestValidate is the schema's rules: the violations name the field, and
// nothing repeats what was sent.
func TestValidate(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	for _, c := range []struct{ path, body string }{
		{getRoomPath, `{"id": "` + canary + `"}`},
		{loginPath, `{"username": "` + canary + `", "password": ""}`},
		{loginPath, `{"username": "ada", "password": "` + strings.Repeat(canary, 50) + `"}`},
	} {
		got := e.post(c.path, c.body)
		got.expect(t, "invalid_argument", "")
		if got.status != http.StatusBadRequest || !strings.Contains(got.body, "buf.validate.Violations") || strings.Contains(got.body, canary) {
			t.Errorf("%s: %d %s", c.body, got.status, got.body)
		}
	}
	if e.fake.calls() != 0 {
		t.Error("a handler ran")
	}
	// Checklist 8: a field that the schema does not have is not an error, and goes nowhere.
	if got := e.post(getRoomPath, `{"id": "`+aRoomID+`", "role": "admin", "isAdmin": true}`); got.status != http.StatusOK || strings.Contains(got.body, "dmin") {
		t.Errorf("unknown fields: %d %s", got.status, got.body)
	}
	got := e.post(createRoomPath, `{"name": "Cafe", "languages": ["es"], "level": "LEVEL_`+canary+`"}`, "Authorization: Bearer user-ada")
	if got.status == http.StatusOK {
		return // a name that the enum does not have is dropped as an unknown field is
	}
	got.expect(t, "invalid_argument", "")
}

// TestPanics59 is checklist 59.
func TestPanics59(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	e.fake.set(func(context.Context, string) error { panic(canary) })
	for protocol, options := range protocols {
		rooms := e.rooms(options...)
		want := failure{code: connect.CodeInternal}
		ctx, info := as(t.Context(), "")
		_, err := rooms.GetRoom(ctx, getARoom())
		want.expect(t, protocol, err, info)
		ctx, info = as(t.Context(), "")
		stream, err := rooms.WatchRooms(ctx, &free2talkv1.WatchRoomsRequest{})
		if err == nil {
			_, err = stream.Receive()
		}
		want.expect(t, protocol+", stream", err, info)
		if strings.Contains(fmt.Sprint(err), "goroutine") {
			t.Errorf("%s: the stack got out", protocol)
		}
	}
	for _, record := range e.log.records(t) {
		if record["cause"] != "panic: "+canary || !strings.Contains(fmt.Sprint(record["stack"]), "translate_test.go") {
			t.Errorf("logged %v", record)
		}
	}
	e.fake.set(nil)
	if _, err := e.rooms().GetRoom(t.Context(), getARoom()); err != nil {
		t.Errorf("after it: %v", err)
	}
	e.fake.set(func(context.Context, string) error { panic(http.ErrAbortHandler) })
	if _, err := e.rooms().GetRoom(t.Context(), getARoom()); err == nil || connect.CodeOf(err) == connect.CodeInternal && strings.Contains(err.Error(), sentenceInternal) {
		t.Errorf("ErrAbortHandler did not drop the connection: %v", err)
	}
}

// A panic of an interceptor is caught as one of a handler is.
func TestPanics59InAnInterceptor(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(c *Config) { c.Identify = panicking{} })
	got := e.post(getMePath, `{}`, "Authorization: Bearer x")
	got.expect(t, "internal", "")
	if got := e.do(http.MethodGet, "/healthz", nil); got.status != http.StatusOK {
		t.Errorf("after it: %d", got.status)
	}
}

type panicking struct{}

func (panicking) Identify(context.Context, string, talk.Device) (talk.Caller, error) {
	panic(talk.ErrRoomFull) // even an error of the domain, thrown, is internal
}

func (panicking) IdentifyEnded(context.Context, string) (talk.Caller, error) { panic(canary) }

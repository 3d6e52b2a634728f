package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"connectrpc.com/connect/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

func leaks(text string) bool {
	for _, secret := range []string{"access-", "refresh-", "6163636573732d", "726566726573682d"} {
		if strings.Contains(strings.ToLower(text), secret) {
			return true
		}
	}
	return false
}

func logged(value any) string {
	if _, structured := value.(client.Tokens); !structured {
		value = fmt.Sprint(value) // what slog's JSON makes of others is encoding/json's business
	}
	var b bytes.Buffer
	slog.New(slog.NewJSONHandler(&b, nil)).Info("session", "value", value)
	slog.New(slog.NewTextHandler(&b, nil)).Info("session", "value", value)
	return b.String()
}

// protocols is every way to speak to a server.
var protocols = map[string][]client.Option{
	"connect":      nil,
	"connect_json": {client.WithJSON()},
	"connect_get":  {client.WithHTTPGet()},
	"grpc":         {client.WithGRPC()},
	"grpc_json":    {client.WithGRPC(), client.WithJSON()},
	"grpc_web":     {client.WithGRPCWeb()},
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, opts := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := serve(t)
			c := f.dial(t, append(opts, client.WithRetries(client.Retries{Tries: 1}))...)
			t.Run("tell_reason_and_facts", func(t *testing.T) { tellReason(t, f, c) })
			t.Run("tell_when_to_come_back", func(t *testing.T) { tellWhen(t, f, c) })
			t.Run("tell_what_was_invalid", func(t *testing.T) { tellViolations(t, f, c) })
			t.Run("tell_nothing_where_there_is_nothing", func(t *testing.T) { tellNothing(t, f, c) })
		})
	}
}

func getRoom(t *testing.T, c *client.Client) error {
	t.Helper()
	return calls["GetRoom"](t.Context(), c)
}

func tellReason(t *testing.T, f *fake, c *client.Client) {
	f.fail("GetRoom", 1, failsWith(connect.CodeFailedPrecondition, client.ReasonInAnotherRoom, map[string]string{"room_id": "r1"}))
	err := fmt.Errorf("join: %w", fmt.Errorf("the first room: %w", getRoom(t, c)))
	if client.Reason(err) != client.ReasonInAnotherRoom || connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("reason %q of %v", client.Reason(err), err)
	}
	if got := client.Metadata(err); !maps.Equal(got, map[string]string{"room_id": "r1"}) {
		t.Errorf("metadata %v", got)
	}
}

func tellWhen(t *testing.T, f *fake, c *client.Client) {
	f.fail("GetRoom", 1, fails(connect.CodeResourceExhausted, client.ReasonRateLimited, after(90*time.Second)))
	err := errors.Join(errors.New("something else"), getRoom(t, c))
	if wait, told := client.RetryAfter(err); !told || wait != 90*time.Second {
		t.Errorf("wait %v, told %v", wait, told)
	}
}

func tellViolations(t *testing.T, f *fake, c *client.Client) {
	field := func(elements ...*validate.FieldPathElement) *validate.FieldPath {
		return &validate.FieldPath{Elements: elements}
	}
	named := func(name string) *validate.FieldPathElement {
		return &validate.FieldPathElement{FieldName: new(name)}
	}
	languages := named("languages")
	languages.Subscript = &validate.FieldPathElement_Index{Index: 1}
	labels := named("labels")
	labels.Subscript = &validate.FieldPathElement_StringKey{StringKey: "a b"}
	f.fail("GetRoom", 1, fails(connect.CodeInvalidArgument, "", &validate.Violations{Violations: []*validate.Violation{
		{Field: field(named("room"), languages), Message: new("must be a BCP 47 language tag")},
		{Field: field(labels), Message: new("must not be")},
		{Message: new("must make sense")},
	}}))
	err := getRoom(t, c)
	want := []client.Violation{
		{"room.languages[1]", "must be a BCP 47 language tag"}, {`labels["a b"]`, "must not be"}, {"", "must make sense"},
	}
	if got := client.Violations(fmt.Errorf("get: %w", err)); !slices.Equal(got, want) {
		t.Errorf("violations %v", got)
	}
	if client.Reason(err) != "" {
		t.Errorf("reason %q", client.Reason(err))
	}
}

func tellNothing(t *testing.T, f *fake, c *client.Client) {
	f.fail("GetRoom", 1, fails(connect.CodeInternal, "", &errdetails.ErrorInfo{Reason: "ROOM_FULL", Domain: "somebody else"}))
	for _, err := range []error{getRoom(t, c), errors.New("mine"), nil} {
		wait, told := client.RetryAfter(err)
		if client.Reason(err) != "" || client.Metadata(err) != nil || client.Violations(err) != nil || wait != 0 || told {
			t.Errorf("%v tells something", err)
		}
	}
}

func TestProtocols(t *testing.T) {
	t.Parallel()
	for name, opts := range protocols {
		t.Run(name+"_logs_in_joins_and_refreshes", func(t *testing.T) {
			t.Parallel()
			f := serve(t)
			c := f.signIn(t, opts...)
			f.expire()
			joined, err := c.Rooms.JoinRoom(t.Context(), &free2talkv1.JoinRoomRequest{RoomId: room().GetId()})
			if err != nil || len(joined.GetParticipants()) != 1 || f.called("Refresh") != 1 {
				t.Errorf("%v, %v after %d refreshes", joined, err, f.called("Refresh"))
			}
			if err := getRoom(t, c); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestGetIsForWhatReads(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.dial(t, client.WithHTTPGet(), client.WithJSON())
	if err := getRoom(t, c); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Auth.Login(t.Context(), &free2talkv1.LoginRequest{})
	want := []string{"GET /free2talk.v1.RoomService/GetRoom", "POST /free2talk.v1.AuthService/Login"}
	if got := f.requests(); !slices.Equal(got, want) {
		t.Errorf("requests %q", got)
	}
}

// calls are a method that reads, one that is idempotent, and one that is neither.
var calls = map[string]func(context.Context, *client.Client) error{
	"GetRoom": func(ctx context.Context, c *client.Client) error {
		_, err := c.Rooms.GetRoom(ctx, &free2talkv1.GetRoomRequest{})
		return err
	},
	"JoinRoom": func(ctx context.Context, c *client.Client) error {
		_, err := c.Rooms.JoinRoom(ctx, &free2talkv1.JoinRoomRequest{})
		return err
	},
	"CreateRoom": func(ctx context.Context, c *client.Client) error {
		_, err := c.Rooms.CreateRoom(ctx, &free2talkv1.CreateRoomRequest{})
		return err
	},
}

var (
	away    = fails(connect.CodeUnavailable, client.ReasonDatabaseUnavailable)
	limited = fails(connect.CodeResourceExhausted, client.ReasonRateLimited, after(2*time.Second))
	full    = fails(connect.CodeFailedPrecondition, client.ReasonRoomFull)
	patient = client.Retries{RateLimited: 3 * time.Second}
)

var retries = []struct {
	name        string
	method      string
	fail        error
	times       int // 0: for good
	retries     client.Retries
	tries       int
	least, most time.Duration // of each wait
	ok          bool
}{
	{name: "a read is tried three times", method: "GetRoom", fail: away, tries: 3, most: 200 * time.Millisecond},
	{name: "a read succeeds at last", method: "GetRoom", fail: away, times: 2, tries: 3, most: 200 * time.Millisecond, ok: true},
	{name: "a join is the same twice as once", method: "JoinRoom", fail: away, times: 1, tries: 2, most: 100 * time.Millisecond, ok: true},
	{name: "a creation is not repeated", method: "CreateRoom", fail: away, times: 1, tries: 1},
	{name: "the server's delay is kept", method: "GetRoom", fail: fails(connect.CodeUnavailable, "", after(time.Second)), times: 1, tries: 2, least: time.Second, most: 1100 * time.Millisecond, ok: true},
	{name: "too long a delay is not waited for", method: "GetRoom", fail: fails(connect.CodeUnavailable, "", after(6*time.Second)), times: 1, tries: 1},
	{name: "as often as told", method: "GetRoom", fail: away, retries: client.Retries{Tries: 5, Base: time.Second, Longest: 2 * time.Second}, tries: 5, most: 2 * time.Second},
	{name: "never, if told", method: "GetRoom", fail: away, times: 1, retries: client.Retries{Tries: 1}, tries: 1},
	{name: "a limit is not waited for", method: "GetRoom", fail: limited, times: 1, tries: 1},
	{name: "a limit is waited for if told", method: "GetRoom", fail: limited, times: 1, retries: patient, tries: 2, least: 2 * time.Second, most: 2200 * time.Millisecond, ok: true},
	{name: "what a limit refused did nothing", method: "CreateRoom", fail: limited, times: 1, retries: patient, tries: 2, least: 2 * time.Second, most: 2200 * time.Millisecond, ok: true},
	{name: "a limit is waited for so long and no longer", method: "GetRoom", fail: limited, times: 1, retries: client.Retries{RateLimited: time.Second}, tries: 1},
	{name: "a limit that does not say how long", method: "GetRoom", fail: fails(connect.CodeResourceExhausted, client.ReasonRateLimited), times: 1, retries: patient, tries: 1},
	{name: "too large is too large", method: "GetRoom", fail: fails(connect.CodeResourceExhausted, client.ReasonBodyTooLarge, after(time.Second)), times: 1, retries: patient, tries: 1},
	{name: "somebody else's exhaustion", method: "JoinRoom", fail: fails(connect.CodeResourceExhausted, "", after(time.Second)), times: 1, retries: patient, tries: 1},
	{name: "a full room", method: "JoinRoom", fail: full, times: 1, retries: patient, tries: 1},
	{name: "an internal error", method: "GetRoom", fail: fails(connect.CodeInternal, ""), times: 1, tries: 1},
	{name: "a deadline", method: "GetRoom", fail: fails(connect.CodeDeadlineExceeded, ""), times: 1, tries: 1},
}

func TestRetries(t *testing.T) {
	t.Parallel()
	for _, test := range retries {
		t.Run(strings.ReplaceAll(test.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			f, now := serve(t), &clock{}
			c := f.signIn(t, client.WithRetries(test.retries), client.WithClock(now))
			f.fail(test.method, test.times, test.fail)
			err := calls[test.method](t.Context(), c)
			if (err == nil) != test.ok || f.called(test.method) != test.tries {
				t.Errorf("%v after %d tries", err, f.called(test.method))
			}
			if !test.ok && client.Reason(err) != client.Reason(test.fail) {
				t.Errorf("the error is %v", err)
			}
			if waits := now.waited(); len(waits) != test.tries-1 || len(waits) > 0 && (slices.Min(waits) < test.least || slices.Max(waits) > test.most) {
				t.Errorf("waits %v", waits)
			}
		})
	}
}

func TestRetriesStayWithinTheDeadline(t *testing.T) {
	t.Parallel()
	f, now := serve(t), &clock{}
	c := f.dial(t, client.WithClock(now))
	f.fail("GetRoom", 0, fails(connect.CodeUnavailable, "", after(4*time.Second)))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	err := calls["GetRoom"](ctx, c)
	if connect.CodeOf(err) != connect.CodeUnavailable || f.called("GetRoom") != 1 || len(now.waited()) != 0 {
		t.Errorf("%v after %d tries and %v", err, f.called("GetRoom"), now.waited())
	}
}

func TestRetriesReachAServerThatComesBack(t *testing.T) {
	t.Parallel()
	tries := 0
	broken := doer(func(*http.Request) (*http.Response, error) {
		tries++
		return nil, errors.New("connection refused")
	})
	c, err := client.New("http://127.0.0.1:1", client.WithHTTPClient(broken), client.WithClock(&clock{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := getRoom(t, c); connect.CodeOf(err) != connect.CodeUnavailable || tries != 3 {
		t.Errorf("%v after %d tries", err, tries)
	}
	err = calls["CreateRoom"](t.Context(), c)
	if connect.CodeOf(err) != connect.CodeUnavailable || tries != 4 {
		t.Errorf("%v after %d tries", err, tries)
	}
}

type doer func(*http.Request) (*http.Response, error)

// Do is the function itself.
func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func TestNew(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"", "127.0.0.1:8080", "localhost:8080", "ftp://127.0.0.1", "http://", "http://ada:secret@127.0.0.1",
		"http://127.0.0.1/?a=b", "http://127.0.0.1/#top", "http://[::1", "://",
	} {
		c, err := client.New(address)
		if err == nil || c != nil {
			t.Errorf("%q is taken", address)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("the error tells what it should not: %v", err)
		}
	}
	for _, address := range []string{"http://127.0.0.1:8080", "https://talk.example/api/"} {
		if _, err := client.New(address, client.WithTokenStore(nil), client.WithHTTPClient(nil), client.WithClock(nil)); err != nil {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestConnIsShared(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t)
	spec := connect.Spec{Procedure: "/free2talk.v1.AuthService/GetMe"} // as another package's client calls
	var res free2talkv1.GetMeResponse
	if err := c.Conn().CallUnary(t.Context(), spec, &free2talkv1.GetMeRequest{}, &res); err != nil {
		t.Error(err)
	}
}

// Each value of the enum is a constant, under its own name and documented.
func TestReasons(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, spec := range file.Decls[0].(*ast.GenDecl).Specs {
		value := spec.(*ast.ValueSpec)
		text, err := strconv.Unquote(value.Values[0].(*ast.BasicLit).Value)
		if err != nil || value.Doc.Text() == "" {
			t.Errorf("%s: %v, documented as %q", value.Names[0], err, value.Doc.Text())
		}
		got[value.Names[0].Name] = text
	}
	want := map[string]string{}
	for number, name := range free2talkv1.Reason_name {
		name = strings.TrimPrefix(name, "REASON_")
		if number == 0 {
			continue
		}
		var camel strings.Builder
		for word := range strings.SplitSeq(name, "_") {
			camel.WriteString(word[:1] + strings.ToLower(word[1:]))
		}
		want["Reason"+camel.String()] = name
	}
	if !maps.Equal(got, want) {
		t.Errorf("the constants are\n%v\nand the contract's reasons\n%v", got, want)
	}
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/uptrace/bun"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	"github.com/free2talk/free2talk/internal/testenv"
)

// spoken is what came back from a call by plain HTTP.
type spoken struct {
	status  int
	header  http.Header
	cookies []*http.Cookie
	body    string
}

// speak makes a call as curl would. headers are pairs of name and value; one
// that is named twice is sent twice.
func (w *world) speak(n *testNode, method, body string, headers ...string) spoken {
	w.Helper()
	req, err := http.NewRequestWithContext(w.Context(), http.MethodPost, n.url+"/free2talk.v1."+method, strings.NewReader(body))
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	reply, err := w.http.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil {
		w.Fatal(err)
	}
	return spoken{reply.StatusCode, reply.Header, reply.Cookies(), string(text)}
}

// failure is the code and the reason of an error; "" where there is none.
func (s spoken) failure() (code, reason string) {
	var wire struct{ Code string }
	if s.status == http.StatusOK || json.Unmarshal([]byte(s.body), &wire) != nil {
		return "", ""
	}
	var info errdetails.ErrorInfo
	s.detail(&info)
	return wire.Code, info.GetReason()
}

// detail reads the detail of an error that is a message like into.
func (s spoken) detail(into proto.Message) bool {
	var wire struct {
		Details []struct{ Type, Value string }
	}
	if json.Unmarshal([]byte(s.body), &wire) != nil {
		return false
	}
	for _, d := range wire.Details {
		if d.Type == string(proto.MessageName(into)) {
			value, err := base64.RawStdEncoding.DecodeString(d.Value)
			return err == nil && proto.Unmarshal(value, into) == nil
		}
	}
	return false
}

// refusedAs says that it is an error with that code and reason.
func (s spoken) refusedAs(t testing.TB, what, code, reason string) {
	t.Helper()
	if gotCode, gotReason := s.failure(); gotCode != code || gotReason != reason {
		t.Errorf("%s: %d %.300s; want %s %s", what, s.status, s.body, code, reason)
	}
}

// saysWhen says that the error tells when to come back.
func (s spoken) saysWhen(t testing.TB, what string) {
	t.Helper()
	var retry errdetails.RetryInfo
	if !s.detail(&retry) || retry.GetRetryDelay().AsDuration() <= 0 || s.header.Get("Retry-After") == "" {
		t.Errorf("%s does not say when to come back: %v %s", what, s.header, s.body)
	}
}

// spelled is v as JSON.
func spelled(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// queries hears what calls ask of a database. What goes on behind the calls is
// not heard: it has no request.
type queries struct {
	mu  sync.Mutex
	all []string
}

// BeforeQuery changes nothing.
func (*queries) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context { return ctx }

// AfterQuery notes the query of a call.
func (q *queries) AfterQuery(ctx context.Context, event *bun.QueryEvent) {
	if ctx.Value(http.ServerContextKey) != nil {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.all = append(q.all, event.Query)
	}
}

// take returns what was heard since it was last taken.
func (q *queries) take() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.all
	q.all = nil
	return all
}

// watchedBy has q hear what calls ask; on SQLite that is every statement.
func watchedBy(q *queries) func(*Settings) { return func(s *Settings) { s.watch = q } }

// plainKeys leaves the keys unsealed, so that a test can sign with them.
func plainKeys(s *Settings) { s.Secret = nil }

// logbook keeps what a node logs.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// events are the records of security under that name.
func (l *logbook) events(name string) []map[string]any {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []map[string]any
	lines := bufio.NewScanner(bytes.NewReader(l.text.Bytes()))
	for lines.Scan() {
		record := map[string]any{}
		if json.Unmarshal(lines.Bytes(), &record) == nil && record["event"] == name {
			found = append(found, record)
		}
	}
	return found
}

// onOwnRedis is Postgres with a Redis that nobody else talks to.
func onOwnRedis(server *testenv.Server) backend {
	return backend{"own redis", 3, func(t testing.TB, s *Settings) {
		s.DatabaseURL, s.RedisURL = testenv.Postgres(t), server.URL()
	}}
}

// askOf connects to a test's own Redis.
func askOf(t testing.TB, server *testenv.Server) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// commands counts the commands that a Redis was given, but for those by which
// nodes and tests look whether it is there.
func commands(t testing.TB, client *redis.Client) int {
	t.Helper()
	stats, err := client.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for line := range strings.Lines(stats) {
		name, rest, found := strings.Cut(line, ":calls=")
		if !found {
			continue
		}
		switch name, _, _ := strings.Cut(strings.TrimPrefix(name, "cmdstat_"), "|"); name {
		case "info", "ping", "hello", "client", "flushall", "monitor":
			continue
		}
		number, _, _ := strings.Cut(rest, ",")
		calls, err := strconv.Atoi(number)
		if err != nil {
			t.Fatal(err)
		}
		total += calls
	}
	return total
}

package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// cpu is what this process has computed so far.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// bomb is that many mebibytes of blanks, gzipped.
func bomb(t *testing.T, mebibytes int) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	blanks := bytes.Repeat([]byte(" "), 1<<20)
	for range mebibytes {
		if _, err := z.Write(blanks); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func envelope(flags byte, size uint32, data string) string {
	return string(append(binary.BigEndian.AppendUint32([]byte{flags}, size), data...))
}

// TestBody55 is checklist 55. It is not parallel: it measures the process.
func TestBody55(t *testing.T) { //nolint:paralleltest // it measures the whole process
	e := newEdge(t, nil)
	fits := `{"id": "` + aRoomID + `"` + strings.Repeat(" ", bodyMost-46) + `}`
	if got := e.post(getRoomPath, fits); got.status != http.StatusOK || len(fits) != bodyMost {
		t.Errorf("%d bytes: %d %s", len(fits), got.status, got.body)
	}
	small := bomb(t, 60) // 60 KiB of gzip
	for _, c := range []struct {
		name, path string
		length     int64 // announced; -1 is chunked
		body       func() io.Reader
		headers    []string
	}{
		{"64 KiB and one", getRoomPath, bodyMost + 1, text(fits + " "), nil},
		{"64 KiB and one, chunked", getRoomPath, -1, text(fits + " "), nil},
		{"200 MiB", getRoomPath, 200 << 20, blanks(1 << 20), nil},
		{"endless chunks", getRoomPath, -1, blanks(16 << 20), nil},
		{"a bomb", getRoomPath, int64(len(small)), text(string(small)), []string{"Content-Encoding: gzip"}},
		{"an envelope of 4 GiB", watchRoomsPath, -1, text(envelope(0, 1<<32-1, "x")), []string{"Content-Type: application/connect+json"}},
		{"that and what fills it", watchRoomsPath, -1, func() io.Reader {
			return io.MultiReader(strings.NewReader(envelope(0, 1<<32-1, "")), blanks(16<<20)())
		}, []string{"Content-Type: application/connect+json"}},
	} {
		// What it costs is the least of five: the process does other things too,
		// and what this test sends is part of it.
		least := time.Hour
		for range 5 {
			before := cpu(t)
			got := e.raw(c.path, c.length, c.body(), c.headers...)
			least = min(least, cpu(t)-before)
			if !strings.Contains(got, "BODY_TOO_LARGE") || strings.Contains(got, "RetryInfo") {
				t.Errorf("%s: got %q", c.name, got)
			}
		}
		if least > 20*time.Millisecond {
			t.Errorf("%s: %v of CPU", c.name, least)
		}
	}
	if e.fake.calls() != 1 {
		t.Errorf("%d calls reached a handler", e.fake.calls())
	}
}

func text(s string) func() io.Reader { return func() io.Reader { return strings.NewReader(s) } }

func blanks(n int64) func() io.Reader { return func() io.Reader { return io.LimitReader(zeros{}, n) } }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// raw sends a request over a connection of its own, and reads what comes back
// while it still sends.
func (e *edge) raw(path string, length int64, body io.Reader, headers ...string) string {
	e.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(e.t.Context(), "tcp", strings.TrimPrefix(e.url, "http://"))
	if err != nil {
		e.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	req, err := http.NewRequestWithContext(e.t.Context(), http.MethodPost, e.url+path, body)
	if err != nil {
		e.t.Fatal(err)
	}
	req.ContentLength = length
	req.Header.Set("Content-Type", "application/json")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	go func() { _ = req.Write(conn) }() // fails where the server is right not to read all
	got := make([]byte, 8<<10)
	n, _ := io.ReadAtLeast(conn, got, 1)
	for n < len(got) && !strings.Contains(string(got[:n]), "\r\n0\r\n") && !strings.Contains(string(got[:n]), "}]}") {
		more, err := conn.Read(got[n:])
		n += more
		if err != nil {
			break
		}
	}
	return string(got[:n])
}

// What is too large by its own account is refused in each protocol's own way.
func TestBody55InEveryProtocol(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	req := getARoom()
	big := strings.Repeat("x", 2*bodyMost)
	req.ProtoReflect().SetUnknown(append([]byte{0xfa, 0x3f, 0x80, 0x80, 0x08}, big...)) // field 127: 128 KiB
	want := failure{code: 8, reason: "BODY_TOO_LARGE"}
	for protocol, options := range protocols {
		if protocol == "connect json" {
			continue // JSON does not carry unknown fields
		}
		ctx, info := as(t.Context(), "")
		_, err := e.rooms(options...).GetRoom(ctx, req)
		want.expect(t, protocol, err, info)
	}
	if records := e.log.records(t); len(records) != 3 || records[0]["reason"] != "BODY_TOO_LARGE" {
		t.Errorf("logged %v", records)
	}
}

// TestWhoIsRefusedSeesTheAnswer: nobody reads the body, and the connection
// ends with a FIN all the same. A reset could overtake the answer, and who still
// sends sees it in place of the answer.
func TestWhoIsRefusedSeesTheAnswer(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	e.fake.set(func(context.Context, string) error { return nil })
	for name, head := range map[string]string{
		"too large":        "POST " + getRoomPath + " HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 65537",
		"far too large":    "POST " + getRoomPath + " HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 209715200",
		"as HTTP/1.0":      "POST " + getRoomPath + " HTTP/1.0\r\nContent-Type: application/json\r\nContent-Length: 65537",
		"no such call":     "POST /free2talk.v1.RoomService/Nope HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 60000",
		"no such type":     "POST " + getRoomPath + " HTTP/1.1\r\nContent-Type: text/html\r\nContent-Length: 60000",
		"nobody signed in": "POST " + getMePath + " HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 60000",
		"no page":          "POST /nothing HTTP/1.1\r\nContent-Length: 60000",
	} {
		for kind, last := range map[string]string{"closing": "Connection: close\r\n", "open": ""} {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(e.url, "http://"))
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				if _, err = io.WriteString(conn, head+"\r\nHost: test\r\n"+last+"\r\n"+strings.Repeat(" ", 40_000)); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(got), "HTTP/1.") {
					t.Errorf("%v, after %q", err, got)
				}
			})
		}
	}
}

// byAllWays sends a request over HTTP/1.1 and h2c, as a plain call and by
// Connect's transport, all at once.
func byAllWays(t *testing.T, asked func(kind string) *http.Request, check func(way string, got *http.Response)) {
	t.Helper()
	two := &http.Transport{Protocols: new(http.Protocols)}
	two.Protocols.SetUnencryptedHTTP2(true)
	var all sync.WaitGroup
	for _, transport := range []*http.Transport{{}, two} {
		defer transport.CloseIdleConnections()
		for _, kind := range []string{"application/json", "application/json; charset=utf-8"} {
			all.Go(func() {
				got, err := transport.RoundTrip(asked(kind))
				if err != nil {
					t.Errorf("%s: %v", kind, err)
					return
				}
				defer got.Body.Close()
				check(got.Proto+" "+kind, got)
			})
		}
	}
	all.Wait()
}

// TestABodyHasToArrive: whoever sends a part of it, and then nothing, is answered.
func TestABodyHasToArrive(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	began := time.Now()
	byAllWays(t, func(kind string) *http.Request {
		body, rest := io.Pipe()
		t.Cleanup(func() { _ = rest.Close() })
		go func() { _, _ = io.WriteString(rest, "{") }()
		req := e.request(getRoomPath, kind, body)
		req.ContentLength = 50
		return req
	}, func(way string, got *http.Response) {
		if took := time.Since(began); got.StatusCode < 400 || took < bodyWithin/2 || took > bodyWithin+5*time.Second {
			t.Errorf("%s: %s after %v", way, got.Status, took)
		}
	})
}

// TestACallOutlastsItsBody: the time that a body has ends with the body.
func TestACallOutlastsItsBody(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	e.fake.set(func(ctx context.Context, _ string) error {
		select {
		case <-time.After(bodyWithin + time.Second):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	byAllWays(t, func(kind string) *http.Request {
		req := e.request(getRoomPath, kind, strings.NewReader(`{"id":"`+aRoomID+`"}`))
		req.Header.Set("Connect-Timeout-Ms", "25000")
		return req
	}, func(way string, got *http.Response) {
		if got.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", way, got.Status)
		}
	})
}

// request is one that was not sent yet.
func (e *edge) request(path, kind string, body io.Reader) *http.Request {
	req, err := http.NewRequestWithContext(e.t.Context(), http.MethodPost, e.url+path, body)
	if err != nil {
		e.t.Error(err)
	}
	req.Header.Set("Content-Type", kind)
	return req
}

func TestTimeoutReadable(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{"": true, "5000": true, "9999999999": true, "10000000000": false, "-1": false, "1.5": false, "x": false} {
		if got := timeoutReadable(http.Header{"Connect-Timeout-Ms": {value}}); got != want {
			t.Errorf("Connect-Timeout-Ms %q: %v", value, got)
		}
	}
	for value, want := range map[string]bool{"5S": true, "99999999H": true, "999999999H": false, "S": false, "5": false, "5x": false, "-5S": false} {
		if got := timeoutReadable(http.Header{"Grpc-Timeout": {value}}); got != want {
			t.Errorf("Grpc-Timeout %q: %v", value, got)
		}
	}
}

// TestCompression: answers of a size, and never events or secrets.
func TestCompression(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	e.fake.set(func(context.Context, string) error { return nil })
	for _, c := range []struct{ path, body, want string }{
		{listRoomsPath, `{}`, "gzip"},
		{getRoomPath, `{"id": "` + aRoomID + `"}`, ""},
	} {
		if got := e.post(c.path, c.body, "Accept-Encoding: gzip"); got.status != http.StatusOK || got.header.Get("Content-Encoding") != c.want {
			t.Errorf("%s: %d %q", c.path, got.status, got.header.Get("Content-Encoding"))
		}
	}
}

// Events and secrets are not compressed, though the caller would take it.
func TestCompressionSparesStreams(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	long := strings.Repeat("x", 8<<10)
	e.fake.stream = func(_ context.Context, send func(*free2talkv1.WatchRoomsResponse) error) error {
		return send(&free2talkv1.WatchRoomsResponse{Cursor: long})
	}
	got := e.do(http.MethodPost, watchRoomsPath, newReader(envelope(0, 2, "{}")),
		"Content-Type: application/connect+json", "Connect-Accept-Encoding: gzip")
	if got.status != http.StatusOK || !strings.Contains(got.body, long) || got.body[0] != 0 {
		t.Errorf("%d, flags %d, %d bytes", got.status, got.body[0], len(got.body))
	}
}

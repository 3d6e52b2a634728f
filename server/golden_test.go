package server

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write testdata/protocol.golden anew")

// edges are requests as they go over the wire; {} stands for the usual
// headers. What they get is testdata/protocol.golden, so that an upgrade of a
// library that changes an answer is seen.
var edges = []struct{ name, request string }{
	{"a good call", post(getRoomPath, "application/json", `{"id":"`+aRoomID+`"}`)},
	{"a good GET", "GET " + getRoomPath + "?encoding=json&message=%7B%22id%22%3A%22" + aRoomID + "%22%7D HTTP/1.1\r\n{}\r\n"},
	{"GET without a message", "GET " + getRoomPath + "?encoding=json HTTP/1.1\r\n{}\r\n"},
	{"GET without an encoding", "GET " + getRoomPath + "?message=%7B%7D HTTP/1.1\r\n{}\r\n"},
	{"GET with a bad message", "GET " + getRoomPath + "?encoding=json&message=%7B HTTP/1.1\r\n{}\r\n"},
	{"GET with bad base64", "GET " + getRoomPath + "?encoding=proto&base64=1&message=!!! HTTP/1.1\r\n{}\r\n"},
	{"GET with a body", "GET " + getRoomPath + "?encoding=json&message=%7B%7D HTTP/1.1\r\n{}Content-Length: 2\r\n\r\n{}"},
	{"HEAD", "HEAD " + getRoomPath + " HTTP/1.1\r\n{}\r\n"},
	{"PUT", "PUT " + getRoomPath + " HTTP/1.1\r\n{}Content-Length: 0\r\n\r\n"},
	{"OPTIONS without an origin", "OPTIONS " + getRoomPath + " HTTP/1.1\r\n{}\r\n"},
	{"no content type", "POST " + getRoomPath + " HTTP/1.1\r\n{}Content-Length: 2\r\n\r\n{}"},
	{"a wrong content type", post(getRoomPath, "text/plain", `{}`)},
	{"a content type with a charset", post(getRoomPath, "application/json; charset=utf-8", `{"id":"`+aRoomID+`"}`)},
	{"a content type with another charset", post(getRoomPath, "application/json; charset=latin-1", `{"id":"`+aRoomID+`"}`)},
	{"unary JSON to a stream", post(watchRoomsPath, "application/json", `{}`)},
	{"an envelope to a unary RPC", post(getRoomPath, "application/connect+json", envelope(0, 2, "{}"))},
	{"broken JSON", post(getRoomPath, "application/json", `{"id":`)},
	{"JSON that is no object", post(getRoomPath, "application/json", `[]`)},
	{"trailing JSON", post(getRoomPath, "application/json", `{} {}`)},
	{"a wrong JSON type", post(getRoomPath, "application/json", `{"id": 7}`)},
	{"JSON twice the same field", post(getRoomPath, "application/json", `{"id":"`+aRoomID+`","id":"`+aRoomID+`"}`)},
	{"two of a oneof", post(getRoomPath, "application/json", `{"id":"`+aRoomID+`","slug":"x"}`)},
	{"JSON of 200 levels", post(getRoomPath, "application/json", strings.Repeat(`{"a":`, 200)+`1`+strings.Repeat(`}`, 200))},
	{"invalid UTF-8 in JSON", post(getRoomPath, "application/json", "{\"slug\":\"\xff\"}")},
	{"a lone surrogate", post(getRoomPath, "application/json", `{"slug":"\ud800"}`)},
	{"NUL", post(getRoomPath, "application/json", `{"slug":"a\u0000b"}`)},
	{"an empty body", post(getRoomPath, "application/json", "")},
	{"invalid UTF-8 in protobuf", post(getRoomPath, "application/proto", "\x12\x01\xff")},
	{"broken protobuf", post(getRoomPath, "application/proto", "\x0a\xff")},
	{"an unknown compression", post(getRoomPath, "application/json", `{}`, "Content-Encoding: zip")},
	{"gzip that is none", post(getRoomPath, "application/json", `{}`, "Content-Encoding: gzip")},
	{"an unknown protocol version", post(getRoomPath, "application/json", `{}`, "Connect-Protocol-Version: 2")},
	{"GET of an unknown version", "GET " + getRoomPath + "?connect=v9&encoding=json&message=%7B%7D HTTP/1.1\r\n{}\r\n"},
	{"an odd time-out", post(getRoomPath, "application/json", `{}`, "Connect-Timeout-Ms: soon")},
	{"a negative time-out", post(getRoomPath, "application/json", `{}`, "Connect-Timeout-Ms: -1")},
	{"no time at all", post(getRoomPath, "application/json", `{"id":"`+aRoomID+`"}`, "Connect-Timeout-Ms: 0")},
	{"a time-out of 11 digits", post(getRoomPath, "application/json", `{}`, "Connect-Timeout-Ms: 10000000000")},
	{"an unknown method", post("/free2talk.v1.RoomService/Nope", "application/json", `{}`)},
	{"GET of an unknown method", "GET /free2talk.v1.RoomService/Nope?encoding=json&message=%7B%7D HTTP/1.1\r\n{}\r\n"},
	{"an unknown service", post("/free2talk.v1.Nope/Nope", "application/json", `{}`)},
	{"a path that climbs", post("/x/../free2talk.v1.RoomService/GetRoom", "application/json", `{}`)},
	{"two Content-Lengths", "POST " + getRoomPath + " HTTP/1.1\r\n{}Content-Type: application/json\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} "},
	{"length and chunks", "POST " + getRoomPath + " HTTP/1.1\r\n{}Content-Type: application/json\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"},
	{"broken chunks", "POST " + getRoomPath + " HTTP/1.1\r\n{}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"},
	{"no Host", "GET / HTTP/1.1\r\n\r\n"},
	{"headers of 32 KiB", "GET / HTTP/1.1\r\n{}X-Big: " + strings.Repeat("x", 32<<10) + "\r\n\r\n"},
	{"a stream's bad flags", post(watchRoomsPath, "application/connect+json", envelope(0x40, 2, "{}"))},
	{"a stream's short envelope", post(watchRoomsPath, "application/connect+json", envelope(0, 200, "{}"))},
	{"a stream's empty body", post(watchRoomsPath, "application/connect+json", "")},
	{"a stream's two messages", post(watchRoomsPath, "application/connect+json", envelope(0, 2, "{}")+envelope(0, 2, "{}"))},
	{"gRPC-Web", post(getRoomPath, "application/grpc-web+json", envelope(0, uint32(len(aRoomID)+9), `{"id":"`+aRoomID+`"}`))},
	{"gRPC-Web, bad time-out", post(getRoomPath, "application/grpc-web+json", envelope(0, 2, "{}"), "Grpc-Timeout: 5x")},
	{"gRPC-Web, broken", post(getRoomPath, "application/grpc-web+json", "\x00\x00")},
	{"gRPC-Web, unknown method", post("/free2talk.v1.RoomService/Nope", "application/grpc-web+proto", envelope(0, 0, ""))},
}

func post(path, contentType, body string, headers ...string) string {
	more := ""
	for _, h := range headers {
		more += h + "\r\n"
	}
	return fmt.Sprintf("POST %s HTTP/1.1\r\n{}Content-Type: %s\r\nContent-Length: %d\r\n%s\r\n%s", path, contentType, len(body), more, body)
}

// TestProtocol54 is checklist 54.
func TestProtocol54(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(c *Config) { c.Limits = Limits{} })
	var b strings.Builder
	for _, edge := range edges {
		fmt.Fprintf(&b, "## %s\n%s\n\n", edge.name, e.exchange(edge.request))
	}
	const path = "testdata/protocol.golden"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wanted := sections(string(want))
	for name, got := range sections(b.String()) {
		if got != wanted[name] {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, wanted[name])
		}
		// Checklist: IN is never a right answer to input, and nothing repeats it.
		if strings.Contains(got, `"internal"`) || strings.Contains(got, "500 ") || strings.Contains(got, "Grpc-Status: 13") {
			t.Errorf("%s is answered with internal:\n%s", name, got)
		}
	}
	if len(wanted) != len(edges) {
		t.Errorf("%d in the file, %d asked", len(wanted), len(edges))
	}
}

func sections(s string) map[string]string {
	all := map[string]string{}
	for part := range strings.SplitSeq(s, "## ") {
		if name, answer, ok := strings.Cut(part, "\n"); ok {
			all[name] = strings.TrimSpace(answer)
		}
	}
	return all
}

// exchange sends bytes and returns the answer without what differs each time.
func (e *edge) exchange(request string) string {
	e.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(e.t.Context(), "tcp", strings.TrimPrefix(e.url, "http://"))
	if err != nil {
		e.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	request = strings.Replace(request, "\r\n{}", "\r\nHost: test\r\nConnection: close\r\n", 1)
	if _, err := io.WriteString(conn, request); err != nil {
		return "the connection is closed"
	}
	method, _, _ := strings.Cut(request, " ")
	res, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return "no answer: " + err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	var b strings.Builder
	fmt.Fprintln(&b, res.Status)
	for _, key := range slices.Sorted(maps.Keys(res.Header)) {
		if key != "Date" && key != "X-Request-Id" {
			fmt.Fprintf(&b, "%s: %s\n", key, strings.Join(res.Header[key], ", "))
		}
	}
	fmt.Fprintf(&b, "\n%s", printable(string(body)))
	return b.String()
}

// printable keeps a file of answers readable.
func printable(s string) string {
	q := fmt.Sprintf("%+q", s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

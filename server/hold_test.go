package server

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// held serves handle with a writer that is held, and returns what a client
// reads of it.
func held(t *testing.T, protocols *http.Protocols, handle func(w *heldWriter)) (body []byte, trailer http.Header) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handle(newHeldWriter(w, r))
	}))
	server.Config.ConnContext, server.Config.Protocols = withConn, protocols
	server.Start()
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{Protocols: protocols}}
	for range 2 { // the connection is good for another request
		reply, err := client.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		body, err = io.ReadAll(reply.Body)
		if err != nil {
			t.Fatalf("after %d bytes: %v", len(body), err)
		}
		if err := reply.Body.Close(); err != nil {
			t.Fatal(err)
		}
		trailer = reply.Trailer
	}
	return body, trailer
}

func TestWhatWasHeldComesWholeAndInOrder(t *testing.T) {
	t.Parallel()
	one, two := new(http.Protocols), new(http.Protocols)
	one.SetHTTP1(true)
	two.SetUnencryptedHTTP2(true)
	for name, protocols := range map[string]*http.Protocols{"HTTP/1.1": one, "HTTP/2": two} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want strings.Builder
			body, trailer := held(t, protocols, func(w *heldWriter) {
				want.Reset()
				w.Header().Set("Trailer", "End")
				for i := range 300 { // of all sizes, also beyond what net/http buffers
					w.hold()
					for range i % 7 {
						part := strings.Repeat(fmt.Sprint(i%10), i*i/7)
						want.WriteString(part)
						if n, err := w.Write([]byte(part)); err != nil || n != len(part) {
							t.Error(n, err)
						}
						w.Flush() // by Connect, after each message
					}
					if err := w.release(); err != nil {
						t.Error(err)
					}
				}
				want.WriteString("the end")
				if _, err := w.Write([]byte("the end")); err != nil { // not held, as Connect ends a stream
					t.Error(err)
				}
				w.Header().Set("End", "told")
			})
			if string(body) != want.String() {
				t.Errorf("%d bytes came of %d", len(body), want.Len())
			}
			if trailer.Get("End") != "told" {
				t.Errorf("trailers %v", trailer)
			}
		})
	}
}

// What goes past net/http is one chunk for all that was held.
func TestWhatWasHeldIsOneChunk(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer ours.Close()
	w := &heldWriter{conn: theirs, begun: true}
	go func() {
		w.hold()
		_ = w.envelope(&frame{cursor: "YQ", body: []byte(`{"time":1}`)}, true)
		_ = w.envelope(&frame{body: []byte(`{}`)}, true)
		if err := w.release(); err != nil {
			t.Error(err)
		}
		theirs.Close()
	}()
	raw, err := io.ReadAll(ours)
	if err != nil {
		t.Fatal(err)
	}
	first, second := `{"cursor":"YQ","time":1}`, `{}`
	var want bytes.Buffer
	fmt.Fprintf(&want, "%x\r\n", len(first)+len(second)+2*envelopeHead)
	for _, message := range []string{first, second} {
		want.Write(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message))))
		want.WriteString(message)
	}
	want.WriteString("\r\n")
	if !bytes.Equal(raw, want.Bytes()) {
		t.Errorf("got  %q\nwant %q", raw, want.Bytes())
	}
}

// quietUntil is a source to which something comes after so long.
type quietUntil struct {
	fakeSource

	after time.Duration
}

func (q *quietUntil) next(_, quiet context.Context) ([]any, error) {
	select {
	case <-time.After(q.after):
		return []any{"an event"}, nil
	case <-quiet.Done():
		return nil, context.Cause(quiet)
	}
}

func TestAHeartbeatComesOnlyOfASilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		quiet, src := &silence{}, &quietUntil{after: 5 * time.Second}
		defer quiet.broken()
		for range 100 { // ever again something is said
			batch, err := quiet.await(t.Context(), src)
			if len(batch) != 1 || batch[0] != "an event" || err != nil {
				t.Fatalf("%v, %v", batch, err)
			}
		}
		src.after = time.Hour
		for range 100 {
			began := time.Now()
			batch, err := quiet.await(t.Context(), src)
			if took := time.Since(began); took < 12*time.Second || took > 18*time.Second {
				t.Fatalf("a heartbeat after %v", took)
			}
			if len(batch) != 1 || batch[0] == "an event" || err != nil {
				t.Fatalf("%v, %v", batch, err)
			}
		}
	})
}

// A chunk that was not taken whole is the last thing on its connection: what
// came after it would be read as its rest.
func TestABrokenChunkEndsItsConnection(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer ours.Close()
	w := &heldWriter{conn: theirs, begun: true, until: time.Now().Add(time.Hour)}
	if err := theirs.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	w.hold()
	if _, err := w.Write([]byte("a message that nobody reads")); err != nil {
		t.Fatal(err)
	}
	if err := w.release(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := theirs.Write([]byte("0")); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("something could follow: %v", err)
	}
}

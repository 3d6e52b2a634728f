package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

func TestAccessLog(t *testing.T) {
	t.Parallel()
	e := newEdge(t, func(c *Config) { c.TrustedProxies = loopback() })
	room := `{"id": "` + aRoomID + `"}`
	proxied := []string{"X-Forwarded-For: 203.0.113.7", "X-Request-Id: one", "Authorization: Bearer user-ada"}
	e.post(getRoomPath, room, proxied...)
	e.fake.set(func(context.Context, string) error { return talk.ErrRoomNotFound.Because(errors.New("x")) })
	e.post(getRoomPath, room)
	e.fake.set(func(context.Context, string) error { return errCanary })
	e.post(getRoomPath, room)
	e.post("/free2talk.v1.RoomService/Nope", `{}`)
	e.post(getRoomPath, strings.Repeat(" ", bodyMost+1))
	records := e.log.records(t)
	if len(records) != 5 {
		t.Fatalf("%d records of 5 calls: %v", len(records), records)
	}
	for i, want := range []map[string]any{
		{
			"level": "INFO", "procedure": getRoomPath, "code": "ok", "user": "ada", "session": "session-of-ada", "address": "203.0.113.7",
			"request_id": "one", "protocol": "connect", "codec": "json", "bytes_in": float64(len(room)), "reason": nil, "cause": nil,
		},
		{"level": "INFO", "code": "not_found", "reason": "ROOM_NOT_FOUND", "user": nil, "address": "127.0.0.1", "cause": nil},
		{"level": "ERROR", "code": "internal", "cause": errCanary.Error()},
		{"level": "INFO", "code": "unimplemented", "procedure": "/free2talk.v1.RoomService/Nope"},
		{"level": "INFO", "code": "resource_exhausted", "reason": "BODY_TOO_LARGE"},
	} {
		for key, value := range want {
			if records[i][key] != value {
				t.Errorf("record %d: %s is %v, want %v", i, key, records[i][key], value)
			}
		}
		if d, ok := records[i]["duration"].(float64); !ok || d < 0 {
			t.Errorf("record %d: duration %v", i, records[i]["duration"])
		}
	}
	if out, _ := records[0]["bytes_out"].(float64); out < 40 {
		t.Errorf("bytes_out %v", out)
	}
}

// TestSecrets61 is checklist 61 for what this package sees: none of it is logged.
func TestSecrets61(t *testing.T) {
	t.Parallel()
	e := newEdge(t, nil)
	for _, err := range []error{nil, talk.ErrBadCredentials, errors.New("broken")} {
		e.fake.set(func(context.Context, string) error { return err })
		e.post(loginPath, `{"username": "ada", "password": "`+canary+`"}`, "Cookie: "+refreshCookie+"="+canary)
		e.post(getMePath, `{}`, "Authorization: Bearer user-ada", "X-Api-Key: "+canary)
		e.post(getMePath, `{}`, "Authorization: Bearer "+canary)
		e.do("GET", getRoomPath+"?encoding=json&message=%7B%22slug%22%3A%22"+canary+"%22%7D", nil)
		e.post(refreshPath, `{"refreshToken": "`+canary+`"}`)
		e.post(refreshPath, `{"refreshToken": "`+canary+`"`)
	}
	if strings.Contains(e.log.String(), canary) {
		t.Errorf("logged %s", e.log.String())
	}
}

// TestLogInjection62 is checklist 62: one call, one line, whatever it carries.
func TestLogInjection62(t *testing.T) {
	t.Parallel()
	evil := "a\r\nlevel=ERROR msg=forged\x1b[31m\u2028\u0085b"
	for _, format := range []string{"json", "text"} {
		var b bytes.Buffer
		log, err := NewLogger(&b, format, slog.LevelInfo)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("call", "cause", evil, "address", evil, evil, evil)
		line := b.String()
		if strings.Count(line, "\n") != 1 || strings.ContainsAny(line, "\r\x1b\u2028") {
			t.Errorf("%s: %q", format, line)
		}
	}
	if _, err := NewLogger(io.Discard, "xml", nil); err == nil {
		t.Error("xml was taken for a format")
	}
}

func TestLogWriter(t *testing.T) {
	t.Parallel()
	t.Run("writes everything, in order, before Close returns", logWriterWrites)
	t.Run("never waits for who does not read", logWriterNeverWaits)
	t.Run("takes many writers", logWriterTakesMany)
	t.Run("writes at once what comes at once", logWriterGathers)
}

func logWriterGathers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b lockedBuffer
		w := NewLogWriter(&b)
		for _, line := range []string{"one\n", "two\n", "three\n"} {
			_, _ = w.Write([]byte(line))
			synctest.Wait()
		}
		if b.String() != "" {
			t.Errorf("%q was written by itself", b.String())
		}
		time.Sleep(logGather) // synctest's clock
		synctest.Wait()
		if b.String() != "one\ntwo\nthree\n" {
			t.Errorf("%q", b.String())
		}
		_, _ = w.Write([]byte("last\n"))
		if began := time.Now(); w.Close() != nil || time.Since(began) > 0 || !strings.HasSuffix(b.String(), "last\n") {
			t.Errorf("closed after %v: %q", time.Since(began), b.String())
		}
	})
}

func logWriterWrites(t *testing.T) {
	t.Parallel()
	var b lockedBuffer
	w := NewLogWriter(&b)
	var want strings.Builder
	for i := range 1000 {
		line := fmt.Sprintln(i)
		want.WriteString(line)
		if n, err := w.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil || b.String() != want.String() || w.Dropped() != 0 {
		t.Errorf("%v, %d bytes of %d, %d dropped", err, len(b.String()), want.Len(), w.Dropped())
	}
	if _, _ = w.Write([]byte("late")); w.Dropped() != 1 {
		t.Error("what came after Close is not counted")
	}
}

func logWriterNeverWaits(t *testing.T) {
	t.Parallel()
	stuck := &stuckWriter{release: make(chan struct{})}
	w := NewLogWriter(stuck)
	line := bytes.Repeat([]byte("x"), 64<<10)
	for range 64 { // four buffers full
		_, _ = w.Write(line)
	}
	if w.Dropped() < 16 {
		t.Errorf("%d dropped", w.Dropped())
	}
	close(stuck.release)
	if err := w.Close(); err != nil || stuck.bytes+int(w.Dropped())*len(line) != 64*len(line) {
		t.Errorf("%v: %d written, %d dropped", err, stuck.bytes, w.Dropped())
	}
}

func logWriterTakesMany(t *testing.T) {
	t.Parallel()
	var b lockedBuffer
	w := NewLogWriter(&b)
	log := slog.New(slog.NewTextHandler(w, nil))
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 100 {
				log.Info("call")
			}
		})
	}
	writers.Wait()
	if err := w.Close(); err != nil || strings.Count(b.String(), "msg=call\n") != 800 {
		t.Errorf("%v, %d lines", err, strings.Count(b.String(), "msg=call\n"))
	}
}

type stuckWriter struct {
	release chan struct{}
	bytes   int
}

func (s *stuckWriter) Write(p []byte) (int, error) {
	<-s.release
	s.bytes += len(p)
	return len(p), nil
}

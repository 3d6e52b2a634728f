package db

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/free2talk/free2talk/server/talk"
)

func TestFault(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	for name, c := range map[string]struct {
		err  error
		want error
	}{
		"nothing":                 {nil, nil},
		"talk's own":              {talk.ErrKicked.With("until", "x"), talk.ErrKicked},
		"a constraint":            {&pgconn.PgError{Code: "23505", ConstraintName: "users_email_key"}, talk.ErrEmailTaken},
		"a constraint, wrapped":   {fmt.Errorf("write: %w", &pgconn.PgError{Code: "23514", ConstraintName: "rooms_capacity_kept"}), talk.ErrRoomFull},
		"shutting down":           {&pgconn.PgError{Code: "57P01"}, talk.ErrDatabaseUnavailable},
		"starting up":             {&pgconn.PgError{Code: "57P03"}, talk.ErrDatabaseUnavailable},
		"too many clients":        {&pgconn.PgError{Code: "53300"}, talk.ErrDatabaseUnavailable},
		"the disk is full":        {&pgconn.PgError{Code: "53100"}, talk.ErrDatabaseUnavailable},
		"a standby":               {&pgconn.PgError{Code: "25006"}, talk.ErrDatabaseUnavailable},
		"lock_timeout":            {&pgconn.PgError{Code: "55P03"}, talk.ErrBusy},
		"statement_timeout":       {&pgconn.PgError{Code: "57014"}, talk.ErrBusy},
		"deadlocks without end":   {&pgconn.PgError{Code: "40P01"}, talk.ErrBusy},
		"seats without rest":      {fmt.Errorf("load: %w", errMoved), talk.ErrBusy},
		"nobody listens":          {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, talk.ErrDatabaseUnavailable},
		"reset":                   {&net.OpError{Op: "read", Err: syscall.ECONNRESET}, talk.ErrDatabaseUnavailable},
		"cut off":                 {fmt.Errorf("read: %w", io.ErrUnexpectedEOF), talk.ErrDatabaseUnavailable},
		"a bad connection":        {driver.ErrBadConn, talk.ErrDatabaseUnavailable},
		"a closed pool":           {errors.New("sql: database is closed"), talk.ErrDatabaseUnavailable},
		"what nobody thought of":  {cause, cause},
		"a constraint of no name": {&pgconn.PgError{Code: "23514", ConstraintName: "rooms_level_known"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := fault(t.Context(), c.err)
			if c.want == nil {
				if talk.ReasonOf(got) != "" {
					t.Errorf("got %v", got)
				}
				return
			}
			if !errors.Is(got, c.want) || !errors.Is(got, c.err) {
				t.Errorf("got %v; want %v with its cause", got, c.want)
			}
		})
	}
}

func TestFaultOfAnEndedCallIsItsEnd(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	for _, err := range []error{&pgconn.PgError{Code: "57014"}, io.EOF, context.DeadlineExceeded} {
		if got := fault(ctx, err); !errors.Is(got, context.DeadlineExceeded) || talk.ReasonOf(got) != "" {
			t.Errorf("%v: got %v", err, got)
		}
	}
	taken := &pgconn.PgError{Code: "23505", ConstraintName: "users_email_key"}
	if got := fault(ctx, taken); !errors.Is(got, talk.ErrEmailTaken) {
		t.Errorf("what was decided in time: got %v", got)
	}
}

func TestRetryEnds(t *testing.T) {
	t.Parallel()
	collision := &pgconn.PgError{Code: "40001"}
	tried := 0
	err := retry(t.Context(), func() error { tried++; return collision })
	if !errors.Is(err, collision) || tried != tries {
		t.Errorf("tried %d times: %v", tried, err)
	}
	tried = 0
	err = retry(t.Context(), func() error { tried++; return io.EOF })
	if !errors.Is(err, io.EOF) || tried != 1 {
		t.Errorf("what may have been written was tried %d times: %v", tried, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = retry(ctx, func() error { cancel(); return collision })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestColumns(t *testing.T) {
	t.Parallel()
	when := time.Date(2026, 3, 1, 12, 0, 0, 120_000, time.FixedZone("", 3600))
	for _, src := range []any{"2026-03-01T11:00:00.000120Z", []byte("2026-03-01 11:00:00.00012+00"), when, "2026-03-01 11:00:00.00012+00"} {
		var got stamp
		if err := got.Scan(src); err != nil || !got.Equal(when) || got.Location() != time.UTC {
			t.Errorf("%v: got %v (%v)", src, got, err)
		}
	}
	for _, src := range []any{"yesterday", 5, "2026-03-01 11"} {
		if err := new(stamp).Scan(src); err == nil {
			t.Errorf("%v is a time", src)
		}
	}
	if v, _ := (stamp{}).Value(); v != nil {
		t.Errorf("no time is %v", v)
	}
	for _, src := range []any{`{"a": 1}`, []byte(`[1]`), 5, "["} {
		if err := new(tags).Scan(src); err == nil {
			t.Errorf("%v is a list", src)
		}
	}
}

func TestTongues(t *testing.T) {
	t.Parallel()
	for want, tags := range map[string][]string{
		" ":                          nil,
		" es ":                       {"es"},
		" es es-mx en ":              {"es-mx", "en"},
		" zh zh-hant zh-hant-tw en ": {"zh-hant-tw", "en"},
	} {
		if got := tongues(tags); got != want {
			t.Errorf("%v: got %q; want %q", tags, got, want)
		}
	}
}

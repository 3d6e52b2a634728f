package main

import (
	"context"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"

	"github.com/free2talk/free2talk/client"
	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	free2talk "github.com/free2talk/free2talk/server"
	"github.com/free2talk/free2talk/server/talk"
)

// later is an error that names a delay.
func later(t *testing.T, code connect.Code, reason string, delay time.Duration) error {
	t.Helper()
	err := connect.NewError(code, "not now")
	for _, m := range []proto.Message{
		&errdetails.ErrorInfo{Reason: reason, Domain: "free2talk"}, &errdetails.RetryInfo{RetryDelay: seconds(delay)},
	} {
		detail, e := connectproto.NewErrorDetail(m)
		if e != nil {
			t.Fatal(e)
		}
		err = err.WithDetail(detail)
	}
	return err
}

// watched is when a watch asks what answer answers, by synctest's clock.
func watched(t *testing.T, every, during time.Duration, answer func() error) (asked []time.Time) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), during)
	defer cancel()
	a := newApp(&Flags{}, strings.NewReader(""), io.Discard, io.Discard)
	err := statsCmd{Every: every}.follow(ctx, a, func() (*adminv1.GetStatsResponse, error) {
		asked = append(asked, time.Now())
		return &adminv1.GetStatsResponse{}, answer()
	})
	if err != nil {
		t.Fatal(err)
	}
	return asked
}

// Whoever is told when to come back does not ask before; and whoever used up a
// limit asks no more often than leaves others room.
func TestAWatchWaitsAsLongAsItIsTold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code        connect.Code
		reason      string
		told        time.Duration
		first, then time.Duration // the waits
	}{
		{connect.CodeResourceExhausted, client.ReasonRateLimited, 700 * time.Second, 700 * time.Second, restEvery},
		{connect.CodeResourceExhausted, client.ReasonRateLimited, time.Second, restEvery, restEvery},
		{connect.CodeUnavailable, client.ReasonBusy, 20 * time.Second, 20 * time.Second, 2 * time.Second},
		{connect.CodeUnavailable, client.ReasonBusy, time.Second, 2 * time.Second, 2 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			refusal := later(t, c.code, c.reason, c.told)
			asked := watched(t, 2*time.Second, 15*time.Minute, func() error {
				defer func() { refusal = nil }()
				return refusal
			})
			if first, then := asked[1].Sub(asked[0]), asked[2].Sub(asked[1]); first != c.first || then != c.then {
				t.Errorf("%s, %v: asked after %v, then after %v", c.reason, c.told, first, then)
			}
		})
	}
}

// everyDefault is how often a watch asks that is not told otherwise.
func everyDefault(t *testing.T) time.Duration {
	t.Helper()
	field, _ := reflect.TypeFor[statsCmd]().FieldByName("Every")
	every, err := time.ParseDuration(field.Tag.Get("default"))
	if err != nil {
		t.Fatal(err)
	}
	return every
}

// A watch that nobody told how often is never refused, and one that asked too
// often also leaves a third to what else its administrator does.
func TestAWatchLeavesOthersRoom(t *testing.T) {
	t.Parallel()
	limit := free2talk.DefaultLimits()["api"]
	for every, refusals := range map[time.Duration]int{everyDefault(t): 0, 2 * time.Second: 1} {
		synctest.Test(t, func(t *testing.T) {
			window := &window{Limit: limit}
			watched(t, every, 3*time.Hour, func() error { return window.take(t) })
			if left := limit.Places - len(window.taken); 3*left < limit.Places || window.refused != refusals {
				t.Errorf("every %v: %d places are left of %d, %d refusals", every, left, limit.Places, window.refused)
			}
		})
	}
}

// window counts as the server does.
type window struct {
	talk.Limit

	taken   []time.Time
	refused int
}

func (w *window) take(t *testing.T) error {
	t.Helper()
	for len(w.taken) > 0 && time.Since(w.taken[0]) >= w.Window {
		w.taken = w.taken[1:]
	}
	if len(w.taken) >= w.Places {
		w.refused++
		return later(t, connect.CodeResourceExhausted, client.ReasonRateLimited, w.Window-time.Since(w.taken[0]))
	}
	w.taken = append(w.taken, time.Now())
	return nil
}

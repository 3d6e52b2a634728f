package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

func TestRefresh(t *testing.T) {
	t.Parallel()
	t.Run("many_callers_refresh_once", manyCallersRefreshOnce)
	t.Run("a_cancelled_caller_fails_alone", cancelledCallerFailsAlone)
	t.Run("comes_a_little_before_the_end", refreshComesEarly)
	t.Run("is_not_needed_before_the_end_while_the_server_is_away", refreshEarlyMayFail)
	t.Run("goes_by_the_servers_clock", refreshGoesByTheServersClock)
	t.Run("is_made_again_where_the_answer_was_lost", refreshIsRepeated)
	t.Run("keeps_the_session_while_the_server_is_away", refreshKeepsTheSession)
	t.Run("leaves_the_callers_headers_alone", refreshLeavesHeadersAlone)
	t.Run("does_not_undo_a_login", refreshDoesNotUndoALogin)
	t.Run("is_made_once_a_call", refreshOnceACall)
	t.Run("needs_a_refresh_token", refreshNeedsAToken)
	t.Run("starts_from_a_refresh_token_alone", refreshTokenAlone)
	for _, reason := range []string{client.ReasonRefreshInvalid, client.ReasonRefreshReused, client.ReasonSessionRevoked} {
		t.Run("ends_the_session_on_"+reason, func(t *testing.T) { refreshEndsTheSession(t, reason) })
	}
}

func manyCallersRefreshOnce(t *testing.T) {
	t.Parallel()
	const callers = 64
	f := serve(t)
	c := f.signIn(t)
	f.expire()
	var refused sync.WaitGroup // every caller is refused before the refresh is answered
	refused.Add(callers)
	f.onRefused = refused.Done
	f.onRefresh = func(context.Context) { refused.Wait() }

	failures := make(chan error, callers)
	for range callers {
		go func() { failures <- getMe(t.Context(), c) }()
	}
	for range callers {
		if err := <-failures; err != nil {
			t.Error(err)
		}
	}
	if n := f.called("Refresh"); n != 1 {
		t.Errorf("refreshed %d times", n)
	}
}

func cancelledCallerFailsAlone(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t)
	f.expire()
	began, answer := make(chan struct{}), make(chan struct{})
	f.onRefresh = func(context.Context) { close(began); <-answer }
	var waiting sync.WaitGroup
	waiting.Add(2)
	f.onRefused = waiting.Done

	first, cancel := context.WithCancel(t.Context())
	results := [2]chan error{make(chan error, 1), make(chan error, 1)}
	go func() { results[0] <- getMe(first, c) }()
	<-began
	go func() { results[1] <- getMe(t.Context(), c) }()
	waiting.Wait()
	cancel()
	if err := <-results[0]; connect.CodeOf(err) != connect.CodeCanceled || !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled caller got %v", err)
	}
	close(answer)
	if err := <-results[1]; err != nil {
		t.Errorf("the other got %v", err)
	}
	if n := f.called("Refresh"); n != 1 {
		t.Errorf("refreshed %d times", n)
	}
}

func refreshComesEarly(t *testing.T) {
	t.Parallel()
	f, now := serve(t), &clock{}
	c := f.signIn(t, client.WithClock(now))
	now.add(life - 40*time.Second)
	if err := getMe(t.Context(), c); err != nil || f.called("Refresh") != 0 {
		t.Fatalf("40 s before the end: %v, refreshed %d times", err, f.called("Refresh"))
	}
	now.add(15 * time.Second)
	if err := getMe(t.Context(), c); err != nil || f.called("Refresh") != 1 || f.refused != 0 {
		t.Fatalf("25 s before the end: %v, refreshed %d times, refused %d", err, f.called("Refresh"), f.refused)
	}
}

func refreshEarlyMayFail(t *testing.T) {
	t.Parallel()
	f, now := serve(t), &clock{}
	c := f.signIn(t, client.WithClock(now), client.WithRetries(client.Retries{Tries: 1}))
	f.fail("Refresh", 0, fails(connect.CodeUnavailable, client.ReasonDatabaseUnavailable))
	now.add(life - 20*time.Second)
	if err := getMe(t.Context(), c); err != nil {
		t.Errorf("the token still holds, yet: %v", err)
	}
	now.add(30 * time.Second)
	if err := getMe(t.Context(), c); client.Reason(err) != client.ReasonDatabaseUnavailable {
		t.Errorf("the token has run out, yet: %v", err)
	}
}

func refreshGoesByTheServersClock(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t, client.WithClock(&clock{ahead: time.Hour}))
	for range 3 {
		if err := getMe(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if n := f.called("Refresh"); n != 0 {
		t.Errorf("our clock being an hour ahead, refreshed %d times", n)
	}
}

func refreshIsRepeated(t *testing.T) {
	t.Parallel()
	f, now := serve(t), &clock{}
	c := f.signIn(t, client.WithClock(now))
	f.expire()
	f.fail("Refresh", 2, fails(connect.CodeUnavailable, client.ReasonDatabaseUnavailable, after(time.Second)))
	if err := getMe(t.Context(), c); err != nil || f.called("Refresh") != 3 {
		t.Errorf("%v after %d tries", err, f.called("Refresh"))
	}
	for _, wait := range now.waited() {
		if wait < time.Second {
			t.Errorf("asked to wait 1 s, waited %v", wait)
		}
	}
}

func refreshKeepsTheSession(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t, client.WithClock(&clock{}))
	f.expire()
	f.fail("Refresh", 0, fails(connect.CodeUnavailable, client.ReasonDatabaseUnavailable))
	err := getMe(t.Context(), c)
	if client.Reason(err) != client.ReasonDatabaseUnavailable || connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("got %v", err)
	}
	if n := f.called("GetMe"); n != 1 {
		t.Errorf("called %d times: a refresh that failed three times is not begun again", n)
	}
	f.heal("Refresh")
	if err := getMe(t.Context(), c); err != nil {
		t.Errorf("the server is back, yet: %v", err)
	}
}

func refreshLeavesHeadersAlone(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t)
	f.expire()
	ctx, info := connect.NewClientContext(t.Context())
	info.RequestHeader().Set("X-Mine", "kept")
	if err := getMe(ctx, c); err != nil {
		t.Fatal(err)
	}
	if info.RequestHeader().Has("Authorization") || info.RequestHeader().Len() != 1 {
		t.Error("the caller's headers hold more than they put there")
	}
	if info.Spec.Procedure != "/free2talk.v1.AuthService/GetMe" || info.ResponseHeader().Get("Date") == "" {
		t.Errorf("the call reports itself as %q", info.Spec.Procedure)
	}
	if f.header("GetMe", "X-Mine") != "kept" || f.header("Refresh", "X-Mine") != "" {
		t.Error("the caller's headers go with their call, and with no other")
	}
}

func refreshDoesNotUndoALogin(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t)
	f.expire()
	f.onRefresh = func(ctx context.Context) {
		if _, err := c.Login(ctx, "ada@example.org", "five green umbrellas"); err != nil {
			t.Error(err)
		}
	}
	if err := getMe(t.Context(), c); err != nil {
		t.Errorf("somebody logged in meanwhile, yet: %v", err)
	}
	if tokens, err := c.Tokens(t.Context()); err != nil || tokens.Access != "access-2" {
		t.Errorf("holds %q, %v", tokens.Access, err)
	}
}

func refreshOnceACall(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t)
	f.fail("GetMe", 0, fails(connect.CodeUnauthenticated, client.ReasonTokenExpired))
	if err := getMe(t.Context(), c); client.Reason(err) != client.ReasonTokenExpired || f.called("Refresh") != 1 {
		t.Errorf("%v after %d refreshes", err, f.called("Refresh"))
	}
}

func refreshNeedsAToken(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.dial(t, client.WithTokens(client.Tokens{Access: "old"}))
	if err := getMe(t.Context(), c); client.Reason(err) != client.ReasonTokenExpired || f.called("Refresh") != 0 {
		t.Errorf("%v after %d refreshes", err, f.called("Refresh"))
	}
}

func refreshTokenAlone(t *testing.T) {
	t.Parallel()
	f := serve(t)
	f.signIn(t)
	c := f.dial(t, client.WithTokens(client.Tokens{Refresh: "refresh-1"}))
	if err := getMe(t.Context(), c); err != nil || f.called("Refresh") != 1 {
		t.Errorf("%v after %d refreshes", err, f.called("Refresh"))
	}
}

func refreshEndsTheSession(t *testing.T, reason string) {
	t.Parallel()
	f := serve(t)
	kept := &store{}
	c := f.signIn(t, client.WithTokenStore(kept))
	f.expire()
	f.fail("Refresh", 0, fails(connect.CodeUnauthenticated, reason))
	if err := getMe(t.Context(), c); client.Reason(err) != reason {
		t.Errorf("got %v", err)
	}
	if tokens, _ := c.Tokens(t.Context()); tokens != (client.Tokens{}) || kept.saved() != (client.Tokens{}) {
		t.Error("the tokens are kept")
	}
	if _, err := c.Rooms.GetRoom(t.Context(), &free2talkv1.GetRoomRequest{}); err != nil {
		t.Errorf("what needs no token fails without: %v", err)
	}
	if n := f.called("Refresh"); n != 1 {
		t.Errorf("refreshed %d times", n)
	}
}

func TestSession(t *testing.T) {
	t.Parallel()
	t.Run("goes_with_each_call", sessionGoesWithEachCall)
	t.Run("is_not_shown_where_it_is_not_looked_at", sessionIsNotShown)
	t.Run("gives_way_to_the_callers_own", sessionGivesWay)
	t.Run("follows_every_answer_with_tokens", sessionFollowsAnswers)
	t.Run("is_forgotten_where_it_was_revoked", sessionRevoked)
	t.Run("is_not_begun_by_a_wrong_password", wrongPassword)
	t.Run("goes_with_a_stream_and_not_into_its_headers", sessionGoesWithStreams)
}

func sessionGoesWithEachCall(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.dial(t, client.WithUserAgent("kitchen radio"))
	account, err := c.Register(t.Context(), "ada@example.org", "ada", "five green umbrellas")
	if err != nil || account.GetUser().GetUsername() != "ada" {
		t.Fatalf("%v, %v", account, err)
	}
	if err := getMe(t.Context(), c); err != nil || f.header("GetMe", "Authorization") != "Bearer access-1" {
		t.Errorf("%v with %q", err, f.header("GetMe", "Authorization"))
	}
	if _, err := c.Rooms.ListRooms(t.Context(), &free2talkv1.ListRoomsRequest{}); err != nil || f.header("ListRooms", "Authorization") == "" {
		t.Errorf("%v: a public method knows who asks, too", err)
	}
	if got := f.header("GetMe", "User-Agent"); got != "kitchen radio" {
		t.Errorf("the device is %q", got)
	}
}

func sessionIsNotShown(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t)
	f.expire()
	if _, err := c.Login(t.Context(), "ada", "five green umbrellas"); err != nil {
		t.Fatal(err)
	}
	if f.header("Login", "Authorization") != "" || f.called("Refresh") != 0 {
		t.Error("a log-in carries the old session")
	}
	if err := getMe(t.Context(), c); err != nil {
		t.Error(err)
	}
	if f.header("Refresh", "Authorization") != "" {
		t.Error("a refresh carries an access token")
	}
}

func sessionGivesWay(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t)
	ctx, info := connect.NewClientContext(t.Context())
	info.RequestHeader().Set("Authorization", "Bearer theirs")
	if err := getMe(ctx, c); client.Reason(err) != client.ReasonTokenExpired {
		t.Errorf("got %v", err)
	}
	if f.header("GetMe", "Authorization") != "Bearer theirs" || f.called("Refresh") != 0 {
		t.Error("a caller's own token is theirs to refresh")
	}
}

func sessionFollowsAnswers(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t)
	if _, err := c.Auth.ChangePassword(t.Context(), &free2talkv1.ChangePasswordRequest{}); err != nil {
		t.Fatal(err)
	}
	if tokens, _ := c.Tokens(t.Context()); tokens.Access != "access-2" || tokens.Refresh != "refresh-2" || tokens.SessionID != "0198" {
		t.Errorf("holds %q", tokens.Access)
	}
}

func sessionRevoked(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t)
	f.fail("GetMe", 0, fails(connect.CodeUnauthenticated, client.ReasonSessionRevoked))
	if err := getMe(t.Context(), c); client.Reason(err) != client.ReasonSessionRevoked {
		t.Errorf("got %v", err)
	}
	if tokens, _ := c.Tokens(t.Context()); tokens != (client.Tokens{}) || f.called("Refresh") != 0 {
		t.Error("what is over is kept")
	}
}

func wrongPassword(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t)
	account, err := c.Login(t.Context(), "ada", "wrong")
	if client.Reason(err) != client.ReasonBadCredentials || account != nil {
		t.Errorf("%v, %v", account, err)
	}
	if err := getMe(t.Context(), c); err != nil {
		t.Errorf("the session of before is gone: %v", err)
	}
}

func sessionGoesWithStreams(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t)
	ctx, info := connect.NewClientContext(t.Context())
	stream, err := c.Rooms.WatchRooms(ctx, &free2talkv1.WatchRoomsRequest{})
	if err == nil {
		_, err = stream.Receive()
	}
	if connect.CodeOf(err) != connect.CodeUnimplemented {
		t.Errorf("got %v", err)
	}
	if f.header("WatchRooms", "Authorization") != "Bearer access-1" || info.RequestHeader().Has("Authorization") {
		t.Error("the token goes to the server, and nowhere else")
	}
}

func TestTokensAreNeverPrinted(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t)
	tokens, err := c.Tokens(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	inside := struct {
		Tokens client.Tokens
		Client *client.Client
	}{tokens, c}
	for _, value := range []any{tokens, &tokens, inside, &inside, c, *c, []client.Tokens{tokens}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if text := fmt.Sprintf(verb, value); leaks(text) {
				t.Errorf("%s of a %T prints a token", verb, value)
			}
		}
		if text := logged(value); leaks(text) {
			t.Errorf("a %T logs a token", value)
		}
	}
	if got := fmt.Sprintf("%v, %v", tokens, client.Tokens{}); got != "session 0198 [redacted], no session" {
		t.Errorf("prints %q", got)
	}
	if got := c.String(); got != "free2talk client of "+f.url {
		t.Errorf("prints %q", got)
	}
}

// Under the race detector: everything at once, with tokens that run out all the time.
func TestManyThingsAtOnce(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t)
	var failures atomic.Int32
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 25 {
				if i == 0 && n%5 == 0 {
					f.expire()
				}
				if err := getMe(t.Context(), c); err != nil && client.Reason(err) != client.ReasonTokenExpired {
					failures.Add(1)
				}
			}
		})
	}
	all.Wait()
	if failures.Load() > 0 {
		t.Errorf("%d calls failed", failures.Load())
	}
	if err := getMe(t.Context(), c); err != nil {
		t.Error(err)
	}
}

package client_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/client"
)

func TestLogout(t *testing.T) {
	t.Parallel()
	t.Run("ends_the_session_here_and_there", logoutEndsTheSession)
	t.Run("is_no_error_where_the_session_has_ended", logoutAfterTheEnd)
	t.Run("can_be_tried_again_where_the_server_is_away", logoutAgain)
}

func logoutEndsTheSession(t *testing.T) {
	t.Parallel()
	f := serve(t)
	kept := &store{}
	c := f.signIn(t, client.WithTokenStore(kept))
	for range 2 {
		if err := c.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if f.called("Logout") != 1 || kept.saved() != (client.Tokens{}) {
		t.Errorf("called %d times, kept %v", f.called("Logout"), kept.saved())
	}
	if err := getMe(t.Context(), c); client.Reason(err) != client.ReasonTokenMissing {
		t.Errorf("got %v", err)
	}
}

func logoutAfterTheEnd(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t)
	f.fail("Logout", 0, fails(connect.CodeUnauthenticated, client.ReasonTokenInvalid))
	if err := c.Logout(t.Context()); err != nil {
		t.Error(err)
	}
	if tokens, _ := c.Tokens(t.Context()); tokens != (client.Tokens{}) {
		t.Error("the tokens are kept")
	}
}

func logoutAgain(t *testing.T) {
	t.Parallel()
	f := serve(t)
	c := f.signIn(t, client.WithClock(&clock{}))
	f.fail("Logout", 0, fails(connect.CodeUnavailable, client.ReasonDatabaseUnavailable))
	if err := c.Logout(t.Context()); connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("got %v", err)
	}
	f.heal("Logout")
	if err := c.Logout(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestTokenStore(t *testing.T) {
	t.Parallel()
	t.Run("outlives_the_client", storeOutlivesTheClient)
	t.Run("is_shared_with_other_processes", storeIsShared)
	t.Run("with_a_lock_is_refreshed_by_one_process", storeIsLocked)
	t.Run("whose_lock_cannot_be_had_fails_the_call", storeCannotBeLocked)
	t.Run("tells_that_another_process_logged_out", storeTellsOfALogout)
	t.Run("that_cannot_be_read_fails_the_call", storeCannotBeRead)
	t.Run("that_cannot_be_written_loses_nothing", storeCannotBeWritten)
}

func storeOutlivesTheClient(t *testing.T) {
	t.Parallel()
	f, kept := serve(t), &store{}
	f.signIn(t, client.WithTokenStore(kept))
	if err := getMe(t.Context(), f.dial(t, client.WithTokenStore(kept))); err != nil {
		t.Error(err)
	}
}

func storeIsShared(t *testing.T) {
	t.Parallel()
	f, kept := serve(t), &store{}
	one := f.signIn(t, client.WithTokenStore(kept))
	other := f.dial(t, client.WithTokenStore(kept))
	if err := getMe(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	f.expire()
	for _, c := range []*client.Client{one, other} { // the other holds what is old by now
		if err := getMe(t.Context(), c); err != nil {
			t.Error(err)
		}
	}
	if n := f.called("Refresh"); n != 1 {
		t.Errorf("refreshed %d times: the second use of a refresh token ends the session", n)
	}
}

// lockedStore is a store that processes take turns with.
type lockedStore struct {
	store
	turn   chan struct{} // holds one while nobody has the lock
	faulty error
}

func newLockedStore() *lockedStore {
	s := &lockedStore{turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// Lock waits for the turn.
func (s *lockedStore) Lock(ctx context.Context) (func(), error) {
	if s.faulty != nil {
		return nil, s.faulty
	}
	select {
	case <-s.turn:
		return func() { s.turn <- struct{}{} }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func storeIsLocked(t *testing.T) {
	t.Parallel()
	f, kept := serve(t), newLockedStore()
	clients := []*client.Client{f.signIn(t, client.WithTokenStore(kept))}
	for range 7 {
		c := f.dial(t, client.WithTokenStore(kept))
		if err := getMe(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
	}
	f.expire()
	var all sync.WaitGroup
	for _, c := range clients {
		all.Go(func() {
			if err := getMe(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := f.called("Refresh"); n != 1 {
		t.Errorf("refreshed %d times", n)
	}
}

func storeCannotBeLocked(t *testing.T) {
	t.Parallel()
	f, kept := serve(t), newLockedStore()
	c := f.signIn(t, client.WithTokenStore(kept))
	kept.faulty = errors.New("a disk that is not there")
	f.expire()
	if err := getMe(t.Context(), c); !errors.Is(err, kept.faulty) {
		t.Errorf("%v", err)
	}
	if n := f.called("Refresh"); n != 0 {
		t.Errorf("refreshed %d times without the lock", n)
	}
	kept.faulty = nil
	if err := getMe(t.Context(), c); err != nil {
		t.Error(err)
	}
}

func storeTellsOfALogout(t *testing.T) {
	t.Parallel()
	f, kept := serve(t), &store{}
	c := f.signIn(t, client.WithTokenStore(kept))
	if err := kept.Save(t.Context(), client.Tokens{}); err != nil {
		t.Fatal(err)
	}
	f.expire()
	if err := getMe(t.Context(), c); client.Reason(err) != client.ReasonTokenMissing || f.called("Refresh") != 0 {
		t.Errorf("%v after %d refreshes", err, f.called("Refresh"))
	}
}

func storeCannotBeRead(t *testing.T) {
	t.Parallel()
	f, kept, gone := serve(t), &store{}, errors.New("no such disk")
	kept.breaks(gone)
	c := f.dial(t, client.WithTokenStore(kept))
	if err := getMe(t.Context(), c); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	if f.called("GetMe") != 0 {
		t.Error("the call went out as nobody's")
	}
}

func storeCannotBeWritten(t *testing.T) {
	t.Parallel()
	f, kept, full := serve(t), &store{}, errors.New("disk full")
	c := f.signIn(t, client.WithTokenStore(kept))
	kept.breaks(full)
	f.expire()
	if err := getMe(t.Context(), c); !errors.Is(err, full) {
		t.Errorf("nobody is told: %v", err)
	}
	if err := getMe(t.Context(), c); err != nil {
		t.Errorf("the tokens are lost: %v", err)
	}
	kept.breaks(nil) // and has something old in it
	f.expire()
	if err := getMe(t.Context(), c); err != nil || f.called("Refresh") != 2 {
		t.Errorf("%v after %d refreshes", err, f.called("Refresh"))
	}
	if kept.saved().Access != "access-3" {
		t.Errorf("saved %q", kept.saved().Access)
	}
}

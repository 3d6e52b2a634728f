package talk

import (
	"context"
	"errors"
	"time"
)

func newSession(id SessionID, user UserID, cookie bool, device Device, now time.Time) Session {
	return Session{
		ID: id, UserID: user, Generation: 1, Cookie: cookie,
		UserAgent: device.UserAgent, IP: device.IP,
		CreatedAt: now, RotatedAt: now, LastUsedAt: now,
		IdleExpiresAt: now.Add(SessionIdle), AbsoluteExpiresAt: now.Add(SessionAbsolute),
	}
}

func (s *Accounts) grant(session Session, at time.Time) (Grant, error) {
	access, expires, err := s.Tokens.Access(session.UserID, session.ID, session.Generation, at)
	if err != nil {
		return Grant{}, err
	}
	refresh, err := s.Tokens.Refresh(session.ID, session.Generation, session.RotatedAt)
	return Grant{
		AccessToken: access, AccessExpiresAt: expires,
		RefreshToken: refresh, RefreshExpiresAt: session.ExpiresAt(),
		SessionID: session.ID, Cookie: session.Cookie,
	}, err
}

// Refresh rotates the session of a refresh token. The token one generation
// back gets the same successor again for ten seconds, and longer while the
// successor was never used (the client lost the answer); otherwise an old token
// ends its session: somebody else has it.
func (s *Accounts) Refresh(ctx context.Context, token string) (Grant, error) {
	id, generation, err := s.Tokens.ParseRefresh(token)
	if err != nil {
		return Grant{}, err
	}
	session, rotated, err := s.Store.Rotate(ctx, id, generation, s.Clock(), SessionIdle)
	switch {
	case errors.Is(err, ErrSessionNotFound):
		return Grant{}, ErrRefreshInvalid
	case err != nil:
		return Grant{}, err
	case rotated:
		return s.grant(session, session.RotatedAt)
	case !session.Alive(s.Clock()):
		return Grant{}, ErrSessionRevoked
	case generation > session.Generation:
		// The database is older than the token: a restored backup, or a leaked key.
		s.alarm(ctx, "authn_token_from_the_future", session.UserID, id)
		return Grant{}, ErrRefreshInvalid
	case generation == session.Generation-1:
		return s.again(ctx, session)
	}
	return Grant{}, s.reused(ctx, session)
}

func (s *Accounts) again(ctx context.Context, session Session) (Grant, error) {
	now := s.Clock()
	switch {
	case now.Before(session.RotatedAt.Add(RefreshGrace)):
		return s.grant(session, session.RotatedAt)
	case session.ConfirmedGeneration < session.Generation && !s.Uses.Confirmed(session.ID, session.Generation):
		return s.grant(session, now)
	}
	return Grant{}, s.reused(ctx, session)
}

func (s *Accounts) reused(ctx context.Context, session Session) error {
	s.alarm(ctx, "authn_token_reuse", session.UserID, session.ID)
	if _, err := s.revoke(ctx, session.UserID, RevokedByReuse, only(session.ID)); err != nil {
		return err
	}
	return ErrRefreshReused
}

func only(id SessionID) func(*Session) bool { return func(s *Session) bool { return s.ID == id } }

func allBut(id SessionID) func(*Session) bool { return func(s *Session) bool { return s.ID != id } }

// revoke ends the living sessions of user that match, and says which.
func (s *Accounts) revoke(ctx context.Context, user UserID, why RevokeReason, match func(*Session) bool) ([]SessionID, error) {
	var ended []SessionID
	err := s.Outbox.Change(ctx, Scope{Users: []UserID{user}, Sessions: true}, func(state *State) error {
		u, err := state.User(user)
		if err != nil {
			return err
		}
		ended = u.Revoke(why, state.Now, match)
		return nil
	})
	if errors.Is(err, ErrUserNotFound) {
		return nil, nil // erased: their sessions ended then
	}
	s.Revoked.Add(ended...)
	return ended, err
}

// Identify says who shows an access token, without a query: by its signature,
// and by the sessions that every node knows to be revoked.
func (s *Accounts) Identify(ctx context.Context, token string, device Device) (Caller, error) {
	now := s.Clock()
	known, err := s.Tokens.verify(token, now)
	if err != nil {
		return Caller{}, err
	}
	caller := known.caller()
	if err := s.Revoked.Check(ctx, caller.SessionID); err != nil {
		return Caller{}, err
	}
	if known.due(now) {
		known.noted.Store(s.Uses.Note(caller, device, now).UnixNano())
	}
	return caller, nil
}

// IdentifyEnded is [Accounts.Identify] for those whose session may have ended.
func (s *Accounts) IdentifyEnded(_ context.Context, token string) (Caller, error) {
	known, err := s.Tokens.verify(token, s.Clock())
	if err != nil {
		return Caller{}, err
	}
	return known.caller(), nil
}

// Logout ends the caller's session; ending it twice is no error.
func (s *Accounts) Logout(ctx context.Context, caller Caller) error {
	_, err := s.revoke(ctx, caller.UserID, RevokedByLogout, only(caller.SessionID))
	if err == nil {
		s.security(ctx, "authn_logout", caller.UserID, caller.SessionID, "actor", caller.UserID)
	}
	return err
}

// LogoutToken is [Accounts.Logout] by a refresh token, for browsers whose
// access token is gone. A token that is not valid any more has nothing to end.
func (s *Accounts) LogoutToken(ctx context.Context, token string) error {
	id, _, err := s.Tokens.ParseRefresh(token)
	if err != nil {
		return err
	}
	session, err := s.Store.Session(ctx, id)
	if errors.Is(err, ErrSessionNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.Logout(ctx, Caller{UserID: session.UserID, SessionID: id})
}

// LogoutAll ends all sessions of the caller, this one too, and says how many.
func (s *Accounts) LogoutAll(ctx context.Context, caller Caller) (int, error) {
	ended, err := s.revoke(ctx, caller.UserID, RevokedByLogout, func(*Session) bool { return true })
	if err == nil {
		s.security(ctx, "authn_logout_all", caller.UserID, caller.SessionID, "sessions", len(ended))
	}
	return len(ended), err
}

// Sessions lists the caller's living sessions, the last used first.
func (s *Accounts) Sessions(ctx context.Context, caller Caller) ([]Session, error) {
	sessions, err := s.Store.Sessions(ctx, caller.UserID, s.Clock())
	if err != nil {
		return nil, err
	}
	return s.Uses.Overlay(ctx, sessions), nil
}

// RevokeSession ends one session of the caller; ending it twice is no error.
func (s *Accounts) RevokeSession(ctx context.Context, caller Caller, id SessionID) error {
	session, err := s.Store.Session(ctx, id)
	if err != nil {
		return err
	}
	if session.UserID != caller.UserID {
		return ErrSessionNotFound
	}
	_, err = s.revoke(ctx, caller.UserID, RevokedByLogout, only(id))
	if err == nil {
		s.security(ctx, "authn_session_revoked", caller.UserID, id)
	}
	return err
}

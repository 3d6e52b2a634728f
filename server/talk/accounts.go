package talk

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Lifetimes and limits of sessions.
const (
	SessionIdle     = 7 * 24 * time.Hour  // without a refresh
	SessionAbsolute = 90 * 24 * time.Hour // whatever happens
	SessionsPerUser = 20
	RefreshGrace    = 10 * time.Second // in which a repeated refresh gets the same answer
)

// Accounts is what people do with their accounts and their devices.
type Accounts struct {
	Store     Store
	Outbox    *Outbox
	Clock     Clock
	Passwords *Passwords
	Tokens    *Tokens
	Revoked   *Revocations
	Uses      *Uses
	Log       *slog.Logger // security events, under OWASP's names
}

// Registration is what somebody says who opens an account.
type Registration struct {
	Email, Username, Password string
	DisplayName               string // empty means the username
	Cookie                    bool
}

// Grant is what a device may do next: an access token for now and a refresh
// token for later.
type Grant struct {
	AccessToken      string
	AccessExpiresAt  time.Time
	RefreshToken     string
	RefreshExpiresAt time.Time
	SessionID        SessionID
	Cookie           bool // the refresh token belongs in a cookie, and in no body
}

// Caller is who asks.
type Caller struct {
	UserID     UserID
	SessionID  SessionID
	Generation int64
}

// Register opens an account and signs its first device in. The names are
// looked at before the password is hashed, and decided by the database.
func (s *Accounts) Register(ctx context.Context, r Registration, device Device) (Account, Grant, error) {
	if r.DisplayName == "" {
		r.DisplayName = r.Username
	}
	if err := s.checkRegistration(ctx, r); err != nil {
		return Account{}, Grant{}, err
	}
	hash, err := s.Passwords.Hash(ctx, r.Password)
	if err != nil {
		return Account{}, Grant{}, err
	}
	id, session := UserID(NewID()), SessionID(NewID())
	var account Account
	var opened Session
	err = s.Outbox.Change(ctx, Scope{}, func(state *State) error {
		account = Account{
			User: User{
				ID: id, Username: r.Username, Profile: Profile{DisplayName: r.DisplayName},
				Role: RoleUser, CreatedAt: state.Now, UpdatedAt: state.Now,
			},
			Email: r.Email, PasswordHash: hash,
		}
		user := state.Register(account)
		opened = newSession(session, id, r.Cookie, device, state.Now)
		user.AddSession(new(opened), SessionsPerUser, state.Now)
		return nil
	})
	if err != nil {
		return Account{}, Grant{}, err
	}
	s.security(ctx, "user_created", id, session, "actor", id)
	grant, err := s.grant(opened, opened.RotatedAt)
	return account, grant, err
}

func (s *Accounts) checkRegistration(ctx context.Context, r Registration) error {
	if err := CheckUsername(r.Username); err != nil {
		return err
	}
	if err := CheckPassword(r.Password, r.Username, r.Email, r.DisplayName); err != nil {
		return err
	}
	if err := s.free(ctx, Login{Email: r.Email}, ErrEmailTaken); err != nil {
		return err
	}
	return s.free(ctx, Login{Username: r.Username}, ErrUsernameTaken)
}

// free returns taken where an account has that name.
func (s *Accounts) free(ctx context.Context, name Login, taken *Error) error {
	_, err := s.Store.Credentials(ctx, name)
	switch {
	case err == nil:
		return taken
	case errors.Is(err, ErrUserNotFound):
		return nil
	}
	return err
}

// Login signs a device in. A wrong password and an unknown name give the same
// answer after the same work: ErrBadCredentials. A banned account is told so
// only with the right password.
func (s *Accounts) Login(ctx context.Context, login Login, password string, cookie bool, device Device) (AccountView, Grant, error) {
	account, rehashed, err := s.verify(ctx, login, password)
	if err != nil {
		s.security(ctx, "authn_login_fail", account.ID, "", "reason", ReasonOf(err))
		return AccountView{}, Grant{}, err
	}
	id := SessionID(NewID())
	var opened Session
	var displaced []SessionID
	var view AccountView
	scope := Scope{Users: []UserID{account.ID}, Sessions: true}
	err = s.Outbox.Change(ctx, scope, func(state *State) error {
		user, err := state.User(account.ID)
		switch {
		case errors.Is(err, ErrUserNotFound), err == nil && user.PasswordHash != account.PasswordHash:
			return ErrBadCredentials // changed since it was verified
		case err != nil:
			return err
		case user.Banned(state.Now):
			return user.Ban.refusal()
		}
		if rehashed != "" {
			user.SetPassword(rehashed, state.Now)
		}
		opened = newSession(id, account.ID, cookie, device, state.Now)
		displaced = user.AddSession(new(opened), SessionsPerUser, state.Now)
		view = AccountView{Account: user.Account, CurrentRoomID: user.Seat, OwnedRoomID: user.Owns}
		return nil
	})
	if err != nil {
		s.security(ctx, "authn_login_fail", account.ID, "", "reason", ReasonOf(err))
		return AccountView{}, Grant{}, err
	}
	s.Revoked.Add(displaced...)
	s.security(ctx, "authn_login_success", account.ID, id, "actor", account.ID)
	grant, err := s.grant(opened, opened.RotatedAt)
	return view, grant, err
}

// verify returns the account whose password it is, and a new hash of it where
// the stored one was made with other parameters.
func (s *Accounts) verify(ctx context.Context, login Login, password string) (Account, string, error) {
	account, err := s.Store.Credentials(ctx, login)
	if errors.Is(err, ErrUserNotFound) {
		if err := s.Passwords.VerifyNobody(ctx, password); err != nil {
			return Account{}, "", err
		}
		return Account{}, "", ErrBadCredentials
	}
	if err != nil {
		return Account{}, "", err
	}
	rehashed, err := s.prove(ctx, account, password)
	return account, rehashed, err
}

func (s *Accounts) prove(ctx context.Context, account Account, password string) (rehashed string, err error) {
	right, stale, err := s.Passwords.Verify(ctx, account.PasswordHash, password)
	switch {
	case err != nil:
		return "", err
	case !right:
		return "", ErrBadCredentials
	case stale:
		return s.Passwords.Hash(ctx, password)
	}
	return "", nil
}

// Me returns the caller's account and rooms.
func (s *Accounts) Me(ctx context.Context, caller Caller) (AccountView, error) {
	return s.Store.Account(ctx, caller.UserID)
}

// ChangePassword replaces the password, ends all other sessions and rotates
// this one.
func (s *Accounts) ChangePassword(ctx context.Context, caller Caller, current, next string) (Grant, error) {
	account, err := s.own(ctx, caller, current)
	if err != nil {
		return Grant{}, err
	}
	if err := checkPassword("new_password", next, account.Username, account.Email, account.DisplayName); err != nil {
		return Grant{}, err
	}
	hash, err := s.Passwords.Hash(ctx, next)
	if err != nil {
		return Grant{}, err
	}
	var ended []SessionID
	var generation int64
	err = s.changeOwn(ctx, account, Scope{Sessions: true}, func(state *State, user *UserState) error {
		session, ok := user.Session(caller.SessionID, state.Now)
		if !ok {
			return ErrSessionRevoked
		}
		generation = session.Generation
		user.SetPassword(hash, state.Now)
		ended = user.Revoke(RevokedByPassword, state.Now, allBut(caller.SessionID))
		return nil
	})
	if err != nil {
		return Grant{}, err
	}
	s.Revoked.Add(ended...)
	s.security(ctx, "authn_password_change", caller.UserID, caller.SessionID)
	session, _, err := s.Store.Rotate(ctx, caller.SessionID, generation, s.Clock(), SessionIdle)
	if err != nil {
		return Grant{}, err
	}
	return s.grant(session, session.RotatedAt)
}

// DeleteAccount leaves or hands over the caller's room, ends their sessions
// and erases the person.
func (s *Accounts) DeleteAccount(ctx context.Context, caller Caller, password string) error {
	account, err := s.own(ctx, caller, password)
	if err != nil {
		return err
	}
	var ended []SessionID
	err = s.changeOwn(ctx, account, Scope{Seats: true, Sessions: true}, func(state *State, user *UserState) error {
		if room, err := state.Room(user.Seat); err == nil {
			room.Leave(user, LeftByThemselves, state.Now)
		}
		ended = user.Revoke(RevokedByLogout, state.Now, func(*Session) bool { return true })
		user.Erase(state.Now)
		return nil
	})
	if err != nil {
		return err
	}
	s.Revoked.Add(ended...)
	s.security(ctx, "user_deleted", caller.UserID, caller.SessionID)
	return nil
}

// own returns the caller's account where password is theirs.
func (s *Accounts) own(ctx context.Context, caller Caller, password string) (Account, error) {
	view, err := s.Store.Account(ctx, caller.UserID)
	if err != nil {
		return Account{}, err
	}
	if _, err := s.prove(ctx, view.Account, password); err != nil {
		s.security(ctx, "authn_password_fail", caller.UserID, caller.SessionID, "reason", ReasonOf(err))
		return Account{}, err
	}
	return view.Account, nil
}

// changeOwn runs decide on an account whose password is still the one that was proved.
func (s *Accounts) changeOwn(ctx context.Context, proved Account, scope Scope, decide func(*State, *UserState) error) error {
	scope.Users = []UserID{proved.ID}
	return s.Outbox.Change(ctx, scope, func(state *State) error {
		user, err := state.User(proved.ID)
		if err != nil {
			return err
		}
		if user.PasswordHash != proved.PasswordHash {
			return ErrBadCredentials
		}
		return decide(state, user)
	})
}

// Promote makes the user of that name an administrator, at the word of by: who
// sits at the server's shell.
func (s *Accounts) Promote(ctx context.Context, username, by string) (User, error) {
	account, err := s.Store.Credentials(ctx, Login{Username: username})
	if err != nil {
		return User{}, err
	}
	var after User
	err = s.Outbox.Change(ctx, Scope{Users: []UserID{account.ID}}, func(state *State) error {
		user, err := state.User(account.ID)
		if err != nil {
			return err
		}
		user.SetRole(RoleAdmin, state.Now)
		after = user.User
		return state.Audit(AtTheShell(by), "set_role", string(account.ID), map[string]any{"role": "admin"})
	})
	if err == nil {
		s.security(ctx, "privilege_permissions_changed", account.ID, "", "role", "admin", "actor", by)
	}
	return after, err
}

// security logs an event of security under the name that the OWASP Logging
// Vocabulary gives it: user is whom it is about. Who did it is the caller, whom
// the log adds, or else said as "actor".
func (s *Accounts) security(ctx context.Context, name string, user UserID, session SessionID, more ...any) {
	s.Log.InfoContext(ctx, "security", securityOf(name, user, session, more)...)
}

// alarm is security where somebody should look: a token is in two hands.
func (s *Accounts) alarm(ctx context.Context, name string, user UserID, session SessionID) {
	s.Log.WarnContext(ctx, "security", securityOf(name, user, session, nil)...)
}

func securityOf(name string, user UserID, session SessionID, more []any) []any {
	return append([]any{"event", name, "user", user, "session", session}, more...)
}

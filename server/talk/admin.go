package talk

import (
	"context"
	"errors"
	"time"
)

// Admin is what those who run a community can do. Each act is written into the
// audit log in its own transaction, in which the role of who acts is read once
// more: of two administrators who take each other's role away, one is left.
type Admin struct {
	Store   Store
	Reader  Reader
	Outbox  *Outbox
	Clock   Clock
	Revoked *Revocations // of this node: what an act ends is known here at once
	Uses    *Uses
	// Flush drops what caches hold under keys that match a pattern, and says how
	// many there were; nil: there are no caches.
	Flush func(ctx context.Context, pattern string) (int, error)
	// Holds says of how many keys the cache that all nodes share holds a value.
	Holds func(ctx context.Context, keys ...Key) (int, error)
	Desk  LimitDesk
}

// ManagedUser is an account as administrators see it.
type ManagedUser struct {
	Account
	Sessions int    // that live
	RoomID   RoomID // where they sit, or ""
}

// UserQuery asks for a page of living accounts.
type UserQuery struct {
	Text  string // how a username or an e-mail address begins, in any case, or an id; empty: all
	Size  int    // 1 to 100
	After UserID // the last one of the page before; empty: the first page
}

// UserPage is a page of accounts, the newest first.
type UserPage struct {
	Users []ManagedUser
	Next  UserID // the last one of this page; empty where no other follows
}

// Role is what caller may do now. It is read from the database, as is whether
// their session lives and whether they are banned: an access token outlives
// all three.
func (s *Admin) Role(ctx context.Context, caller Caller) (Role, error) {
	session, err := s.Store.Session(ctx, caller.SessionID)
	if errors.Is(err, ErrSessionNotFound) {
		return 0, ErrSessionRevoked // it went with its account
	}
	if err != nil {
		return 0, err
	}
	now := s.Clock()
	if session.UserID != caller.UserID || !session.Alive(now) {
		return 0, ErrSessionRevoked
	}
	account, err := s.Store.Account(ctx, caller.UserID)
	if err != nil {
		return 0, err
	}
	if account.Banned(now) {
		return 0, account.Ban.refusal()
	}
	return account.Role, nil
}

// act is one act of an administrator.
type act struct {
	by     UserID
	action string
	target string
	detail map[string]any
}

// do changes what scope names and writes the audit entry with it.
func (s *Admin) do(ctx context.Context, a act, scope Scope, decide func(*State) error) error {
	scope.Users = append(scope.Users, a.by)
	return s.Outbox.Change(ctx, scope, func(state *State) error {
		actor, err := state.User(a.by)
		if err != nil || actor.Role != RoleAdmin || actor.Banned(state.Now) {
			return ErrNotAdmin
		}
		if err := decide(state); err != nil {
			return err
		}
		return state.Audit(string(a.by), a.action, a.target, a.detail)
	})
}

// Ban keeps target out for a while, zero for good: their sessions end, they
// leave the room that they sit in, and they cannot log in. It replaces the ban
// that they have. Nobody bans themselves: ErrSelf.
func (s *Admin) Ban(ctx context.Context, by, target UserID, reason string, length time.Duration) error {
	if by == target {
		return ErrSelf
	}
	detail := map[string]any{"reason": reason}
	a := act{by, "ban_user", string(target), detail}
	var ended []SessionID
	err := s.do(ctx, a, Scope{Users: []UserID{target}, Seats: true, Sessions: true}, func(state *State) error {
		user, err := state.User(target)
		if err != nil {
			return err
		}
		ban := Ban{Reason: reason}
		if length > 0 {
			ban.Until = state.Now.Add(length)
			detail["until"] = ban.Until.Format(time.RFC3339)
		}
		user.SetBan(&ban)
		if room, err := state.Room(user.Seat); err == nil {
			room.Leave(user, LeftByBan, state.Now)
		}
		ended = user.Revoke(RevokedByBan, state.Now, every)
		return nil
	})
	if err == nil {
		s.Revoked.Add(ended...)
	}
	return err
}

func every(*Session) bool { return true }

// Unban ends target's ban; ending none is no error.
func (s *Admin) Unban(ctx context.Context, by, target UserID) error {
	return s.do(ctx, act{by, "unban_user", string(target), nil}, Scope{Users: []UserID{target}}, func(state *State) error {
		user, err := state.User(target)
		if err == nil {
			user.SetBan(nil)
		}
		return err
	})
}

// SetRole makes target an administrator, or takes that away. Nobody changes
// their own role, so that one administrator is always left: ErrSelf.
func (s *Admin) SetRole(ctx context.Context, by, target UserID, role Role) (User, error) {
	if by == target {
		return User{}, ErrSelf
	}
	name := map[Role]string{RoleUser: "user", RoleAdmin: "admin"}[role]
	a := act{by, "set_role", string(target), map[string]any{"role": name}}
	var after User
	err := s.do(ctx, a, Scope{Users: []UserID{target}}, func(state *State) error {
		user, err := state.User(target)
		if err != nil {
			return err
		}
		if user.Role != role {
			user.SetRole(role, state.Now)
		}
		after = user.User
		return nil
	})
	return after, err
}

// RevokeSessions ends all sessions of target, and says how many.
func (s *Admin) RevokeSessions(ctx context.Context, by, target UserID) (int, error) {
	var ended []SessionID
	detail := map[string]any{}
	a := act{by, "revoke_sessions", string(target), detail}
	err := s.do(ctx, a, Scope{Users: []UserID{target}, Sessions: true}, func(state *State) error {
		user, err := state.User(target)
		if err != nil {
			return err
		}
		ended = user.Revoke(RevokedByAdmin, state.Now, every)
		detail["sessions"] = len(ended)
		return nil
	})
	if err != nil {
		return 0, err
	}
	s.Revoked.Add(ended...)
	return len(ended), nil
}

// CloseRoom ends a room for everybody in it; closing twice is no error.
func (s *Admin) CloseRoom(ctx context.Context, by UserID, room RoomID, reason string) error {
	a := act{by, "close_room", string(room), map[string]any{"reason": reason}}
	return s.do(ctx, a, Scope{Rooms: []RoomID{room}, Members: true}, func(state *State) error {
		r, err := state.Room(room)
		if err != nil {
			return err
		}
		return r.End(ClosedByAdmin, state.Now)
	})
}

// Kick removes target from the room, its owner too, and keeps them out for
// [DefaultBan].
func (s *Admin) Kick(ctx context.Context, by UserID, room RoomID, target UserID, reason string) error {
	a := act{by, "kick_user", string(target), map[string]any{"room": string(room), "reason": reason}}
	return s.do(ctx, a, Scope{Rooms: []RoomID{room}, Users: []UserID{target}}, func(state *State) error {
		r, err := state.Room(room)
		if err != nil {
			return err
		}
		return r.Remove(target, reason, DefaultBan, state.Now)
	})
}

// Users lists accounts.
func (s *Admin) Users(ctx context.Context, q UserQuery) (UserPage, error) {
	return s.Store.ManagedUsers(ctx, q, s.Clock())
}

// Sessions lists the living sessions of a user, the last used first.
func (s *Admin) Sessions(ctx context.Context, user UserID) ([]Session, error) {
	if _, err := s.Store.Account(ctx, user); err != nil {
		return nil, err
	}
	sessions, err := s.Store.Sessions(ctx, user, s.Clock())
	if err != nil {
		return nil, err
	}
	return s.Uses.Overlay(ctx, sessions), nil
}

// FlushCache drops what is cached under the keys that pattern matches, all for
// an empty one. It stands in the log before it is done: what was begun cannot
// be taken back.
func (s *Admin) FlushCache(ctx context.Context, by UserID, pattern string) (int, error) {
	if pattern == "" {
		pattern = "*"
	}
	err := s.do(ctx, act{by, "flush_cache", pattern, nil}, Scope{}, func(*State) error { return nil })
	if err != nil || s.Flush == nil {
		return 0, err
	}
	dropped, err := s.Flush(ctx, pattern)
	if err != nil && ctx.Err() == nil {
		err = ErrBusy.Because(err)
	}
	return dropped, err
}

// ResetLimit forgets what a key has used of a limit. It stands in the log
// before it is done.
func (s *Admin) ResetLimit(ctx context.Context, by UserID, limit Limit, key string) error {
	a := act{by, "reset_rate_limit", key, map[string]any{"policy": limit.Policy}}
	if err := s.do(ctx, a, Scope{}, func(*State) error { return nil }); err != nil {
		return err
	}
	return s.Desk.Reset(ctx, limit, key)
}

// WarmCache reads the most popular open rooms and everybody in them through the
// caches, and says how many rooms and people of these all nodes find there now.
func (s *Admin) WarmCache(ctx context.Context, by UserID) (rooms, people int, err error) {
	if err := s.do(ctx, act{by, "warm_cache", "", nil}, Scope{}, func(*State) error { return nil }); err != nil {
		return 0, 0, err
	}
	roomKeys, userKeys, err := (&Warmer{List: s.Store.Rooms, Reader: s.Reader}).Warm(ctx)
	if err != nil {
		return 0, 0, err
	}
	if rooms, err = s.Holds(ctx, roomKeys...); err == nil {
		people, err = s.Holds(ctx, userKeys...)
	}
	if err != nil && ctx.Err() == nil {
		err = ErrBusy.Because(err)
	}
	return rooms, people, err
}

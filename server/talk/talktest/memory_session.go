package talktest

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// Session is [talk.Store.Session].
func (m *Memory) Session(ctx context.Context, id talk.SessionID) (session talk.Session, err error) {
	err = m.alone(ctx, func(w *world) error {
		var ok bool
		if session, ok = w.sessions[id]; !ok {
			return talk.ErrSessionNotFound
		}
		return nil
	})
	return session, err
}

// Sessions is [talk.Store.Sessions].
func (m *Memory) Sessions(ctx context.Context, user talk.UserID, now time.Time) (sessions []talk.Session, err error) {
	err = m.alone(ctx, func(w *world) error {
		for _, s := range w.sessions {
			if s.UserID == user && s.Alive(now) {
				sessions = append(sessions, s)
			}
		}
		slices.SortFunc(sessions, func(a, b talk.Session) int {
			return cmp.Or(b.LastUsedAt.Compare(a.LastUsedAt), strings.Compare(string(b.ID), string(a.ID)))
		})
		return nil
	})
	return sessions, err
}

// Rotate is [talk.Store.Rotate].
func (m *Memory) Rotate(ctx context.Context, id talk.SessionID, from int64, now time.Time, idle time.Duration) (session talk.Session, rotated bool, err error) {
	err = m.alone(ctx, func(w *world) error {
		s, ok := w.sessions[id]
		if !ok {
			return talk.ErrSessionNotFound
		}
		if s.Generation == from && s.Alive(now) {
			s.Generation++
			s.RotatedAt, s.IdleExpiresAt = now, now.Add(idle)
			if s.LastUsedAt.Before(now) {
				s.LastUsedAt = now
			}
			w.sessions[id], rotated = s, true
		}
		session = s
		return nil
	})
	return session, rotated, err
}

// UseSessions is [talk.Store.UseSessions].
func (m *Memory) UseSessions(ctx context.Context, uses []talk.SessionUse) error {
	return m.alone(ctx, func(w *world) error {
		for _, use := range uses {
			s, ok := w.sessions[use.ID]
			if !ok || !s.Alive(use.At) {
				continue
			}
			if use.At.After(s.LastUsedAt) {
				s.LastUsedAt, s.IP, s.UserAgent = use.At, use.IP, use.UserAgent
			}
			if use.Generation > s.ConfirmedGeneration && use.Generation <= s.Generation {
				s.ConfirmedGeneration = use.Generation
			}
			w.sessions[use.ID] = s
		}
		return nil
	})
}

// Pending is [talk.Store.Pending]: every change is made at once.
func (m *Memory) Pending(ctx context.Context) (time.Time, error) { return time.Time{}, ctx.Err() }

// RevokedSince is [talk.Store.RevokedSince].
func (m *Memory) RevokedSince(ctx context.Context, since time.Time) (ids []talk.SessionID, err error) {
	err = m.alone(ctx, func(w *world) error {
		for _, s := range w.sessions {
			if !s.RevokedAt.IsZero() && !s.RevokedAt.Before(since) {
				ids = append(ids, s.ID)
			}
		}
		slices.SortFunc(ids, func(a, b talk.SessionID) int {
			return cmp.Or(w.sessions[a].RevokedAt.Compare(w.sessions[b].RevokedAt), strings.Compare(string(a), string(b)))
		})
		return nil
	})
	return ids, err
}

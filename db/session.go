package db

import (
	"context"
	"strings"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/schema"

	"github.com/free2talk/free2talk/server/talk"
)

// sessionRow is a row of sessions.
type sessionRow struct {
	bun.BaseModel `bun:"table:sessions"`

	ID                  talk.SessionID `bun:",pk"`
	UserID              talk.UserID
	Generation          int64
	ConfirmedGeneration int64
	RotatedAt           stamp
	IdleExpiresAt       stamp
	AbsoluteExpiresAt   stamp
	CreatedAt           stamp
	LastUsedAt          stamp
	UserAgent           string
	IP                  string
	Cookie              bool
	RevokedAt           stamp
	RevokeReason        talk.RevokeReason
}

func sessionRowOf(s *talk.Session) sessionRow {
	return sessionRow{
		ID: s.ID, UserID: s.UserID, Generation: s.Generation, ConfirmedGeneration: s.ConfirmedGeneration,
		RotatedAt: at(s.RotatedAt), IdleExpiresAt: at(s.IdleExpiresAt), AbsoluteExpiresAt: at(s.AbsoluteExpiresAt),
		CreatedAt: at(s.CreatedAt), LastUsedAt: at(s.LastUsedAt), UserAgent: s.UserAgent, IP: s.IP, Cookie: s.Cookie,
		RevokedAt: at(s.RevokedAt), RevokeReason: s.RevokeReason,
	}
}

func (r *sessionRow) session() talk.Session {
	return talk.Session{
		ID: r.ID, UserID: r.UserID, Generation: r.Generation, ConfirmedGeneration: r.ConfirmedGeneration,
		RotatedAt: r.RotatedAt.Time, IdleExpiresAt: r.IdleExpiresAt.Time, AbsoluteExpiresAt: r.AbsoluteExpiresAt.Time,
		CreatedAt: r.CreatedAt.Time, LastUsedAt: r.LastUsedAt.Time, UserAgent: r.UserAgent, IP: r.IP, Cookie: r.Cookie,
		RevokedAt: r.RevokedAt.Time, RevokeReason: r.RevokeReason,
	}
}

// Session returns a session, living or not, or ErrSessionNotFound.
func (s *Store) Session(ctx context.Context, id talk.SessionID) (talk.Session, error) {
	if !valid(id) {
		return talk.Session{}, talk.ErrSessionNotFound
	}
	row, err := one[sessionRow](ctx, s, talk.ErrSessionNotFound, `
		SELECT *
		FROM sessions
		WHERE id = ?`, id)
	return row.session(), err
}

// Sessions lists the living sessions of a user, the last used first.
func (s *Store) Sessions(ctx context.Context, user talk.UserID, now time.Time) ([]talk.Session, error) {
	if !valid(user) {
		return nil, nil
	}
	rows, err := list[sessionRow](ctx, s, `
		SELECT *
		FROM sessions
		WHERE user_id = ?
		  AND revoked_at IS NULL
		  AND idle_expires_at > ?
		  AND absolute_expires_at > ?
		ORDER BY last_used_at DESC, id DESC`, user, at(now), at(now))
	var sessions []talk.Session
	for i := range rows {
		sessions = append(sessions, rows[i].session())
	}
	return sessions, err
}

// Rotate raises the generation of a living session from `from` by one. It
// reports false, and the session as it is, where somebody else was faster or
// the session has ended; ErrSessionNotFound where there is none.
func (s *Store) Rotate(ctx context.Context, id talk.SessionID, from int64, now time.Time, idle time.Duration) (talk.Session, bool, error) {
	if !valid(id) {
		return talk.Session{}, false, talk.ErrSessionNotFound
	}
	var rows []sessionRow
	err := retry(ctx, func() error {
		rows = nil
		give, err := s.turns.take(ctx)
		if err != nil {
			return err
		}
		defer give()
		return s.writer(ctx).NewRaw(`
			UPDATE sessions
			SET generation = generation + 1,
				rotated_at = ?0,
				idle_expires_at = ?1,
				last_used_at = CASE WHEN last_used_at < ?0 THEN ?0 ELSE last_used_at END
			WHERE id = ?2
			  AND generation = ?3
			  AND revoked_at IS NULL
			  AND idle_expires_at > ?0
			  AND absolute_expires_at > ?0
			RETURNING *`, s.timestamp(now), s.timestamp(now.Add(idle)), id, from).Scan(ctx, &rows)
	})
	if err != nil {
		return talk.Session{}, false, fault(ctx, err)
	}
	if len(rows) == 1 {
		return rows[0].session(), true, nil
	}
	session, err := s.Session(ctx, id)
	return session, false, err
}

func (s *Store) timestamp(t time.Time) schema.QueryAppender {
	return s.typed(t.UTC().Format(stampLayout), "timestamptz")
}

// UseSessions notes last uses and confirms generations, in one statement.
// Sessions that had ended are left alone; nothing moves back.
func (s *Store) UseSessions(ctx context.Context, uses []talk.SessionUse) error {
	rows := s.useRows(uses)
	if rows == "" {
		return nil
	}
	_, err := s.write(ctx, `
		WITH used (id, at, ip, user_agent, generation) AS (
			VALUES ?
		), locked AS (
			SELECT id
			FROM sessions
			WHERE id IN (SELECT id FROM used)
			ORDER BY id
			?
		)
		UPDATE sessions
		SET last_used_at = CASE WHEN used.at > last_used_at THEN used.at ELSE last_used_at END,
			ip = CASE WHEN used.at > last_used_at THEN used.ip ELSE sessions.ip END,
			user_agent = CASE WHEN used.at > last_used_at THEN used.user_agent ELSE sessions.user_agent END,
			confirmed_generation = CASE
				WHEN used.generation > confirmed_generation AND used.generation <= sessions.generation THEN used.generation
				ELSE confirmed_generation
			END
		FROM used
		JOIN locked ON locked.id = used.id
		WHERE sessions.id = used.id
		  AND revoked_at IS NULL
		  AND idle_expires_at > used.at
		  AND absolute_expires_at > used.at`, bun.Safe(rows), bun.Safe(s.locking()))
	return err
}

// useRows is the list of VALUES, each session once: the last of its uses, and
// the highest of its generations.
func (s *Store) useRows(uses []talk.SessionUse) string {
	merged := make(map[talk.SessionID]talk.SessionUse, len(uses))
	var order []talk.SessionID
	for _, use := range uses {
		last, again := merged[use.ID]
		if !valid(use.ID) {
			continue
		}
		if !again {
			order = append(order, use.ID)
		}
		use.Generation = max(use.Generation, last.Generation)
		if last.At.After(use.At) {
			last.Generation = use.Generation
			use = last
		}
		merged[use.ID] = use
	}
	rows := make([]string, 0, len(order))
	for _, id := range order {
		use := merged[id]
		rows = append(rows, s.sql("(?, ?, ?, ?, ?)", s.typed(string(id), "uuid"), s.timestamp(use.At), use.IP, use.UserAgent, use.Generation))
	}
	return strings.Join(rows, ", ")
}

// Pending is when the oldest change began that may still commit, by the
// database's clock; zero where there is none.
func (s *Store) Pending(ctx context.Context) (time.Time, error) {
	rows, err := list[clockRow](aside(ctx), s, s.pendingQuery())
	if err != nil {
		return time.Time{}, err
	}
	return rows[0].Now.Time, nil
}

// RevokedSince lists the sessions that were revoked at or after a time.
func (s *Store) RevokedSince(ctx context.Context, since time.Time) ([]talk.SessionID, error) {
	rows, err := list[sessionRow](aside(ctx), s, `
		SELECT id
		FROM sessions
		WHERE revoked_at >= ?
		ORDER BY revoked_at, id`, at(since))
	var ids []talk.SessionID
	for _, row := range rows {
		ids = append(ids, row.ID)
	}
	return ids, err
}

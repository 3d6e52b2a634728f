package db

import (
	"context"
	"encoding/hex"
	"math"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/free2talk/free2talk/server/talk"
)

// auditRow is a row of audit. Its detail is text, so that what was hashed is
// what is read.
type auditRow struct {
	bun.BaseModel `bun:"table:audit"`

	ID       int64 `bun:",pk"`
	At       stamp
	Actor    string
	Action   string
	Target   string
	Detail   string
	PrevHash []byte
	Hash     []byte
}

// lastRow is where the chain ends. The hash is in hexadecimal, which both
// databases write alike.
type lastRow struct {
	ID   int64
	Hash string
}

// writeAudit seals the entries of a change after the last one, under a lock
// that keeps the chain one: whoever waits for it sees the entry that it waited for.
func (c *change) writeAudit(ctx context.Context, b *batch, entries []talk.AuditEntry) error {
	if len(entries) == 0 {
		return nil
	}
	var ends []lastRow
	last := query{"SELECT id, " + c.hexed("hash") + " AS hash FROM audit ORDER BY id DESC LIMIT 1", &ends}
	if err := c.tx.run(ctx, append(c.chaining(), last)...); err != nil {
		return err
	}
	end, prev := int64(0), []byte{}
	for _, row := range ends {
		hash, err := hex.DecodeString(row.Hash)
		if err != nil {
			return err
		}
		end, prev = row.ID, hash
	}
	rows := make([]auditRow, len(entries))
	for i := range entries {
		e := entries[i]
		e.Seal(end, prev)
		end, prev = e.ID, e.Hash
		rows[i] = auditRow{
			ID: e.ID, At: at(e.At), Actor: e.Actor, Action: e.Action, Target: e.Target, Detail: e.Detail,
			PrevHash: e.Prev, Hash: e.Hash,
		}
	}
	c.insert(b, &rows)
	return nil
}

func (r auditRow) entry() talk.AuditEntry {
	return talk.AuditEntry{
		ID: r.ID, At: r.At.Time, Actor: r.Actor, Action: r.Action, Target: r.Target, Detail: r.Detail,
		Prev: r.PrevHash, Hash: r.Hash,
	}
}

// AuditBelow lists entries with an id below one, the newest first; 0 is above all.
func (s *Store) AuditBelow(ctx context.Context, id int64, limit int) ([]talk.AuditEntry, error) {
	if id == 0 {
		id = math.MaxInt64
	}
	rows, err := list[auditRow](ctx, s, "SELECT * FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?", id, limit)
	return rowsOf(rows, auditRow.entry), err
}

// AuditAfter lists entries with an id above one, oldest first.
func (s *Store) AuditAfter(ctx context.Context, id int64, limit int) ([]talk.AuditEntry, error) {
	rows, err := list[auditRow](ctx, s, "SELECT * FROM audit WHERE id > ? ORDER BY id LIMIT ?", id, limit)
	return rowsOf(rows, auditRow.entry), err
}

// managedRow is a user, where they sit and how many devices they use.
type managedRow struct {
	userRow
	RoomID   talk.RoomID
	Sessions int
}

// ManagedUsers lists living accounts, the newest first. It reads one row more
// than the page has, to know whether another follows. What a text begins with
// is compared row by row: an administrator waits for it, not everybody.
func (s *Store) ManagedUsers(ctx context.Context, q talk.UserQuery, now time.Time) (talk.UserPage, error) {
	if strings.ContainsRune(q.Text, 0) {
		return talk.UserPage{}, nil
	}
	text := talk.Fold(q.Text)
	after := bun.SafeQuery("TRUE")
	if q.After != "" {
		after = bun.SafeQuery("u.id < ?", q.After)
	}
	named := bun.SafeQuery("(substr(lower(u.username), 1, length(?0)) = ?0 OR substr(lower(u.email), 1, length(?0)) = ?0)", text)
	if valid(talk.UserID(text)) {
		named = bun.SafeQuery("u.id = ?", text)
	}
	rows, err := list[managedRow](ctx, s, `
		SELECT u.*, p.room_id, (
			SELECT count(*)
			FROM sessions AS s
			WHERE s.user_id = u.id
			  AND s.revoked_at IS NULL
			  AND s.idle_expires_at > ?
			  AND s.absolute_expires_at > ?
		) AS sessions
		FROM users AS u
		LEFT JOIN participants AS p ON p.user_id = u.id
		WHERE u.deleted_at IS NULL
		  AND ?
		  AND ?
		ORDER BY u.id DESC
		LIMIT ?`, at(now), at(now), named, after, q.Size+1)
	if err != nil {
		return talk.UserPage{}, err
	}
	var page talk.UserPage
	if len(rows) > q.Size {
		rows = rows[:q.Size]
		page.Next = rows[q.Size-1].ID
	}
	page.Users = rowsOf(rows, func(r managedRow) talk.ManagedUser {
		return talk.ManagedUser{Account: r.account(), Sessions: r.Sessions, RoomID: r.RoomID}
	})
	return page, nil
}

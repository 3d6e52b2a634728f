package db

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/free2talk/free2talk/server/talk"
)

// write sends everything that a change has to write, and the commit with it,
// as one batch.
func (c *change) write(ctx context.Context, w *talk.Writes) (talk.Told, error) {
	if w.Empty() {
		return talk.Told{}, nil // the transaction ends with the attempt
	}
	events, err := eventRowsOf(w)
	if err != nil {
		return talk.Told{}, err
	}
	var batch batch
	if err := c.writeAudit(ctx, &batch, w.Audit); err != nil {
		return talk.Told{}, err
	}
	c.writeUsers(&batch, w)
	c.writeRooms(&batch, w)
	c.writeBans(&batch, w)
	c.writeSessions(&batch, w)
	var ids []idRow
	if len(events) > 0 {
		batch.add(c.DB().NewInsert().Model(&events).Returning("id").String(), &ids)
	}
	if err := c.tx.commit(ctx, batch...); err != nil {
		return talk.Told{}, err
	}
	told := talk.Told{Events: w.Events, Keys: w.Keys, Rooms: w.After()}
	for _, row := range ids {
		told.IDs = append(told.IDs, row.ID)
	}
	return told, nil
}

type idRow struct{ ID int64 }

// batch is queries in their order.
type batch []query

func (b *batch) add(sql string, into any) { *b = append(*b, query{sql, into}) }

func (c *change) insert(b *batch, rows any) { b.add(c.DB().NewInsert().Model(rows).String(), nil) }

func (c *change) writeUsers(b *batch, w *talk.Writes) {
	if rows := rowsOf(w.NewUsers, func(u *talk.UserState) userRow { return userRowOf(&u.Account) }); len(rows) > 0 {
		c.insert(b, &rows)
	}
	for _, u := range w.Users {
		if !u.Changed() {
			b.add(c.sql("UPDATE users SET seq = ? WHERE id = ?", u.Seq, u.ID), nil)
			continue
		}
		row := userRowOf(&u.Account)
		b.add(c.DB().NewUpdate().Model(&row).ExcludeColumn("created_at").WherePK().String(), nil)
		if !u.DeletedAt.IsZero() { // what their devices told goes with them
			b.add(c.sql("UPDATE sessions SET ip = '', user_agent = '' WHERE user_id = ?", u.ID), nil)
		}
	}
}

// writeRooms frees seats before rooms change and takes them after: a room
// closes empty, and grows before somebody sits down in it.
func (c *change) writeRooms(b *batch, w *talk.Writes) {
	if len(w.Stand) > 0 {
		who := rowsOf(w.Stand, func(k talk.SeatKey) talk.UserID { return k.UserID })
		b.add(c.sql("DELETE FROM participants WHERE user_id IN (?)", bun.List(who)), nil)
	}
	for _, r := range w.Rooms {
		row := roomRowOf(r)
		b.add(c.DB().NewUpdate().Model(&row).ExcludeColumn("slug", "created_at").WherePK().String(), nil)
	}
	if rows := rowsOf(w.NewRooms, roomRowOf); len(rows) > 0 {
		c.insert(b, &rows)
	}
	if rows := rowsOf(w.Sit, participantRowOf); len(rows) > 0 {
		c.insert(b, &rows)
	}
	for _, seat := range w.Update {
		b.add(c.sql("UPDATE participants SET state = ?, state_since = ? WHERE user_id = ?",
			seat.State, at(seat.StateSince), seat.User.ID), nil)
	}
}

// participantRow is a row of participants.
type participantRow struct {
	bun.BaseModel `bun:"table:participants"`

	UserID     talk.UserID `bun:",pk"`
	RoomID     talk.RoomID
	State      talk.ParticipantState
	StateSince stamp
	JoinedAt   stamp
}

func participantRowOf(s talk.Seat) participantRow {
	return participantRow{
		UserID: s.User.ID, RoomID: s.RoomID, State: s.State, StateSince: at(s.StateSince), JoinedAt: at(s.JoinedAt),
	}
}

func (c *change) writeBans(b *batch, w *talk.Writes) {
	for _, key := range w.Lift {
		b.add(c.sql("DELETE FROM bans WHERE room_id = ? AND user_id = ?", key.RoomID, key.UserID), nil)
	}
	for _, ban := range w.Place { // over one that has run out, and is no longer looked at
		b.add(c.sql(`
			INSERT INTO bans (room_id, user_id, until, reason)
			VALUES (?, ?, ?, ?)
			ON CONFLICT (room_id, user_id) DO UPDATE
			SET until = excluded.until, reason = excluded.reason`,
			ban.RoomID, ban.User.ID, at(ban.Until), ban.Reason), nil)
	}
}

func (c *change) writeSessions(b *batch, w *talk.Writes) {
	if rows := rowsOf(w.NewSessions, sessionRowOf); len(rows) > 0 {
		c.insert(b, &rows)
	}
	for _, session := range w.Revoked {
		b.add(c.sql("UPDATE sessions SET revoked_at = ?, revoke_reason = ? WHERE id = ?",
			at(session.RevokedAt), session.RevokeReason, session.ID), nil)
	}
}

func rowsOf[A, B any](all []A, row func(A) B) []B {
	rows := make([]B, len(all))
	for i, a := range all {
		rows[i] = row(a)
	}
	return rows
}

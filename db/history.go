package db

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/free2talk/free2talk/server/talk"
)

var _ talk.History = (*Store)(nil)

// HistoryID names the history that cursors belong to: this database, since it
// was made, and where it is a server that can be rolled back, in which of its
// timelines.
func (s *Store) HistoryID(ctx context.Context) (string, error) {
	row, err := one[historyRow](aside(ctx), s, nil, s.historyQuery())
	return row.ID, err
}

type historyRow struct {
	ID      string
	FloorTx uint64
	FloorID int64
}

func (r *historyRow) floor() talk.Mark { return talk.Mark{Tx: r.FloorTx, ID: r.FloorID} }

// loggedRow is a row of events with its place in the order of all.
type loggedRow struct {
	storedEvent
	Tx      uint64
	Settled bool
}

// Head is a mark that everything comes after that is not committed yet, and
// before which nothing is invisible.
func (s *Store) Head(ctx context.Context) (talk.Mark, error) {
	row, err := one[loggedRow](ctx, s, nil, s.headQuery())
	return talk.Mark{Tx: row.Tx, ID: row.ID}, err
}

// EventsAfter lists what comes after a mark, in order. An event that belongs
// to nobody has no Topic, and one that this version cannot read no Fact: they
// are here so that readers can go on after them.
func (s *Store) EventsAfter(ctx context.Context, after talk.Mark, limit int) ([]talk.Logged, error) {
	tx, settled, where := s.order(after)
	rows, err := list[loggedRow](ctx, s, `
		SELECT ? AS tx, e.id, e.topic, e.seq, e.kind, e.payload, e.at, ? AS settled
		FROM events AS e
		WHERE ?
		ORDER BY e.xid, e.id
		LIMIT ?`, bun.Safe(tx), bun.Safe(settled), bun.Safe(where), limit)
	if err != nil {
		return nil, err
	}
	// The floor is read after the rows: what was deleted before they were read is below it.
	history, err := one[historyRow](ctx, s, nil, s.floorQuery())
	if err != nil {
		return nil, err
	}
	if after.Before(history.floor()) {
		return nil, talk.ErrHistoryGone
	}
	events := make([]talk.Logged, len(rows))
	for i := range rows {
		events[i] = talk.Logged{
			Event: rows[i].event(), Mark: talk.Mark{Tx: rows[i].Tx, ID: rows[i].ID}, Settled: rows[i].Settled,
		}
	}
	return events, nil
}

// event lacks its fact where this version does not know it.
func (r *storedEvent) event() talk.Event {
	fact, err := talk.DecodeFact(r.Kind, r.Payload)
	if err != nil {
		fact = nil
	}
	return talk.Event{Topic: r.Topic, Seq: r.Seq, At: r.At.Time, Fact: fact}
}

// TopicEvents lists the events of one topic with a seq above after, in order.
func (s *Store) TopicEvents(ctx context.Context, topic talk.Topic, after int64, limit int) ([]talk.Event, error) {
	rows, err := list[storedEvent](ctx, s, `
		SELECT id, topic, seq, kind, payload, at
		FROM events
		WHERE topic = ?
		  AND topic <> ''
		  AND seq > ?
		ORDER BY seq
		LIMIT ?`, topic, after, limit)
	events := make([]talk.Event, len(rows))
	for i := range rows {
		events[i] = rows[i].event()
	}
	return events, err
}

type topicRow struct {
	ID   string
	Room bool
	Seq  int64
}

// TopicSeqs is the seq of the last event of each topic.
func (s *Store) TopicSeqs(ctx context.Context, topics []talk.Topic) (map[talk.Topic]int64, error) {
	var rooms []talk.RoomID
	var users []talk.UserID
	for _, topic := range topics {
		switch kind, id, _ := strings.Cut(string(topic), ":"); {
		case kind == "room" && valid(talk.RoomID(id)):
			rooms = append(rooms, talk.RoomID(id))
		case kind == "user" && valid(talk.UserID(id)):
			users = append(users, talk.UserID(id))
		}
	}
	var rows []topicRow
	for _, part := range []struct {
		some      bool
		statement string
		ids       any
	}{
		{len(rooms) > 0, "SELECT id, TRUE AS room, seq FROM rooms WHERE id IN (?)", bun.List(rooms)},
		{len(users) > 0, "SELECT id, FALSE AS room, seq FROM users WHERE id IN (?)", bun.List(users)},
	} {
		if !part.some {
			continue
		}
		found, err := list[topicRow](ctx, s, part.statement, part.ids)
		if err != nil {
			return nil, err
		}
		rows = append(rows, found...)
	}
	seqs := make(map[talk.Topic]int64, len(rows))
	for _, row := range rows {
		topic := talk.UserTopic(talk.UserID(row.ID))
		if row.Room {
			topic = talk.RoomTopic(talk.RoomID(row.ID))
		}
		seqs[topic] = row.Seq
	}
	return seqs, nil
}

// LiveRoom returns an open or closed room with its topic's seq, of one moment.
func (s *Store) LiveRoom(ctx context.Context, id talk.RoomID) (talk.LiveRoom, error) {
	if !valid(id) {
		return talk.LiveRoom{}, talk.ErrRoomNotFound
	}
	rows, err := list[viewRow](ctx, s, selectView, id)
	switch {
	case err != nil:
		return talk.LiveRoom{}, err
	case len(rows) == 0:
		return talk.LiveRoom{}, talk.ErrRoomNotFound
	}
	return liveRoom(rows), nil
}

func liveRoom(rows []viewRow) talk.LiveRoom {
	return talk.LiveRoom{RoomView: viewOf(rows), Seq: rows[0].Seq}
}

// liveRow is one seat of the room that somebody sits in, beside that somebody.
type liveRow struct {
	viewRow
	UserSeq int64
}

// LiveUser returns where a living user sits, with both seqs, of one moment.
func (s *Store) LiveUser(ctx context.Context, id talk.UserID) (talk.LiveUser, error) {
	if !valid(id) {
		return talk.LiveUser{}, talk.ErrUserNotFound
	}
	rows, err := list[liveRow](ctx, s, `
		SELECT me.seq AS user_seq, r.*,
			o.username AS owner_username, o.display_name AS owner_display_name, o.avatar_url AS owner_avatar_url,
			p.user_id, u.username, u.display_name, u.avatar_url, p.state, p.state_since, p.joined_at
		FROM users AS me
		LEFT JOIN participants AS mine ON mine.user_id = me.id
		LEFT JOIN rooms AS r ON r.id = mine.room_id
		LEFT JOIN users AS o ON o.id = r.owner_id
		LEFT JOIN participants AS p ON p.room_id = r.id
		LEFT JOIN users AS u ON u.id = p.user_id
		WHERE me.id = ?
		  AND me.deleted_at IS NULL
		ORDER BY p.joined_at, p.user_id`, id)
	switch {
	case err != nil:
		return talk.LiveUser{}, err
	case len(rows) == 0:
		return talk.LiveUser{}, talk.ErrUserNotFound
	}
	user := talk.LiveUser{Seq: rows[0].UserSeq}
	if rows[0].ID != "" {
		seats := make([]viewRow, len(rows))
		for i := range rows {
			seats[i] = rows[i].viewRow
		}
		user.Room = new(liveRoom(seats))
	}
	return user, nil
}

const selectOwned = `
	SELECT r.*,
		o.username AS owner_username, o.display_name AS owner_display_name, o.avatar_url AS owner_avatar_url
	FROM rooms AS r
	JOIN users AS o ON o.id = r.owner_id
	WHERE ?`

// OpenRooms lists every open room.
func (s *Store) OpenRooms(ctx context.Context) ([]talk.Room, error) {
	return s.owned(ctx, "r.closed_at IS NULL")
}

// RoomsByID lists those of ids that exist, open or closed.
func (s *Store) RoomsByID(ctx context.Context, ids []talk.RoomID) ([]talk.Room, error) {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id talk.RoomID) bool { return !valid(id) })
	if len(ids) == 0 {
		return nil, nil
	}
	return s.owned(ctx, s.sql("r.id IN (?)", bun.List(ids)))
}

func (s *Store) owned(ctx context.Context, where string) ([]talk.Room, error) {
	rows, err := list[ownedRow](ctx, s, selectOwned, bun.Safe(where))
	rooms := make([]talk.Room, len(rows))
	for i := range rows {
		rooms[i] = rows[i].room()
	}
	return rooms, err
}

// ForgetEvents deletes what was told before a time, raises the floor to the
// last of it, and returns how many rows.
func (s *Store) ForgetEvents(ctx context.Context, before time.Time) (int, error) {
	var gone []countRow
	err := retry(ctx, func() error {
		gone = nil
		tx, err := s.begin(ctx)
		if err != nil {
			return err
		}
		defer tx.end()
		return tx.commit(ctx, s.forgetting(before, &gone)...)
	})
	if err != nil {
		return 0, fault(ctx, err)
	}
	return gone[0].Count, nil
}

// farthest is an id after that of every event of a transaction.
const farthest = math.MaxInt64

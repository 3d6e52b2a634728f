package db

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"github.com/free2talk/free2talk/server/talk"
)

var _ talk.Nodes = (*Store)(nil)

// How long a node may be silent before it counts as dead, and before its row goes.
const (
	nodeDead      = 10 * time.Second
	nodeForgotten = time.Hour
)

type nodeRow struct {
	ID      string
	SeenAt  stamp
	SweptAt stamp
}

// Renew says that a node lives, and lists the nodes that do, this one included.
// A node that is new begins; one that was swept meanwhile gets ErrNodeSwept,
// and begins again under another name.
func (s *Store) Renew(ctx context.Context, node string, begins bool) ([]string, error) {
	ctx = aside(ctx)
	now, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	if begins {
		_, err = s.write(ctx, "INSERT INTO nodes (id, incarnation, seen_at) VALUES (?, 1, ?)", node, at(now))
	} else {
		var renewed int
		renewed, err = s.write(ctx, "UPDATE nodes SET seen_at = ? WHERE id = ? AND swept_at IS NULL", at(now), node)
		if err == nil && renewed == 0 {
			return nil, talk.ErrNodeSwept
		}
	}
	if err != nil {
		return nil, err
	}
	rows, err := list[nodeRow](ctx, s, `
		SELECT id
		FROM nodes
		WHERE seen_at > ?
		  AND swept_at IS NULL
		ORDER BY id`, at(now.Add(-nodeDead)))
	live := make([]string, len(rows))
	for i := range rows {
		live[i] = rows[i].ID
	}
	return live, err
}

// SweepNodes marks the nodes that have been silent for ten seconds, so that
// they cannot come back under their name, and lists all that are marked: what
// they held is to be taken away, and then [Store.Bury] is to say so.
func (s *Store) SweepNodes(ctx context.Context) ([]talk.DeadNode, error) {
	now, err := s.Now(ctx)
	if err != nil {
		return nil, err
	}
	dead := at(now.Add(-nodeDead))
	rows, err := list[nodeRow](ctx, s, "SELECT id, seen_at FROM nodes WHERE buried_at IS NULL AND (swept_at IS NOT NULL OR seen_at <= ?)", dead)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	if _, err := s.write(ctx, "UPDATE nodes SET swept_at = ? WHERE swept_at IS NULL AND seen_at <= ?", at(now), dead); err != nil {
		return nil, err
	}
	rows, err = list[nodeRow](ctx, s, "SELECT id, seen_at FROM nodes WHERE swept_at IS NOT NULL AND buried_at IS NULL")
	nodes := make([]talk.DeadNode, len(rows))
	for i := range rows {
		nodes[i] = talk.DeadNode{Name: rows[i].ID, SeenAt: rows[i].SeenAt.Time}
	}
	return nodes, err
}

// Bury notes that what a dead node held was taken away. The node is remembered
// for an hour, so that somebody can be told what became of it.
func (s *Store) Bury(ctx context.Context, node string) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	_, err = s.write(ctx, "UPDATE nodes SET buried_at = ? WHERE id = ? AND swept_at IS NOT NULL", at(now), node)
	if err == nil {
		_, err = s.write(ctx, "DELETE FROM nodes WHERE seen_at < ?", at(now.Add(-nodeForgotten)))
	}
	return err
}

// SeenNodes lists the nodes that live and those that died within the hour, by
// id; nodes that left are not among them.
func (s *Store) SeenNodes(ctx context.Context) ([]talk.SeenNode, error) {
	rows, err := list[nodeRow](ctx, s, "SELECT id, seen_at, swept_at FROM nodes ORDER BY id")
	nodes := make([]talk.SeenNode, len(rows))
	for i, row := range rows {
		nodes[i] = talk.SeenNode{Name: row.ID, SeenAt: row.SeenAt.Time, Dead: !row.SweptAt.IsZero()}
	}
	return nodes, err
}

// Retire takes a node that leaves off the list, and those that died long ago.
func (s *Store) Retire(ctx context.Context, node string) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	_, err = s.write(ctx, "DELETE FROM nodes WHERE id = ? OR seen_at < ?", node, at(now.Add(-nodeForgotten)))
	return err
}

type seatedRow struct {
	UserID     talk.UserID
	StateSince stamp
}

// LostSeats lists up to limit people whose seats have been held since before a
// time.
func (s *Store) LostSeats(ctx context.Context, before time.Time, limit int) ([]talk.LostSeat, error) {
	rows, err := list[seatedRow](ctx, s, `
		SELECT user_id, state_since
		FROM participants
		WHERE state = 'reconnecting'
		  AND state_since <= ?
		ORDER BY state_since
		LIMIT ?`, at(before), limit)
	seats := make([]talk.LostSeat, len(rows))
	for i := range rows {
		seats[i] = talk.LostSeat{UserID: rows[i].UserID, Since: rows[i].StateSince.Time}
	}
	return seats, err
}

// SeatedPeople lists, by id and after one, up to limit people who sit somewhere
// and count as connected; of those who never were only who sat down before a
// time.
func (s *Store) SeatedPeople(ctx context.Context, after talk.UserID, unattendedBefore time.Time, limit int) ([]talk.UserID, error) {
	if after == "" {
		after = "00000000-0000-0000-0000-000000000000"
	}
	rows, err := list[seatedRow](ctx, s, `
		SELECT user_id
		FROM participants
		WHERE state = 'connected'
		  AND (attended OR joined_at <= ?)
		  AND user_id > ?
		ORDER BY user_id
		LIMIT ?`, at(unattendedBefore), after, limit)
	users := make([]talk.UserID, len(rows))
	for i := range rows {
		users[i] = rows[i].UserID
	}
	return users, err
}

// SeatedOf returns those of users who sit somewhere.
func (s *Store) SeatedOf(ctx context.Context, users []talk.UserID) ([]talk.UserID, error) {
	if users = known(users); len(users) == 0 {
		return nil, nil
	}
	rows, err := list[seatedRow](ctx, s, "SELECT user_id FROM participants WHERE user_id IN (?)", bun.List(users))
	seated := make([]talk.UserID, len(rows))
	for i := range rows {
		seated[i] = rows[i].UserID
	}
	return seated, err
}

// Attend notes that somebody has sat in their seat with a personal stream open.
func (s *Store) Attend(ctx context.Context, user talk.UserID) error {
	_, err := s.write(ctx, "UPDATE participants SET attended = TRUE WHERE user_id = ? AND NOT attended", user)
	return err
}

type whereRow struct {
	ID         talk.UserID
	Seq        int64
	RoomID     talk.RoomID
	LastSeenAt stamp
}

// Whereabouts returns what is known of those of users who exist.
func (s *Store) Whereabouts(ctx context.Context, users []talk.UserID) ([]talk.Whereabouts, error) {
	if users = known(users); len(users) == 0 {
		return nil, nil
	}
	rows, err := list[whereRow](ctx, s, `
		SELECT u.id, u.seq, p.room_id, u.last_seen_at
		FROM users AS u
		LEFT JOIN participants AS p ON p.user_id = u.id
		WHERE u.id IN (?)
		  AND u.deleted_at IS NULL`, bun.List(users))
	found := make([]talk.Whereabouts, len(rows))
	for i, r := range rows {
		found[i] = talk.Whereabouts{UserID: r.ID, Seq: r.Seq, RoomID: r.RoomID, LastSeenAt: r.LastSeenAt.Time}
	}
	return found, err
}

// Saw notes when people were last there.
func (s *Store) Saw(ctx context.Context, users []talk.UserID, when time.Time) error {
	if users = known(users); len(users) == 0 {
		return nil
	}
	minute := at(when.Truncate(time.Minute))
	_, err := s.write(ctx, `
		UPDATE users
		SET last_seen_at = ?
		WHERE id IN (?)
		  AND (last_seen_at IS NULL OR last_seen_at < ?)`, minute, bun.List(users), minute)
	return err
}

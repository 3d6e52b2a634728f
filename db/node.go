package db

import (
	"context"
	"time"
)

// How long a node may be silent before it counts as dead, and before its row goes.
const (
	nodeDead      = 10 * time.Second
	nodeForgotten = time.Hour
)

// Renew says that a node lives, and counts the nodes that do, this one
// included. Nodes renew themselves every 2.5 s.
func (s *Store) Renew(ctx context.Context, node string) (live int, err error) {
	now, err := s.Now(ctx)
	if err != nil {
		return 0, err
	}
	_, err = s.writer().NewRaw(`
		INSERT INTO nodes (id, incarnation, seen_at)
		VALUES (?, 1, ?)
		ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at`, node, at(now)).Exec(ctx)
	if err != nil {
		return 0, fault(ctx, err)
	}
	rows, err := list[countRow](ctx, s, `
		SELECT count(*) AS count
		FROM nodes
		WHERE seen_at > ?`, at(now.Add(-nodeDead)))
	if err != nil {
		return 0, err
	}
	return rows[0].Count, nil
}

// Retire takes a node that leaves off the list, and those that died long ago.
func (s *Store) Retire(ctx context.Context, node string) error {
	now, err := s.Now(ctx)
	if err != nil {
		return err
	}
	_, err = s.writer().NewRaw(`
		DELETE FROM nodes
		WHERE id = ? OR seen_at < ?`, node, at(now.Add(-nodeForgotten))).Exec(ctx)
	return fault(ctx, err)
}

package db

import (
	"context"

	"github.com/uptrace/bun"

	"github.com/free2talk/free2talk/server/talk"
)

// keyRow is a row of keys.
type keyRow struct {
	bun.BaseModel `bun:"table:keys"`

	ID        string `bun:",pk"`
	Purpose   string
	Sealed    []byte
	CreatedAt stamp
	ActiveAt  stamp
}

// Keys lists all keys, oldest first.
func (s *Store) Keys(ctx context.Context) ([]talk.StoredKey, error) {
	rows, err := list[keyRow](aside(ctx), s, `
		SELECT *
		FROM keys
		ORDER BY created_at, id`)
	var keys []talk.StoredKey
	for _, r := range rows {
		keys = append(keys, talk.StoredKey{
			ID: r.ID, Purpose: r.Purpose, Sealed: r.Sealed, CreatedAt: r.CreatedAt.Time, ActiveAt: r.ActiveAt.Time,
		})
	}
	return keys, err
}

// AddKeys adds keys, under the lock of migrations; where first is true, only
// those of whose purpose there are none yet.
func (s *Store) AddKeys(ctx context.Context, first bool, keys ...talk.StoredKey) error {
	return s.locked(ctx, func(tx transaction) error {
		var there []keyRow
		if err := tx.run(ctx, query{"SELECT DISTINCT purpose FROM keys", &there}); err != nil {
			return err
		}
		taken := map[string]bool{}
		for _, row := range there {
			taken[row.Purpose] = first
		}
		var rows []keyRow
		for _, k := range keys {
			if !taken[k.Purpose] {
				rows = append(rows, keyRow{ID: k.ID, Purpose: k.Purpose, Sealed: k.Sealed, CreatedAt: at(k.CreatedAt), ActiveAt: at(k.ActiveAt)})
			}
		}
		if len(rows) == 0 {
			return nil
		}
		return tx.run(ctx, query{sql: s.DB().NewInsert().Model(&rows).String()})
	})
}

// DropKeys deletes keys by id.
func (s *Store) DropKeys(ctx context.Context, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := s.write(ctx, "DELETE FROM keys WHERE id IN (?)", bun.List(ids))
	return err
}

package db

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// Direction is where to migrate.
type Direction int

// The directions.
const (
	Up     Direction = iota + 1 // apply every migration that is not applied
	Down                        // take the last one back, with what it kept
	Status                      // change nothing
)

// Migration is a step of the schema.
type Migration struct {
	Name      string
	AppliedAt time.Time // zero where it is not
}

//go:embed migrations
var migrationFiles embed.FS

const createMigrations = `
	CREATE TABLE IF NOT EXISTS migrations (
		name       text PRIMARY KEY,
		applied_at text NOT NULL
	)`

type migrationRow struct {
	Name      string
	AppliedAt stamp
}

// Migrate brings the schema there, all or nothing, and lists the migrations as
// they are then. Up makes the history of a restored dump readable as well.
// Processes that start at once wait for each other.
func (s *Store) Migrate(ctx context.Context, where Direction) ([]Migration, error) {
	names, err := s.migrationNames()
	if err != nil {
		return nil, err
	}
	var now []Migration
	err = s.locked(ctx, func(tx transaction) error {
		var rows []migrationRow
		err := tx.run(ctx, query{sql: createMigrations}, query{"SELECT name, applied_at FROM migrations ORDER BY name", &rows})
		if err != nil {
			return err
		}
		now, err = s.migrate(ctx, tx, where, merge(names, rows))
		return err
	})
	return now, err
}

// locked runs do in a transaction that is alone with its kind, and commits.
func (s *Store) locked(ctx context.Context, do func(transaction) error) error {
	err := retry(ctx, func() error {
		tx, err := s.begin(ctx)
		if err != nil {
			return err
		}
		defer tx.end()
		if err := tx.run(ctx, s.alone()...); err != nil {
			return err
		}
		if err := do(tx); err != nil {
			return err
		}
		return tx.commit(ctx)
	})
	return fault(ctx, err)
}

func merge(names []string, rows []migrationRow) []Migration {
	list := make([]Migration, len(names))
	for i, name := range names {
		list[i].Name = name
		for _, row := range rows {
			if row.Name == name {
				list[i].AppliedAt = row.AppliedAt.Time
			}
		}
	}
	return list
}

func (s *Store) migrate(ctx context.Context, tx transaction, where Direction, list []Migration) ([]Migration, error) {
	switch where {
	case Up:
		for i := range list {
			if !list[i].AppliedAt.IsZero() {
				continue
			}
			list[i].AppliedAt = time.Now().UTC().Truncate(time.Microsecond)
			note := s.sql("INSERT INTO migrations (name, applied_at) VALUES (?, ?)", list[i].Name, at(list[i].AppliedAt))
			if err := s.apply(ctx, tx, list[i].Name+".up.sql", note); err != nil {
				return nil, err
			}
		}
		return list, tx.run(ctx, s.renumbering()...)
	case Down:
		for i := len(list) - 1; i >= 0; i-- {
			if list[i].AppliedAt.IsZero() {
				continue
			}
			list[i].AppliedAt = time.Time{}
			return list, s.apply(ctx, tx, list[i].Name+".down.sql", s.sql("DELETE FROM migrations WHERE name = ?", list[i].Name))
		}
	case Status:
	}
	return list, nil
}

func (s *Store) apply(ctx context.Context, tx transaction, file, note string) error {
	script, err := migrationFiles.ReadFile(path.Join(s.migrations(), file))
	if err != nil {
		return err
	}
	if err := tx.run(ctx, query{sql: string(script)}, query{sql: note}); err != nil {
		return fmt.Errorf("migration %s: %w", file, err)
	}
	return nil
}

func (s *Store) migrationNames() ([]string, error) {
	files, err := fs.Glob(migrationFiles, s.migrations()+"/*.up.sql")
	for i, file := range files {
		files[i] = strings.TrimSuffix(path.Base(file), ".up.sql")
	}
	slices.Sort(files)
	return files, err
}

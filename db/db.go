package db

import (
	"cmp"
	"context"
	"errors"
	"path"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/free2talk/free2talk/server/talk"
)

// Config says which database to open, and how. The zero value of every field
// but URL is usable.
type Config struct {
	// URL is postgres://…, sqlite:PATH, sqlite://PATH, or the path of a SQLite file.
	URL string
	// MaxConns bounds the connections of this process, and is two at least. Zero
	// means 20. SQLite has one more, which writes.
	MaxConns int
	// Now tells the time of changes. Nil means the database's own clock, which
	// is what more than one node needs.
	Now talk.Clock
	// StatementTimeout ends a statement that nobody waits for any longer. Zero means 30 s.
	StatementTimeout time.Duration
	// LockTimeout ends the wait for a lock. Zero means 10 s.
	LockTimeout time.Duration
	// IdleTimeout ends a transaction whose process says nothing, and with it
	// the locks of a node that froze. Zero means 5 s.
	IdleTimeout time.Duration
}

func (c Config) withDefaults() Config {
	c.MaxConns = max(cmp.Or(c.MaxConns, 20), 2)
	c.StatementTimeout = cmp.Or(c.StatementTimeout, 30*time.Second)
	c.LockTimeout = cmp.Or(c.LockTimeout, 10*time.Second)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 5*time.Second)
	return c
}

// Store is the database: a [talk.Store], and what the process needs around it.
type Store struct {
	dialect
	clock   talk.Clock // nil: the database's
	gates   gates
	turns   *turns // of calls at the connections
	conns   int
	lineage *lineage
}

var _ talk.Store = (*Store)(nil)

// Open connects to the database that config names. It does not wait for a
// server that is away: the first query says ErrDatabaseUnavailable.
func Open(ctx context.Context, config Config) (*Store, error) {
	config = config.withDefaults()
	s := &Store{clock: config.Now, turns: &turns{}, conns: config.MaxConns, lineage: newLineage()} // SQLite's one writer is waited for
	var err error
	if isPostgres(config.URL) {
		s.turns = newTurns(share(config.MaxConns))
		s.dialect, err = openPostgres(config, s.turns, s.lineage)
	} else {
		s.dialect, err = openSQLite(ctx, config)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func isPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

// Conns is how many connections this process has at most.
func (s *Store) Conns() int { return s.conns }

// Kind is "postgres" or "sqlite".
func (s *Store) Kind() string { return path.Base(s.dialect.migrations()) }

// Close ends every connection.
func (s *Store) Close() error {
	var failed error
	for _, pool := range s.pools() {
		failed = errors.Join(failed, pool.Close())
	}
	return failed
}

// DB is where Bun's hooks are put, and queries that belong to nobody. On
// SQLite it is the one connection that writes.
func (s *Store) DB() *bun.DB { return s.pools()[0] }

// AddQueryHook watches the queries of every pool of this store.
func (s *Store) AddQueryHook(hook bun.QueryHook) {
	for _, pool := range s.pools() {
		pool.AddQueryHook(hook) //nolint:staticcheck // its successor returns a copy, and the pools are shared
	}
}

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	_, err := s.Now(ctx)
	return err
}

// Now is the database's clock, or the one of [Config.Now].
func (s *Store) Now(ctx context.Context) (time.Time, error) {
	if s.clock != nil {
		return s.clock(), nil
	}
	rows, err := list[clockRow](aside(ctx), s, s.clockQuery())
	if err != nil {
		return time.Time{}, err
	}
	return rows[0].Now.Time, nil
}

type clockRow struct {
	Now stamp
}

// query is one statement, with its arguments already in it.
type query struct {
	sql  string
	into any // a pointer to a slice of models, or nil
}

// sql puts the arguments into a statement, as Bun writes them.
func (s *Store) sql(statement string, args ...any) string {
	return s.DB().QueryGen().FormatQuery(statement, args...)
}

// list reads rows outside of any transaction.
func list[T any](ctx context.Context, s *Store, statement string, args ...any) ([]T, error) {
	give, err := s.turns.take(ctx)
	if err != nil {
		return nil, err
	}
	defer give()
	var rows []T
	err = s.reader(ctx).NewRaw(statement, args...).Scan(ctx, &rows)
	return rows, fault(ctx, err)
}

// one reads the only row of a statement, or returns missing.
func one[T any](ctx context.Context, s *Store, missing error, statement string, args ...any) (T, error) {
	rows, err := list[T](ctx, s, statement, args...)
	switch {
	case err != nil:
		return *new(T), err
	case len(rows) == 0:
		return *new(T), missing
	}
	return rows[0], nil
}

// write runs one statement that changes something, and says how many rows.
func (s *Store) write(ctx context.Context, statement string, args ...any) (int, error) {
	var changed int64
	err := retry(ctx, func() error {
		give, err := s.turns.take(ctx)
		if err != nil {
			return err
		}
		defer give()
		result, err := s.writer(ctx).NewRaw(statement, args...).Exec(ctx)
		if err == nil {
			changed, err = result.RowsAffected()
		}
		return err
	})
	return int(changed), fault(ctx, err)
}

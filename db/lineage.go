package db

import (
	"context"
	"errors"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"
)

// lineageQuery names a cluster and its timeline. The latter is asked of the log that is
// written now: the last checkpoint, which knows it too, may be from before a
// promotion for minutes. A standby has no answer.
const lineageQuery = `SELECT s.system_identifier || '/' || ` + timeline + ` AS id
	FROM pg_control_system() AS s`

const timeline = "CAST(CAST('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8) AS bit(32)) AS integer)"

var errReplaced = errors.New("the server has another history than when this process began")

// lineage is the server history that all connections of a store belong to: that
// of the first. A server that took another's place may lack what this
// process has seen; so it is not read, and nothing is written there that
// was decided before. For the same reason a standby is not: once it is promoted its
// connections would lead to another history.
type lineage struct {
	mu       sync.Mutex
	id       string        // "" before the first connection
	replaced chan struct{} // closed when a connection has led elsewhere
	left     bool          // it is closed
}

func newLineage() *lineage { return &lineage{replaced: make(chan struct{})} }

// admit refuses a connection that leads to another history.
func (l *lineage) admit(ctx context.Context, conn *pgconn.PgConn) error {
	results, err := conn.Exec(ctx, lineageQuery).ReadAll()
	if err != nil {
		return err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return errors.New("the server does not say which it is")
	}
	return l.belongs(string(results[0].Rows[0][0]))
}

func (l *lineage) belongs(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == "" {
		l.id = id
	}
	if l.id == id {
		return nil
	}
	if !l.left {
		l.left = true
		close(l.replaced)
	}
	return errReplaced
}

// Replaced is closed once the server of this store turned out to have another
// history than at the first connection, as after a failover. From then on
// every call says ErrDatabaseUnavailable: another store is to be opened, by
// somebody who begins anew. It is never closed for SQLite.
func (s *Store) Replaced() <-chan struct{} { return s.lineage.replaced }

package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"reflect"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"github.com/uptrace/bun/schema"
	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/free2talk/free2talk/server/talk"
)

// dialect is everything in which the two databases differ.
type dialect interface {
	// pools are all there are. The first one writes.
	pools() []*bun.DB
	// reader and writer are the pools for a statement of ctx's.
	reader(ctx context.Context) *bun.DB
	writer(ctx context.Context) *bun.DB
	// migrations is the directory of this database's migrations.
	migrations() string
	// begin opens a transaction at its first queries.
	begin(ctx context.Context) (transaction, error)
	// locking ends a SELECT whose rows are to be locked.
	locking() string
	// clockQuery selects the time as now.
	clockQuery() string
	// pendingQuery selects as now when the oldest change began that may still commit.
	pendingQuery() string
	// typed is a text literal where the database would not guess its type.
	typed(text, kind string) schema.QueryAppender
	// order is how events are ordered: the transaction's column, whether a row is
	// settled, and what comes after a mark.
	order(after talk.Mark) (tx, settled, where string)
	// headQuery selects the tx and id that [Store.Head] returns.
	headQuery() string
	// historyQuery selects the history's id, floorQuery its floor.
	historyQuery() string
	floorQuery() string
	// forgetting deletes events and raises the floor, and counts into gone.
	forgetting(before time.Time, gone *[]countRow) []query
	// renumbering gives numbers of this cluster to events that came here in a dump.
	renumbering() []query
	// alone makes a transaction the only one that migrates.
	alone() []query
	// chaining makes a transaction the only one that adds to the audit log.
	chaining() []query
	// hexed is a column of bytes in hexadecimal.
	hexed(column string) string
}

// transaction is a few batches of queries, all or nothing.
type transaction interface {
	// run sends a batch, and returns once all of its answers are read.
	run(ctx context.Context, batch ...query) error
	// commit sends the last batch and commits.
	commit(ctx context.Context, batch ...query) error
	// end gives the connection back, and rolls back what is not committed. It
	// does not wait for the caller's context.
	end()
}

// endIn bounds a rollback: after that the connection is thrown away.
const endIn = time.Second

// --- Postgres ---

type postgresDialect struct {
	db     *bun.DB // of calls
	beside *bun.DB // of what goes on aside
	timing *timing // of batches, which Bun's hooks do not see; nil: nobody measures
}

func openPostgres(config Config, turns *turns, lineage *lineage) (dialect, error) {
	conn, err := pgx.ParseConfig(config.URL)
	if err != nil {
		return nil, errors.New("database url: not a Postgres URL") // the cause would show it, password and all
	}
	// Bun writes arguments into the SQL: a cache of statements would only miss.
	conn.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	if conn.ConnectTimeout == 0 {
		conn.ConnectTimeout = 5 * time.Second
	}
	maps.Copy(conn.RuntimeParams, map[string]string{
		"application_name":                    "free2talk",
		"timezone":                            "UTC",
		"datestyle":                           "ISO",
		"statement_timeout":                   millis(config.StatementTimeout),
		"lock_timeout":                        millis(config.LockTimeout),
		"idle_in_transaction_session_timeout": millis(config.IdleTimeout),
	})
	conn.AfterConnect = lineage.admit
	calls := share(config.MaxConns)
	ofCalls := conn.Copy()
	ofCalls.DialFunc = hearing(conn.DialFunc, turns.move)
	return &postgresDialect{
		db:     openPostgresPool(ofCalls, calls),
		beside: openPostgresPool(conn, config.MaxConns-calls),
	}, nil
}

func openPostgresPool(conn *pgx.ConnConfig, conns int) *bun.DB {
	pool := stdlib.OpenDB(*conn)
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	return bun.NewDB(pool, pgdialect.New(), bun.WithDiscardUnknownColumns())
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

func (p *postgresDialect) reader(ctx context.Context) *bun.DB { return p.writer(ctx) }
func (p *postgresDialect) pools() []*bun.DB                   { return []*bun.DB{p.db, p.beside} }
func (p *postgresDialect) migrations() string                 { return "migrations/postgres" }
func (p *postgresDialect) locking() string                    { return "FOR NO KEY UPDATE" }

func (p *postgresDialect) writer(ctx context.Context) *bun.DB {
	if isAside(ctx) {
		return p.beside
	}
	return p.db
}

// The transaction's own now() is older than its locks.
func (p *postgresDialect) clockQuery() string { return "SELECT clock_timestamp() AS now" }

// Who only reads has no transaction id.
func (p *postgresDialect) pendingQuery() string {
	return `SELECT min(xact_start) AS now
		FROM pg_stat_activity
		WHERE datname = current_database()
		  AND backend_type = 'client backend'
		  AND backend_xid IS NOT NULL`
}

func (p *postgresDialect) typed(text, kind string) schema.QueryAppender {
	return bun.SafeQuery("CAST(? AS ?)", text, bun.Safe(kind))
}

// An xid8 has no arithmetic, but its text is a number.
func (p *postgresDialect) order(after talk.Mark) (tx, settled, where string) {
	return "CAST(CAST(e.xid AS text) AS bigint)", "e.xid < pg_snapshot_xmin(pg_current_snapshot())",
		fmt.Sprintf("(e.xid, e.id) > (CAST('%d' AS xid8), %d)", after.Tx, after.ID)
}

func (p *postgresDialect) headQuery() string {
	return fmt.Sprintf("SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) - 1 AS tx, %d AS id", int64(farthest))
}

func (p *postgresDialect) historyQuery() string {
	return "SELECT h.id || '/' || s.id AS id FROM history AS h, (" + lineageQuery + ") AS s"
}

func (p *postgresDialect) floorQuery() string {
	return "SELECT CAST(CAST(floor_tx AS text) AS bigint) AS floor_tx, floor_id FROM history"
}

func (p *postgresDialect) forgetting(before time.Time, gone *[]countRow) []query {
	return []query{{p.db.QueryGen().FormatQuery(`
		WITH gone AS (
			DELETE FROM events
			WHERE published
			  AND at < ?
			  AND xid < pg_snapshot_xmin(pg_current_snapshot()) -- or who begins at the head began below the floor
			RETURNING xid, id
		), raised AS (
			UPDATE history
			SET floor_tx = last.xid, floor_id = last.id
			FROM (SELECT xid, id FROM gone ORDER BY xid DESC, id DESC LIMIT 1) AS last
			WHERE (last.xid, last.id) > (floor_tx, floor_id)
		)
		SELECT count(*) AS count FROM gone`, at(before)), gone}}
}

// A cluster's own events and floor are behind the next transaction id, always:
// what is not was numbered by another one, and would be unsettled, and out of
// reach of the head, until this one has counted as far.
func (p *postgresDialect) renumbering() []query {
	return []query{
		{sql: `
			UPDATE events
			SET xid = pg_current_xact_id()
			WHERE EXISTS (SELECT FROM events WHERE xid >= pg_snapshot_xmax(pg_current_snapshot()))`},
		{sql: `
			UPDATE history
			SET floor_tx = '0', floor_id = 0
			WHERE floor_tx >= pg_snapshot_xmax(pg_current_snapshot())`},
	}
}

// The number is this project's among advisory locks, and means nothing else.
func (p *postgresDialect) alone() []query {
	return []query{
		{sql: "SET LOCAL statement_timeout = 0"},
		{sql: "SET LOCAL lock_timeout = 0"},
		{sql: "SELECT pg_advisory_xact_lock(4602678)"},
		{sql: "SET LOCAL lock_timeout = '5s'"},
	}
}

// Likewise. The lock is the last that a change takes, and is held for one trip.
func (p *postgresDialect) chaining() []query {
	return []query{{sql: "SELECT pg_advisory_xact_lock(4602679)"}}
}

func (p *postgresDialect) hexed(column string) string { return "encode(" + column + ", 'hex')" }

func (p *postgresDialect) begin(ctx context.Context) (transaction, error) {
	conn, err := p.db.DB.Conn(ctx)
	if err != nil {
		return nil, err
	}
	return &pgTransaction{db: p.db, conn: conn, timing: p.timing}, nil
}

type pgTransaction struct {
	db     *bun.DB
	conn   *sql.Conn
	begun  bool
	timing *timing
}

func (t *pgTransaction) run(ctx context.Context, batch ...query) error {
	if !t.begun {
		t.begun = true
		batch = append([]query{{sql: "BEGIN ISOLATION LEVEL READ COMMITTED"}}, batch...)
	}
	return t.raw(func(conn *pgconn.PgConn) error { return t.send(ctx, conn, batch) })
}

func (t *pgTransaction) commit(ctx context.Context, batch ...query) error {
	return t.run(ctx, append(batch, query{sql: "COMMIT"})...)
}

func (t *pgTransaction) end() {
	_ = t.raw(func(conn *pgconn.PgConn) error {
		if conn.IsClosed() || conn.TxStatus() == 'I' {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), endIn)
		defer cancel()
		return t.send(ctx, conn, []query{{sql: "ROLLBACK"}}) // where it fails, pgx has closed the connection
	})
	_ = t.conn.Close()
}

func (t *pgTransaction) raw(do func(*pgconn.PgConn) error) error {
	return t.conn.Raw(func(driver any) error { return do(driver.(*stdlib.Conn).Conn().PgConn()) })
}

// send puts a batch into one message: one trip, whatever is in it. Each
// statement sees what was committed before it began, as if sent alone.
func (t *pgTransaction) send(ctx context.Context, conn *pgconn.PgConn, batch []query) error {
	statements := make([]string, len(batch))
	for i, q := range batch {
		statements[i] = q.sql
	}
	ctx, done := traceBatch(ctx, statements)
	defer t.timing.batch(ctx, time.Now())
	answers := conn.Exec(ctx, strings.Join(statements, ";\n"))
	var err error
	for i := 0; err == nil && answers.NextResult(); i++ {
		if i < len(batch) && batch[i].into != nil {
			err = t.scan(answers.ResultReader(), batch[i].into)
		} else {
			_, err = answers.ResultReader().Close()
		}
	}
	if closed := answers.Close(); closed != nil {
		err = closed
	}
	done(err)
	return err
}

// scan reads an answer into models, by Bun's own scanners.
func (t *pgTransaction) scan(answer *pgconn.ResultReader, into any) error {
	rows := reflect.ValueOf(into).Elem()
	table := t.db.Table(rows.Type().Elem())
	columns := answer.FieldDescriptions()
	for answer.NextRow() {
		row := reflect.New(rows.Type().Elem()).Elem()
		for i, value := range answer.Values() {
			field := table.LookupField(columns[i].Name)
			if field == nil || value == nil {
				continue
			}
			if err := field.ScanValue(row, pgText(columns[i].DataTypeOID, value)); err != nil {
				return fmt.Errorf("column %s: %w", columns[i].Name, err)
			}
		}
		rows.Set(reflect.Append(rows, row))
	}
	_, err := answer.Close()
	return err
}

// pgText is a value in Postgres's text format as the scanners want it.
func pgText(oid uint32, value []byte) any {
	if oid == pgtype.BoolOID {
		return value[0] == 't'
	}
	return string(value)
}

// --- SQLite ---

type sqliteDialect struct{ read, write *bun.DB }

// What facts.md found to behave. One connection writes, so nothing ever waits
// for a lock inside SQLite unless another process has the file open.
const sqlitePragmas = "_pragma=journal_mode(WAL)&_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)&_pragma=synchronous(NORMAL)"

func openSQLite(ctx context.Context, config Config) (dialect, error) {
	path := strings.TrimPrefix(strings.TrimPrefix(config.URL, "sqlite:"), "//")
	if path == "" {
		return nil, fmt.Errorf("database url: empty")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("database url: %w", err)
	}
	file := (&url.URL{Scheme: "file", Path: path}).String() + "?" + sqlitePragmas
	write, err := openSQLitePool(file+"&_txlock=immediate", 1)
	if err != nil {
		return nil, err
	}
	if err := write.PingContext(ctx); err != nil { // makes the file, before anybody reads it
		return nil, fmt.Errorf("database file: %w", err)
	}
	read, err := openSQLitePool(file+"&_pragma=query_only(1)", min(config.MaxConns, max(4, runtime.NumCPU())))
	return &sqliteDialect{read: read, write: write}, err
}

func openSQLitePool(dsn string, conns int) (*bun.DB, error) {
	pool, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, fmt.Errorf("database file: %w", err)
	}
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	return bun.NewDB(pool, sqlitedialect.New(), bun.WithDiscardUnknownColumns()), nil
}

func (l *sqliteDialect) pools() []*bun.DB               { return []*bun.DB{l.write, l.read} }
func (l *sqliteDialect) reader(context.Context) *bun.DB { return l.read }
func (l *sqliteDialect) writer(context.Context) *bun.DB { return l.write }
func (l *sqliteDialect) migrations() string             { return "migrations/sqlite" }
func (l *sqliteDialect) locking() string                { return "" } // the one writer has everything locked
func (l *sqliteDialect) alone() []query                 { return nil }
func (l *sqliteDialect) chaining() []query              { return nil } // likewise
func (l *sqliteDialect) renumbering() []query           { return nil } // ids are in the file

func (l *sqliteDialect) hexed(column string) string { return "hex(" + column + ")" }

// The database is in this process, and its clock is the process's, which has
// microseconds where SQLite's own has milliseconds.
func (l *sqliteDialect) clockQuery() string {
	return "SELECT '" + time.Now().UTC().Format(stampLayout) + "' AS now"
}

// There is one node, and it knows what it did.
func (l *sqliteDialect) pendingQuery() string { return "SELECT NULL AS now" }

// One writer: ids are in the order of commits, and what is seen is settled.
func (l *sqliteDialect) order(after talk.Mark) (tx, settled, where string) {
	return "0", "TRUE", fmt.Sprintf("e.id > %d", after.ID)
}

func (l *sqliteDialect) headQuery() string {
	return "SELECT 0 AS tx, max(floor_id, COALESCE((SELECT max(id) FROM events), 0)) AS id FROM history"
}

func (l *sqliteDialect) historyQuery() string { return "SELECT id FROM history" }
func (l *sqliteDialect) floorQuery() string   { return "SELECT floor_tx, floor_id FROM history" }

func (l *sqliteDialect) forgetting(before time.Time, gone *[]countRow) []query {
	sql := func(statement string) string { return l.write.QueryGen().FormatQuery(statement, at(before)) }
	return []query{
		{sql("SELECT count(*) AS count FROM events WHERE published AND at < ?"), gone},
		{sql(`UPDATE history SET floor_id = max(floor_id, COALESCE((
			SELECT max(id) FROM events WHERE published AND at < ?), 0))`), nil},
		{sql("DELETE FROM events WHERE published AND at < ?"), nil},
	}
}

func (l *sqliteDialect) typed(text, _ string) schema.QueryAppender { return bun.SafeQuery("?", text) }

func (l *sqliteDialect) begin(ctx context.Context) (transaction, error) {
	conn, err := l.write.Conn(ctx)
	if err != nil {
		return nil, err
	}
	tx := &sqliteTransaction{db: l.write, conn: conn, open: true}
	if _, err := conn.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		tx.end() // where ctx ended, the driver says so even if the statement ran
		return nil, err
	}
	return tx, nil
}

type sqliteTransaction struct {
	db   *bun.DB
	conn bun.Conn
	open bool
}

func (t *sqliteTransaction) run(ctx context.Context, batch ...query) error {
	for _, q := range batch {
		var err error
		if q.into == nil {
			_, err = t.db.NewRaw("?", bun.Safe(q.sql)).Conn(t.conn).Exec(ctx)
		} else {
			err = t.db.NewRaw("?", bun.Safe(q.sql)).Conn(t.conn).Scan(ctx, q.into)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *sqliteTransaction) commit(ctx context.Context, batch ...query) error {
	if err := t.run(ctx, append(batch, query{sql: "COMMIT"})...); err != nil {
		return err
	}
	t.open = false
	return nil
}

// end rolls back by hand: a COMMIT that a deferred constraint refused leaves
// the transaction open. A ROLLBACK waits for no lock, and must not be given up.
func (t *sqliteTransaction) end() {
	if t.open {
		_, _ = t.conn.ExecContext(context.Background(), "ROLLBACK")
	}
	_ = t.conn.Close()
}

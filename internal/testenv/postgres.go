package testenv

import (
	"context"
	"fmt"
	"net/url"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/free2talk/free2talk/internal/testenv/service"
)

// Postgres returns the DSN of an empty database in the shared Postgres. It is
// this test's alone and dropped at its end, with the connections that are
// still open. Its owner is an ordinary role.
//
// A database takes some 70 ms where a schema would take one, and is worth it:
// advisory locks, pg_stat_activity and NOTIFY are apart as well, so that a
// test of migrations or of killed connections disturbs no other.
func Postgres(t testing.TB) string {
	t.Helper()
	return newDatabase(t, shared(t, envPostgres))
}

// newDatabase creates a database on the server that admin reaches, and drops
// it at the end of the test.
func newDatabase(t testing.TB, admin string) string {
	t.Helper()

	server, err := url.Parse(admin)
	if err != nil {
		t.Fatalf("address of postgres: %v", err)
	}

	name := unique(t)

	err = execute(t.Context(), admin, "CREATE DATABASE "+name+" OWNER "+service.Role)
	if err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() {
		check(t, execute(context.Background(), admin, "DROP DATABASE "+name+" WITH (FORCE)"))
	})
	return service.DSN(server.Host, service.Role, name)
}

// execute runs one statement on a connection of its own.
func execute(ctx context.Context, dsn, statement string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to postgres: %w", err)
	}
	defer conn.Close(ctx)

	_, err = conn.Exec(ctx, statement)
	if err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// PostgresServer is a Postgres of one test. Its methods may be called from
// any goroutine; where one fails, the test does.
type PostgresServer struct {
	t        testing.TB
	postgres *service.Postgres
	dsn      string
}

// StartPostgres starts a Postgres for this test alone, which takes a second
// or two. It ends with the test.
func StartPostgres(t testing.TB) *PostgresServer {
	t.Helper()

	server, err := service.StartPostgres(t.Context())
	if err != nil {
		t.Fatalf("start postgres: %v", err)
	}

	t.Cleanup(func() { check(t, server.Close()) })

	name := unique(t)

	err = execute(t.Context(), server.AdminDSN(), "CREATE DATABASE "+name+" OWNER "+service.Role)
	if err != nil {
		t.Fatalf("create database: %v", err)
	}
	return &PostgresServer{t: t, postgres: server, dsn: service.DSN(server.Addr(), service.Role, name)}
}

// Addr is the server's host:port.
func (s *PostgresServer) Addr() string { return s.postgres.Addr() }

// DSN reaches an empty database, as the ordinary role that owns it.
func (s *PostgresServer) DSN() string { return s.dsn }

// URL is the same as DSN.
func (s *PostgresServer) URL() string { return s.dsn }

// AdminDSN reaches the database postgres as superuser.
func (s *PostgresServer) AdminDSN() string { return s.postgres.AdminDSN() }

// Stop freezes the server with all its processes: connections stay open and
// nothing is answered.
func (s *PostgresServer) Stop() {
	s.t.Helper()
	check(s.t, s.postgres.Stop())
}

// Cont lets a frozen server go on.
func (s *PostgresServer) Cont() {
	s.t.Helper()
	check(s.t, s.postgres.Cont())
}

// Kill ends the server as a crash of its machine would, and returns when all
// its processes are gone.
func (s *PostgresServer) Kill() {
	s.t.Helper()
	check(s.t, s.postgres.Kill())
}

// Restart starts the server again on the same port, killing it first where
// it still runs, and returns when it has recovered. Everything that was
// committed is there.
func (s *PostgresServer) Restart() {
	s.t.Helper()
	check(s.t, s.postgres.Restart(context.WithoutCancel(s.t.Context())))
}

// Standby starts a second server that follows this one, and returns when it
// has everything. It ends with the test. Until it is promoted it only reads.
func (s *PostgresServer) Standby() *PostgresServer {
	s.t.Helper()

	standby, err := s.postgres.Standby(s.t.Context())
	if err != nil {
		s.t.Fatalf("start standby: %v", err)
	}

	s.t.Cleanup(func() { check(s.t, standby.Close()) })

	dsn, err := url.Parse(s.dsn)
	if err != nil {
		s.t.Fatalf("address of postgres: %v", err)
	}
	return &PostgresServer{t: s.t, postgres: standby, dsn: service.DSN(standby.Addr(), service.Role, dsn.Path[1:])}
}

// Detach has a standby follow its primary until now, and no further: what is
// committed there from now on is not here.
func (s *PostgresServer) Detach(primary *PostgresServer) {
	s.t.Helper()
	check(s.t, s.postgres.CaughtUp(s.t.Context(), primary.postgres))
	check(s.t, s.postgres.Detach(s.t.Context()))
}

// Promote makes a standby a primary, and returns when it takes writes.
func (s *PostgresServer) Promote() {
	s.t.Helper()
	check(s.t, s.postgres.Promote(s.t.Context()))
}

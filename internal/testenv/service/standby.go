package service

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/jackc/pgx/v5"
)

// Standby starts a server that follows p by streaming, from a copy of p as it
// is now. Transactions do not wait for it.
func (p *Postgres) Standby(ctx context.Context) (*Postgres, error) {
	return again(func() (*Postgres, error) { return p.standby(ctx) })
}

func (p *Postgres) standby(ctx context.Context) (*Postgres, error) {
	s := &Postgres{process: process{name: "postgres", dies: syscall.SIGQUIT}}

	err := s.prepare(func() error { return s.copyOf(ctx, p) })
	if err == nil {
		err = s.begin(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// copyOf fills the data directory with a copy that knows whom it follows.
func (p *Postgres) copyOf(ctx context.Context, primary *Postgres) error {
	program, err := find("pg_basebackup")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, "-d", primary.AdminDSN(), "-D", p.data,
		"--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--no-sync")
	cmd.Dir = p.dir
	cmd.Env = cleanEnv()
	cmd.SysProcAttr = Attributes(p.cred, 0)

	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(program), err, out)
	}
	return nil
}

// CaughtUp waits until a standby has everything that its primary has now.
func (p *Postgres) CaughtUp(ctx context.Context, primary *Postgres) error {
	var at string
	err := primary.ask(ctx, "SELECT pg_current_wal_lsn()::text", &at)
	if err != nil {
		return err
	}
	return p.until(ctx, "has caught up", "SELECT pg_last_wal_replay_lsn() >= '"+at+"'::pg_lsn")
}

// Detach has a standby hear no more of its primary: what is committed there
// from now on is not here.
func (p *Postgres) Detach(ctx context.Context) error {
	for _, statement := range []string{"ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"} {
		err := p.ask(ctx, statement)
		if err != nil {
			return err
		}
	}
	return p.until(ctx, "is detached", "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)")
}

// Promote makes a standby a primary, and returns when it takes writes.
func (p *Postgres) Promote(ctx context.Context) error {
	err := p.ask(ctx, "SELECT pg_promote()")
	if err != nil {
		return err
	}
	return p.until(ctx, "is promoted", "SELECT NOT pg_is_in_recovery()")
}

// until polls a question until its answer is yes.
func (p *Postgres) until(ctx context.Context, what, question string) error {
	return p.ready(ctx, func(ctx context.Context) error {
		var yes bool
		err := p.ask(ctx, question, &yes)
		if err == nil && !yes {
			err = fmt.Errorf("not yet: it %s", what)
		}
		return err
	})
}

// ask runs a statement as superuser and reads the only row of its answer.
func (p *Postgres) ask(ctx context.Context, statement string, into ...any) error {
	conn, err := pgx.Connect(ctx, p.AdminDSN())
	if err != nil {
		return fmt.Errorf("connect to postgres: %w", err)
	}
	defer conn.Close(ctx)

	if len(into) == 0 {
		_, err = conn.Exec(ctx, statement)
	} else {
		err = conn.QueryRow(ctx, statement).Scan(into...)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

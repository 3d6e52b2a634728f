package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/server/talk"
)

// configError is a configuration that cannot be run.
type configError struct{ faults error }

// Error lists the faults, one a line.
func (e configError) Error() string { return "the configuration is wrong:\n" + e.faults.Error() }

func exitCode(err error) int {
	if errors.As(err, new(configError)) {
		return 2
	}
	return 1
}

type migrateCmd struct {
	Up     migrateUp     `cmd:"" help:"Apply what is missing. Nodes do this at start."`
	Down   migrateDown   `cmd:"" help:"Take back the last group that was applied."`
	Status migrateStatus `cmd:"" help:"List what is applied and what is missing."`
}

type (
	migrateUp     struct{}
	migrateDown   struct{}
	migrateStatus struct{}
)

// Run applies what is missing.
func (migrateUp) Run(ctx context.Context, c *Config) error { return migrate(ctx, c, db.Up) }

// Run takes back the last group.
func (migrateDown) Run(ctx context.Context, c *Config) error { return migrate(ctx, c, db.Down) }

// Run lists the migrations.
func (migrateStatus) Run(ctx context.Context, c *Config) error { return migrate(ctx, c, db.Status) }

func migrate(ctx context.Context, c *Config, where db.Direction) error {
	return withStore(ctx, c, func(store *db.Store, _ Settings) error {
		migrations, err := store.Migrate(ctx, where)
		for _, m := range migrations {
			state := "missing"
			if !m.AppliedAt.IsZero() {
				state = "applied " + m.AppliedAt.Format(time.RFC3339)
			}
			fmt.Printf("%-40s %s\n", m.Name, state)
		}
		return err
	})
}

// withStore opens the database that the configuration names, for one command.
func withStore(ctx context.Context, c *Config, do func(*db.Store, Settings) error) (err error) {
	settings, err := c.offline()
	if err != nil {
		return err
	}
	store, err := db.Open(ctx, db.Config{URL: settings.DatabaseURL})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return do(store, settings)
}

type userCmd struct {
	Promote promoteCmd `cmd:"" help:"Make an account an administrator."`
}

type promoteCmd struct {
	Name string `arg:"" help:"The username."`
}

// Run promotes. Running nodes hear of it through the outbox within half a second.
func (p promoteCmd) Run(ctx context.Context, c *Config) error {
	return withStore(ctx, c, func(store *db.Store, settings Settings) error {
		log := newLogger(os.Stderr, settings)
		accounts := &talk.Accounts{
			Store: store, Log: log, Clock: now,
			Outbox: talk.NewOutbox(store, noCache{}, now, log),
		}
		promoted, err := accounts.Promote(ctx, p.Name, operator())
		if errors.Is(err, talk.ErrUserNotFound) {
			return fmt.Errorf("there is no user %q", p.Name)
		}
		if err != nil {
			return err
		}
		fmt.Printf("%s is an administrator now\n", promoted.Username)
		return nil
	})
}

// operator is who sits at this shell, for the log.
func operator() string {
	if who, err := user.Current(); err == nil {
		return who.Username
	}
	return "unknown"
}

func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// noCache stands where a command has no caches: the rows of the outbox stay
// unmarked, and the nodes that run tell them.
type noCache struct{}

var errNoCache = errors.New("no cache here")

// Forget leaves it to others.
func (noCache) Forget(context.Context, ...talk.Key) error { return errNoCache }

type keysCmd struct {
	Rotate rotateCmd `cmd:"" help:"Make new signing keys; they sign in two minutes, and nobody is logged out."`
}

type rotateCmd struct{}

// Run rotates the keys.
func (rotateCmd) Run(ctx context.Context, c *Config) error {
	return withStore(ctx, c, func(store *db.Store, settings Settings) error {
		at, err := store.Now(ctx)
		if err != nil {
			return err
		}
		keys, err := talk.NewKeyring(store, settings.Secret)
		if err != nil {
			return err
		}
		if err := keys.Load(ctx, at); err != nil {
			return err
		}
		if err := keys.Rotate(ctx, at); err != nil {
			return err
		}
		outbox := talk.NewOutbox(store, noCache{}, now, newLogger(os.Stderr, settings))
		err = outbox.Change(ctx, talk.Scope{}, func(state *talk.State) error {
			return state.Audit(talk.AtTheShell(operator()), "rotate_keys", "", nil)
		})
		if err != nil {
			return fmt.Errorf("the keys are new, and the audit log does not have it: %w", err)
		}
		fmt.Println("new keys sign in two minutes; the old ones verify until what they signed has expired")
		return nil
	})
}

package service

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Role owns the databases that tests get: it may log in and no more, like
// the role of a real server.
const Role = "free2talk"

// superuser is who initdb makes the first role of a cluster.
const superuser = "postgres"

// Postgres is one running Postgres server. It writes nothing through to the
// disk: it survives being killed, but no power cut.
type Postgres struct {
	process

	port int
	data string
}

// StartPostgres makes an empty cluster and starts a server for it on a free
// port. As root it runs as postgres, else as nobody, since Postgres refuses
// root.
func StartPostgres(ctx context.Context) (*Postgres, error) {
	return again(func() (*Postgres, error) { return startPostgres(ctx) })
}

func startPostgres(ctx context.Context) (*Postgres, error) {
	p := &Postgres{process: process{name: "postgres", dies: syscall.SIGQUIT}}

	err := p.prepare(func() error { return p.initdb(ctx) })
	if err == nil {
		err = p.begin(ctx)
	}
	if err == nil {
		err = p.createRole(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// prepare finds the program, a port and an owner, and has the cluster made.
func (p *Postgres) prepare(makeCluster func() error) (err error) {
	p.path, err = find("postgres")
	if err != nil {
		return err
	}
	p.port, err = freePort()
	if err != nil {
		return err
	}
	p.cred, err = unprivileged()
	if err != nil {
		return err
	}
	p.dir, err = os.MkdirTemp("", "free2talk-postgres-")
	if err != nil {
		return fmt.Errorf("directory of postgres: %w", err)
	}
	if p.cred != nil {
		err = os.Chown(p.dir, int(p.cred.Uid), int(p.cred.Gid))
		if err != nil {
			return fmt.Errorf("directory of postgres: %w", err)
		}
	}

	p.data = filepath.Join(p.dir, "data")
	p.args = p.settings()
	return makeCluster()
}

// settings are the server's arguments: no waiting for the disk, room for many
// nodes at once, and reachable through nothing but its port.
func (p *Postgres) settings() []string {
	args := []string{"-D", p.data, "-p", strconv.Itoa(p.port)}

	for _, setting := range []string{
		"listen_addresses=127.0.0.1",
		"unix_socket_directories=",
		"max_connections=200",
		"fsync=off",                       // the rest of durability stays on: tests kill the server
		"dynamic_shared_memory_type=mmap", // in the data directory, so that nothing outlives it
		"shared_buffers=64MB",
		"max_wal_size=256MB",
		"autovacuum_naptime=1min",
		"lc_messages=C", // errors in English, whatever the machine speaks
		"timezone=UTC",
	} {
		args = append(args, "-c", setting)
	}
	return args
}

// initdb makes the cluster, in UTF-8: in the C locale's own encoding Postgres
// accepts bytes that are no text.
func (p *Postgres) initdb(ctx context.Context) error {
	program, err := find("initdb")
	if err != nil {
		return err
	}
	locale := "C"
	if runtime.GOOS == "linux" {
		locale = "C.UTF-8"
	}

	cmd := exec.CommandContext(ctx, program, "-D", p.data, "-U", superuser,
		"-E", "UTF8", "--locale="+locale, "--auth=trust", "--no-sync", "--no-instructions")
	cmd.Dir = p.dir
	cmd.Env = cleanEnv()
	cmd.SysProcAttr = Attributes(p.cred, 0)

	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

// begin starts the server and waits until it takes connections. It asks the
// cluster's own pid file, since another server might answer on the port.
func (p *Postgres) begin(ctx context.Context) error {
	err := p.start()
	if err != nil {
		return err
	}
	return p.ready(ctx, func(context.Context) error {
		text, err := os.ReadFile(filepath.Join(p.data, "postmaster.pid"))
		if err != nil {
			return fmt.Errorf("read state of postgres: %w", err)
		}

		const pid, state = 0, 7 // lines of the file
		lines := strings.Split(string(text), "\n")

		if len(lines) <= state || lines[pid] != strconv.Itoa(p.pid()) || strings.TrimSpace(lines[state]) != "ready" {
			return errors.New("postgres says it is not ready")
		}
		return nil
	})
}

func (p *Postgres) createRole(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, p.AdminDSN())
	if err != nil {
		return fmt.Errorf("connect to postgres: %w", err)
	}
	defer conn.Close(ctx)

	_, err = conn.Exec(ctx, "CREATE ROLE "+Role+" LOGIN")
	if err != nil {
		return fmt.Errorf("create role: %w", err)
	}
	return nil
}

// Addr is the server's host:port.
func (p *Postgres) Addr() string { return address(p.port) }

// AdminDSN reaches the database postgres as superuser.
func (p *Postgres) AdminDSN() string { return DSN(p.Addr(), superuser, "postgres") }

// DSN is the URL of a database on a server at addr, for role.
func DSN(addr, role, database string) string {
	dsn := url.URL{
		Scheme: "postgres", User: url.User(role), Host: addr, Path: "/" + database,
		RawQuery: "sslmode=disable",
	}
	return dsn.String()
}

// Stop freezes the server and every process of it: connections stay open and
// nothing is answered.
func (p *Postgres) Stop() error {
	// The parent first, so that it starts no further one: a signal that is sent has
	// not come yet.
	err := p.signal(syscall.SIGSTOP)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(stopWithin); alive(p.pid()) && !stopped(p.pid()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("postgres, process %d, does not stop within %v", p.pid(), stopWithin)
		}
	}
	return p.signalChildren(syscall.SIGSTOP)
}

const stopWithin = 10 * time.Second

// Cont lets a frozen server go on.
func (p *Postgres) Cont() error {
	err := p.signalChildren(syscall.SIGCONT)
	if err != nil {
		return err
	}
	return p.signal(syscall.SIGCONT)
}

func (p *Postgres) signalChildren(sig syscall.Signal) error {
	children, err := Children(p.pid())
	if err != nil {
		return err
	}
	for _, child := range children {
		err = syscall.Kill(child, sig)
		if err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("send %v to postgres: %w", sig, err)
		}
	}
	return nil
}

// Kill ends the server with SIGKILL, as a crash of the machine would, and
// returns when all its processes are gone: until then it could not start
// again.
func (p *Postgres) Kill() error {
	err := p.Stop()
	if err != nil {
		return err
	}
	orphans, err := Children(p.pid())
	if err != nil {
		return err
	}
	err = errors.Join(p.signalChildren(syscall.SIGKILL), p.kill())
	if err != nil {
		return err
	}
	for _, orphan := range orphans {
		for deadline := time.Now().Add(patience); alive(orphan); time.Sleep(often) {
			if time.Now().After(deadline) {
				return fmt.Errorf("process %d of postgres outlived SIGKILL for %v", orphan, patience)
			}
		}
	}
	return nil
}

// Restart kills the server where it still runs and starts it on the same
// port. Every committed transaction is there again.
func (p *Postgres) Restart(ctx context.Context) error {
	err := p.Kill()
	if err != nil {
		return err
	}
	return p.begin(ctx)
}

// Close ends the server, orderly so that its shared memory goes with it, and
// removes its directory.
func (p *Postgres) Close() error {
	if p.cmd == nil {
		return os.RemoveAll(p.dir)
	}
	err := errors.Join(p.Cont(), p.signal(syscall.SIGQUIT))

	select {
	case <-p.ended():
	case <-time.After(patience):
		err = errors.Join(err, p.Kill())
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

// unprivileged returns whom to run Postgres as: nil for ourselves, except
// that root becomes the user postgres, or nobody where there is none.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // nil is the documented "ourselves"
	}
	someone, err := user.Lookup("postgres")
	if err != nil {
		someone, err = user.Lookup("nobody")
	}
	if err != nil {
		return nil, fmt.Errorf("whom to run postgres as: %w", err)
	}
	uid, err := strconv.ParseUint(someone.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("uid of %s: %w", someone.Username, err)
	}
	gid, err := strconv.ParseUint(someone.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("gid of %s: %w", someone.Username, err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

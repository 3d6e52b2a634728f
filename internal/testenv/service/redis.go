package service

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// Redis is one running Redis server. It persists nothing unless its arguments
// say so.
type Redis struct {
	process

	port int
}

// StartRedis starts a Redis server on a free port, with further arguments as
// redis-server takes them ("--appendonly", "yes"), and returns when it answers.
func StartRedis(ctx context.Context, args ...string) (*Redis, error) {
	return again(func() (*Redis, error) { return startRedis(ctx, args) })
}

func startRedis(ctx context.Context, args []string) (*Redis, error) {
	path, err := find("redis-server")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "free2talk-redis-")
	if err != nil {
		return nil, fmt.Errorf("directory of redis: %w", err)
	}

	r := &Redis{port: port, process: process{
		name: "redis", path: path, dir: dir, dies: syscall.SIGKILL,
		args: append([]string{
			"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir,
			"--save", "", "--appendonly", "no", "--enable-debug-command", "local",
		}, args...),
	}}

	err = r.begin(ctx)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// begin starts the program and waits until it answers.
func (r *Redis) begin(ctx context.Context) error {
	err := r.start()
	if err != nil {
		return err
	}
	return r.ready(ctx, func(ctx context.Context) error { return r.answers(ctx, r.Addr()) })
}

// Addr is the server's host:port.
func (r *Redis) Addr() string { return address(r.port) }

// URL is the server's address as clients take it.
func (r *Redis) URL() string { return "redis://" + r.Addr() + "/0" }

// Stop freezes the server: connections stay open and nothing is answered.
func (r *Redis) Stop() error { return r.signal(syscall.SIGSTOP) }

// Cont lets a frozen server go on.
func (r *Redis) Cont() error { return r.signal(syscall.SIGCONT) }

// Kill ends the server with SIGKILL and returns when it is gone.
func (r *Redis) Kill() error { return r.kill() }

// Restart kills the server where it still runs and starts it on the same
// port. What was not persisted is lost.
func (r *Redis) Restart(ctx context.Context) error {
	err := r.kill()
	if err != nil {
		return err
	}
	return r.begin(ctx)
}

// Close ends the server and removes its directory.
func (r *Redis) Close() error {
	if r.cmd == nil {
		return os.RemoveAll(r.dir)
	}
	return errors.Join(r.kill(), os.RemoveAll(r.dir))
}

// answers is nil once the server at addr answers and is this very process:
// another one may have taken the port first.
func (p *process) answers(ctx context.Context, addr string) error {
	// Knock first: the client writes a log line at each refused connection.
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("ask %s: %w", p.name, err)
	}
	defer conn.Close()

	client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
	defer client.Close()

	info, err := client.Info(ctx, "server").Result()
	if err != nil {
		return fmt.Errorf("ask %s: %w", addr, err)
	}
	if !strings.Contains(info, fmt.Sprintf("process_id:%d\r\n", p.pid())) {
		return fmt.Errorf("another server answers on %s", addr)
	}
	return nil
}

// again tries a start a second and third time where the server ended at once:
// between finding a free port and listening on it another process may take it.
func again[S any](start func() (S, error)) (S, error) {
	for range 2 {
		server, err := start()
		if !errors.Is(err, errEnded) {
			return server, err
		}
	}
	return start()
}

package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// masterName is how the Sentinel calls the server it watches.
const masterName = "free2talk"

// Sentinel is a running Redis with one Redis Sentinel that watches it.
type Sentinel struct {
	process

	port   int
	master *Redis
}

// StartSentinel starts a Redis and a Sentinel that names it.
func StartSentinel(ctx context.Context) (*Sentinel, error) {
	master, err := StartRedis(ctx)
	if err != nil {
		return nil, err
	}
	s, err := again(func() (*Sentinel, error) { return startSentinel(ctx, master) })
	if err != nil {
		return nil, errors.Join(err, master.Close())
	}
	return s, nil
}

func startSentinel(ctx context.Context, master *Redis) (*Sentinel, error) {
	path, err := find("redis-server")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}

	// A Sentinel keeps its state in its configuration, and so wants a file.
	config := filepath.Join(master.dir, "sentinel.conf")

	err = os.WriteFile(config, []byte(sentinelConfig(port, master)), 0o600)
	if err != nil {
		return nil, fmt.Errorf("configure sentinel: %w", err)
	}
	s := &Sentinel{port: port, master: master, process: process{
		name: "sentinel", path: path, dir: master.dir, dies: syscall.SIGKILL,
		args: []string{config, "--sentinel"},
	}}

	err = s.start()
	if err != nil {
		return nil, err
	}
	err = s.ready(ctx, func(ctx context.Context) error { return s.answers(ctx, s.Addr()) })
	if err != nil {
		return nil, errors.Join(err, s.kill())
	}
	return s, nil
}

// sentinelConfig names the master. It is given half a minute to answer, as
// nothing here could take its place.
func sentinelConfig(port int, master *Redis) string {
	return "bind 127.0.0.1\n" +
		"port " + strconv.Itoa(port) + "\n" +
		"dir " + master.dir + "\n" +
		"sentinel monitor " + masterName + " 127.0.0.1 " + strconv.Itoa(master.port) + " 1\n" +
		"sentinel down-after-milliseconds " + masterName + " 30000\n"
}

// Addr is the Sentinel's own host:port.
func (s *Sentinel) Addr() string { return address(s.port) }

// Master is the name to ask the Sentinel for.
func (s *Sentinel) Master() string { return masterName }

// Close ends the Sentinel and the Redis it watches.
func (s *Sentinel) Close() error { return errors.Join(s.kill(), s.master.Close()) }

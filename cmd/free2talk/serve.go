package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/free2talk/free2talk/server"
)

type serveCmd struct{}

// Run serves until ctx ends.
func (serveCmd) Run(ctx context.Context, c *Config) (err error) {
	settings, err := c.online()
	if err != nil {
		return err
	}
	if settings.Embedded {
		release, err := lockDir(c.DataDir)
		if err != nil {
			return err
		}
		defer release()
	}
	out := server.NewLogWriter(os.Stderr)
	defer func() { err = errors.Join(err, out.Close()) }()
	log := newLogger(out, settings)
	clients, metrics, err := listen(ctx, settings)
	if err != nil {
		return err
	}
	n, err := open(ctx, settings, log)
	if err != nil {
		if ctx.Err() != nil {
			err = nil // told to stop while it waited: nothing failed
		}
		return errors.Join(err, closeAll(clients, metrics))
	}
	about := []any{"version", version(), "limits", settings.RateLimits.String()}
	if metrics != nil {
		about = append(about, "metrics", "http://"+metrics.Addr().String()+"/metrics")
	}
	log.Info(settings.banner(clients.Addr()), about...)
	go tuneGarbage(ctx) // it ends with the process, or before
	return serve(ctx, n, clients, metrics)
}

func closeAll(listeners ...net.Listener) error {
	var errs []error
	for _, l := range listeners {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

func listen(ctx context.Context, s Settings) (clients, metrics net.Listener, err error) {
	clients, err = server.Listen(ctx, s.Listen)
	if err != nil || s.MetricsListen == "" {
		return clients, nil, err
	}
	metrics, err = server.Listen(ctx, s.MetricsListen)
	if err != nil {
		return nil, nil, errors.Join(err, clients.Close())
	}
	return clients, metrics, nil
}

// banner says in one line what the node runs on.
func (s *Settings) banner(addr net.Addr) string {
	scheme := "http"
	if s.TLS != nil {
		scheme = "https"
	}
	if s.Embedded {
		return fmt.Sprintf("free2talk serves on %s://%s with SQLite in %s and a Redis of its own: for trying out and developing", scheme, addr, s.DatabaseURL)
	}
	return fmt.Sprintf("free2talk serves on %s://%s with Postgres and Redis", scheme, addr)
}

// newLogger writes records to w as the settings say.
func newLogger(w io.Writer, s Settings) *slog.Logger {
	log, err := server.NewLogger(w, s.LogFormat, s.LogLevel)
	if err != nil {
		panic(err) // the settings were checked
	}
	return log
}

// online is the configuration of a node; offline that of a command beside the
// nodes, which needs no Redis.
func (c *Config) online() (Settings, error) {
	s, err := c.complete(c.settings())
	if err == nil {
		s.TLS, err = c.tls()
	}
	if !s.Embedded { // that one stands behind no load balancer
		s.DrainDelay = drainDelay
	}
	return s, err
}

// drainDelay is long enough for the calls of a busy client to hear that their
// connections end, and for a proxy that retries to have turned away.
const drainDelay = 2 * time.Second

func (c *Config) offline() (Settings, error) {
	only := *c
	if only.DatabaseURL != "" && only.RedisURL == "" && only.RedisHost == "" {
		only.RedisURL = "redis://unused"
	}
	return c.complete(only.settings())
}

func (c *Config) complete(s Settings, err error) (Settings, error) {
	if err != nil {
		return s, configError{err}
	}
	if s.Embedded {
		err = s.embed(c)
	}
	return s, err
}

// secretFile reads the secret of the embedded default, made at the first start.
func secretFile(path string) ([]byte, error) {
	secret, err := os.ReadFile(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	secret = []byte(rand.Text() + rand.Text())
	_, err = f.Write(secret)
	return secret, errors.Join(err, f.Close())
}

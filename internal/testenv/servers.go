package testenv

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/free2talk/free2talk/internal/testenv/service"
)

// The environment of a test holds the addresses of the shared servers.
const (
	envPostgres = "FREE2TALK_TEST_DATABASE_URL"  // as superuser
	envRedis    = "FREE2TALK_TEST_REDIS_URL"     // redis://host:port/0
	envCluster  = "FREE2TALK_TEST_REDIS_CLUSTER" // host:port,host:port,host:port
	envSentinel = "FREE2TALK_TEST_SENTINEL"      // host:port,name of the master
)

// Servers are the shared servers of one run.
type Servers struct {
	postgres *service.Postgres
	redis    *service.Redis
	cluster  *service.Cluster
	sentinel *service.Sentinel
}

// StartServers starts all shared servers at once. Where one does not start,
// or ctx ends, the others are stopped again.
func StartServers(ctx context.Context) (*Servers, error) {
	var s Servers

	starts, ctx := errgroup.WithContext(ctx)
	starts.Go(func() (err error) { s.postgres, err = service.StartPostgres(ctx); return err })
	starts.Go(func() (err error) { s.redis, err = service.StartRedis(ctx); return err })
	starts.Go(func() (err error) { s.cluster, err = service.StartCluster(ctx); return err })
	starts.Go(func() (err error) { s.sentinel, err = service.StartSentinel(ctx); return err })

	err := starts.Wait()
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return &s, nil
}

// Env is what the environment of a test must hold to find the servers.
func (s *Servers) Env() []string {
	return []string{
		envPostgres + "=" + s.postgres.AdminDSN(),
		envRedis + "=" + s.redis.URL(),
		envCluster + "=" + strings.Join(s.cluster.Addrs(), ","),
		envSentinel + "=" + s.sentinel.Addr() + "," + s.sentinel.Master(),
	}
}

// Close stops all servers at once.
func (s *Servers) Close() error {
	var stops errgroup.Group

	if s.postgres != nil {
		stops.Go(s.postgres.Close)
	}
	if s.redis != nil {
		stops.Go(s.redis.Close)
	}
	if s.cluster != nil {
		stops.Go(s.cluster.Close)
	}
	if s.sentinel != nil {
		stops.Go(s.sentinel.Close)
	}
	return stops.Wait()
}

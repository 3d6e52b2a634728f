package cache

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Config says which Redis, and how long to wait for it.
type Config struct {
	// URL is one of
	//
	//	redis://[user:password@]host:port[/db]            a single Redis
	//	rediss://…                                        the same over TLS
	//	redis+sentinel://[:password@]host:port,…/master   the master that Sentinels name
	//	redis+cluster://[user:password@]host:port,…       a Cluster
	//	rediss+sentinel://…, rediss+cluster://…           the same over TLS
	//
	// It must be set; see [Embedded] for one that needs no server.
	URL string
	// Prefix stands before every key. Zero means "f2t:".
	Prefix string
	// History is the id of the database's history that entries are loaded from,
	// and that events are of; those of another are not seen. Zero is one as well.
	History string
	// Loads is how many loads of what Redis does not have may run at once: half
	// of a database's connections, so that reads leave writes the other half.
	// Zero means that there is no bound.
	Loads int
	// Timeout bounds a round trip on a request's path; a connection may take
	// twice as long to be made. Zero means 40 ms.
	Timeout time.Duration
	// PoolSize bounds the connections to each server. Zero means ten for each
	// processor, and at least 32.
	PoolSize int
	// Near is how many bytes of rooms and people are kept in this process, by an
	// estimate that errs upwards. Zero means [DefaultNear]; below zero keeps none.
	Near int64
	// Recover tells again what other nodes or an earlier process left untold:
	// see [Redis.Run]. Zero means that there is nothing to tell.
	Recover func(context.Context) error
	// Meter makes the instruments. Zero means that nothing is measured.
	Meter metric.Meter
	// Tracer makes the spans of commands. Zero means none.
	Tracer trace.TracerProvider
	// Log hears of Redis going away and coming back. Zero means slog's default.
	Log *slog.Logger
}

const (
	defaultPrefix  = "f2t:"
	defaultTimeout = 40 * time.Millisecond
)

func (c Config) withDefaults() Config {
	if c.Prefix == "" {
		c.Prefix = defaultPrefix
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.PoolSize == 0 {
		c.PoolSize = max(32, 10*runtime.GOMAXPROCS(0))
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Recover == nil {
		c.Recover = func(context.Context) error { return nil }
	}
	return c
}

func (c Config) dialTimeout() time.Duration { return 2 * c.Timeout }

// Open returns a Redis without asking whether it is there: a server starts
// without it. It is used from [Redis.Run] on, once it answers.
func Open(config Config) (*Redis, error) {
	config = config.withDefaults()
	options, err := config.options()
	if err != nil {
		return nil, err
	}
	quiet.Do(func() { redis.SetLogger(logger{}) })
	client := redis.NewUniversalClient(options)
	if config.Tracer != nil {
		client.AddHook(traced{config.Tracer.Tracer("github.com/free2talk/free2talk/cache")})
	}
	r, err := newRedis(client, options.Addrs, config)
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	return r, nil
}

// options is the URL and what facts about go-redis make necessary: time-outs
// that each trip's context shortens, and no retries, neither of commands nor of
// dialling, since the breaker decides when to try again.
func (c Config) options() (*redis.UniversalOptions, error) {
	options, err := parseURL(c.URL)
	if err != nil {
		return nil, err
	}
	options.MaxRetries = -1
	options.DialTimeout = c.dialTimeout()
	options.DialerRetries = 1
	options.ReadTimeout = max(unhurriedTimeout, c.Timeout)
	options.WriteTimeout = options.ReadTimeout
	options.PoolTimeout = c.Timeout
	options.PoolSize = c.PoolSize
	options.PipelinePoolSize = -1 // pipelines are the rule here, and share the connections
	options.ContextTimeoutEnabled = true
	options.DisableIdentity = true
	options.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return options, nil
}

// parseURL never repeats the URL in an error: it may hold a password.
func parseURL(raw string) (*redis.UniversalOptions, error) {
	u, err := url.Parse(hideList(raw))
	if err != nil {
		return nil, errors.New("redis: the URL cannot be read")
	}
	options := &redis.UniversalOptions{Username: u.User.Username()}
	options.Password, _ = u.User.Password()
	plain, secure := strings.CutPrefix(u.Scheme, "rediss")
	if secure {
		plain = "redis" + plain
		options.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	} else {
		plain = u.Scheme
	}
	switch plain {
	case "redis":
		return parseSingle(raw)
	case "redis+sentinel":
		options.MasterName = strings.Trim(u.Path, "/")
		options.SentinelUsername, options.SentinelPassword = options.Username, options.Password
		if options.MasterName == "" {
			return nil, errors.New("redis: a redis+sentinel:// URL ends with /master, the name the Sentinels know")
		}
	case "redis+cluster":
		options.IsClusterMode = true
	default:
		return nil, errors.New("redis: the URL begins with redis://, rediss://, redis+sentinel:// or redis+cluster://")
	}
	options.Addrs = strings.Split(serverList(raw), ",")
	for _, addr := range options.Addrs {
		_, port, err := net.SplitHostPort(addr)
		if _, wrong := strconv.ParseUint(port, 10, 16); err != nil || wrong != nil {
			return nil, errors.New("redis: the URL lists its servers as host:port,host:port")
		}
	}
	return options, nil
}

// hideList takes the list of servers out of a URL, since url.Parse takes one
// server only; serverList returns it.
func hideList(raw string) string {
	if l := serverList(raw); strings.Contains(l, ",") {
		return strings.Replace(raw, l, "list", 1)
	}
	return raw
}

func serverList(raw string) string {
	_, rest, _ := strings.Cut(raw, "://")
	rest, _, _ = strings.Cut(rest, "?")
	rest, _, _ = strings.Cut(rest, "/")
	return rest[strings.LastIndex(rest, "@")+1:]
}

func parseSingle(raw string) (*redis.UniversalOptions, error) {
	single, err := redis.ParseURL(raw)
	if err != nil {
		return nil, errors.New("redis: the URL cannot be read")
	}
	return &redis.UniversalOptions{
		Addrs: []string{single.Addr}, DB: single.DB, TLSConfig: tlsFor(single.TLSConfig),
		Username: single.Username, Password: single.Password,
	}, nil
}

func tlsFor(config *tls.Config) *tls.Config {
	if config != nil {
		config.MinVersion = tls.VersionTLS12
	}
	return config
}

// logger makes what go-redis says about its connections what it is to us:
// detail. That Redis is away or back is told by the breakers and by trust.
type logger struct{}

var quiet sync.Once

// Printf is go-redis's interface.
func (logger) Printf(ctx context.Context, format string, args ...any) {
	slog.DebugContext(ctx, fmt.Sprintf(format, args...))
}

// Servers are the addresses of the servers, without their passwords.
func (r *Redis) Servers() string { return r.servers }

// String names the servers without their passwords.
func (r *Redis) String() string {
	return fmt.Sprintf("redis %s", r.servers)
}

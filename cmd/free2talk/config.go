package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/free2talk/free2talk/server"
	"github.com/free2talk/free2talk/server/talk"
)

// Config is every setting of a node: flag, variable, default and meaning, side
// by side. A flag wins over a variable, a variable over the default. All are
// text here, so that [Config.settings] can report all faults at once.
type Config struct {
	Listen         string `placeholder:"ADDR" default:"127.0.0.1:8080" env:"FREE2TALK_LISTEN" help:"Where clients connect (${default})."`
	MetricsListen  string `placeholder:"ADDR" env:"FREE2TALK_METRICS_LISTEN" help:"Where /metrics is served, for Prometheus. Unset: nowhere."`
	DataDir        string `placeholder:"DIR" default:"free2talk-data" env:"FREE2TALK_DATA_DIR" help:"Where the embedded database and the secret lie, unless --database-url is set (${default})."`
	DatabaseURL    string `placeholder:"URL" env:"DATABASE_URL" help:"postgres://user:password@host/name. Unset: SQLite in the data directory."`
	RedisURL       string `placeholder:"URL" env:"REDIS_URL" help:"redis://, rediss://, redis+sentinel://a,b/master or redis+cluster://a,b. Unset: REDIS_HOST, REDIS_PORT and REDIS_PASSWORD; none of them: one inside the process."`
	RedisHost      string `hidden:"" env:"REDIS_HOST" help:"Host of --redis-url."`
	RedisPort      string `hidden:"" default:"6379" env:"REDIS_PORT" help:"Port of --redis-url."`
	RedisPassword  string `hidden:"" env:"REDIS_PASSWORD" help:"Password of --redis-url."`
	RedisPrefix    string `placeholder:"TEXT" default:"f2t:" env:"FREE2TALK_REDIS_PREFIX" help:"What every key in Redis begins with (${default})."`
	SecretFile     string `placeholder:"FILE" env:"FREE2TALK_SECRET_FILE" help:"A file with at least 32 bytes that seal the signing keys in the database; or FREE2TALK_SECRET holds them."`
	Secret         string `kong:"-"` // FREE2TALK_SECRET: never a flag, since flags show in the list of processes
	RateLimits     string `placeholder:"LIST" env:"FREE2TALK_RATE_LIMITS" help:"Overrides, such as api=600/1m,auth=off."`
	TrustedProxies string `placeholder:"CIDRS" env:"FREE2TALK_TRUSTED_PROXIES" help:"Whose X-Forwarded-For is believed, such as 10.0.0.0/8,::1/128."`
	AllowedOrigins string `placeholder:"LIST" env:"FREE2TALK_ALLOWED_ORIGINS" help:"Origins of other sites whose pages may call, such as https://app.example."`
	TLSCert        string `placeholder:"FILE" env:"FREE2TALK_TLS_CERT" help:"A certificate and its chain, as PEM: then clients connect by TLS, with HTTP/2. Read again when it changes."`
	TLSKey         string `placeholder:"FILE" env:"FREE2TALK_TLS_KEY" help:"The key of --tls-cert, as PEM."`
	TLSSelfSigned  bool   `env:"FREE2TALK_TLS_SELF_SIGNED" help:"TLS with a certificate of our own making, kept in the data directory, for developing: browsers warn of it once."`
	PresenceGrace  string `placeholder:"TIME" default:"15s" env:"FREE2TALK_PRESENCE_GRACE" help:"How long somebody stays online after their last connection broke (${default})."`
	Unattended     string `placeholder:"TIME" default:"5m" env:"FREE2TALK_UNATTENDED" help:"How long a seat is kept for somebody who was never connected; 0 for ever (${default})."`
	MaxCapacity    string `placeholder:"N" default:"12" env:"FREE2TALK_MAX_CAPACITY" help:"The most seats that a room may have, 2 to 1000 (${default})."`
	NearCache      string `placeholder:"MIB" default:"64" env:"FREE2TALK_NEAR_CACHE" help:"Memory for the rooms and people that are read most, in MiB; 0: none (${default})."`
	LogFormat      string `placeholder:"FORMAT" default:"text" env:"FREE2TALK_LOG_FORMAT" help:"text or json (${default})."`
	LogLevel       string `placeholder:"LEVEL" default:"info" env:"FREE2TALK_LOG_LEVEL" help:"debug, info, warn or error (${default})."`
}

// Settings is a [Config] that was found good.
type Settings struct {
	Listen, MetricsListen string
	DatabaseURL           string
	RedisURL              string // "" for the one inside the process
	RedisPrefix           string
	Secret                []byte // nil: keys lie plain
	Embedded              bool
	RateLimits            server.Limits
	TrustedProxies        []netip.Prefix
	AllowedOrigins        []string
	TLS                   *tls.Config // nil: none
	PresenceGrace         time.Duration
	Streams               server.StreamLimits // zero: the usual
	Unattended            time.Duration
	MaxCapacity           int
	NearCache             int64 // bytes; below zero: none, zero: the usual
	LogFormat             string
	LogLevel              slog.Level

	// DrainDelay is how long a node that leaves still takes calls, so that load
	// balancers have seen that it is not ready. Zero where there is none.
	DrainDelay time.Duration

	anew bool // this process has served before: it is ready at once

	// For tests.
	clock talk.Clock       // nil: the database's
	local func() time.Time // this machine's clock; nil: clock, or else the real one
	watch bun.QueryHook    // sees every query; nil: nobody does

	unmeasured bool          // without metrics and traces, to see what they cost
	tallyEvery time.Duration // of analytics; zero: the default
}

// faults gathers what is wrong with a configuration.
type faults []error

func (f *faults) addf(setting, format string, args ...any) {
	*f = append(*f, fmt.Errorf("%s: %s", setting, fmt.Sprintf(format, args...)))
}

// mebibytes is so much memory, where none is said as what is below it.
func mebibytes(n int) int64 {
	if n == 0 {
		return -1
	}
	return int64(n) << 20
}

// settings checks everything and reports every fault at once. No fault prints
// a value that may be secret.
func (c *Config) settings() (Settings, error) {
	var f faults
	s := Settings{
		Listen: c.Listen, MetricsListen: c.MetricsListen,
		DatabaseURL: c.DatabaseURL, RedisPrefix: c.RedisPrefix,
		Embedded:       c.DatabaseURL == "",
		TrustedProxies: f.prefixes("--trusted-proxies", c.TrustedProxies),
		AllowedOrigins: f.origins("--allowed-origins", c.AllowedOrigins),
		PresenceGrace:  f.duration("--presence-grace", c.PresenceGrace, time.Second, time.Hour),
		Unattended:     f.duration("--unattended", c.Unattended, 0, 24*time.Hour),
		MaxCapacity:    f.number("--max-capacity", c.MaxCapacity, 2, 1000),
		NearCache:      mebibytes(f.number("--near-cache", c.NearCache, 0, 1<<20)),
		LogFormat:      c.LogFormat,
	}
	f.listeners(c)
	s.RedisURL = f.redis(c)
	f.database(c)
	f.stores(c, s.RedisURL)
	f.logging(c, &s)
	if limits, err := server.ParseLimits(c.RateLimits); err != nil {
		f.addf("--rate-limits", "%v", err)
	} else {
		s.RateLimits = limits
	}
	s.Secret = f.secret(c)
	f.secured(c)
	if len(f) > 0 {
		return Settings{}, errors.Join(f...)
	}
	return s, nil
}

func (f *faults) listeners(c *Config) {
	for setting, addr := range map[string]string{"--listen": c.Listen, "--metrics-listen": c.MetricsListen} {
		if addr == "" && setting == "--metrics-listen" {
			continue
		}
		if _, port, err := net.SplitHostPort(addr); err != nil || !validPort(port) {
			f.addf(setting, "must be HOST:PORT")
		}
	}
	if samePlace(c.Listen, c.MetricsListen) {
		f.addf("--metrics-listen", "must not be where clients connect")
	}
}

// samePlace reports whether two addresses name one port of one host; port 0
// is another one each time.
func samePlace(one, other string) bool {
	host, port, err := net.SplitHostPort(one)
	host2, port2, err2 := net.SplitHostPort(other)
	if err != nil || err2 != nil || port != port2 || port == "0" {
		return false
	}
	return host == host2 || everywhere(host) || everywhere(host2)
}

func everywhere(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || err == nil && addr.IsUnspecified()
}

func validPort(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

// stores refuses half of a cluster: two nodes on one Postgres, each with a
// Redis of its own, would not hear of each other's writes.
func (f *faults) stores(c *Config, redisURL string) {
	switch {
	case c.DatabaseURL != "" && redisURL == "":
		f.addf("--redis-url", "is needed with --database-url")
	case c.DatabaseURL == "" && redisURL != "":
		f.addf("--database-url", "is needed with --redis-url")
	}
}

func (f *faults) redis(c *Config) string {
	if c.RedisURL == "" && c.RedisHost == "" {
		return ""
	}
	raw := c.RedisURL
	if raw == "" {
		u := url.URL{Scheme: "redis", Host: net.JoinHostPort(c.RedisHost, c.RedisPort)}
		if c.RedisPassword != "" {
			u.User = url.UserPassword("", c.RedisPassword)
		}
		raw = u.String()
	}
	scheme, _, ok := strings.Cut(raw, "://")
	if known := []string{"redis", "rediss", "redis+sentinel", "redis+cluster"}; !ok || !slices.Contains(known, scheme) {
		f.addf("--redis-url", "must begin with redis://, rediss://, redis+sentinel:// or redis+cluster://")
	}
	return raw
}

func (f *faults) database(c *Config) {
	if c.DatabaseURL == "" {
		return
	}
	u, err := url.Parse(c.DatabaseURL)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		f.addf("--database-url", "must be a URL that begins with postgres://")
		return
	}
	if u.Query().Get("sslmode") == "disable" && !private(u.Hostname()) {
		f.addf("--database-url", "sslmode=disable is for a database on this machine or in a private network")
	}
}

// private reports whether what is sent to host stays on this machine or in a
// private network. A bare name is one that only a local resolver knows.
func private(host string) bool {
	if host == "" || !strings.Contains(host, ".") && !strings.Contains(host, ":") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && (addr.IsLoopback() || addr.IsPrivate())
}

func (f *faults) prefixes(setting, list string) []netip.Prefix {
	var prefixes []netip.Prefix
	for part := range fields(list) {
		prefix, err := netip.ParsePrefix(part)
		if addr, e := netip.ParseAddr(part); e == nil {
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			f.addf(setting, "%q is neither an address nor a CIDR", part)
			continue
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes
}

func (f *faults) origins(setting, list string) []string {
	var origins []string
	for part := range fields(list) {
		u, err := url.Parse(part)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Scheme+"://"+u.Host != part {
			f.addf(setting, "%q is not an origin such as https://app.example; * is not taken, since the cookie is", part)
			continue
		}
		origins = append(origins, part)
	}
	return origins
}

func fields(list string) func(func(string) bool) {
	return slices.Values(strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' }))
}

func (f *faults) duration(setting, value string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(value)
	if value == "0" {
		d, err = 0, nil
	}
	if err != nil || d < least || d > most {
		f.addf(setting, "must be a time between %v and %v, such as 15s", least, most)
	}
	return d
}

func (f *faults) number(setting, value string, least, most int) int {
	n, err := strconv.Atoi(value)
	if err != nil || n < least || n > most {
		f.addf(setting, "must be a number between %d and %d", least, most)
	}
	return n
}

func (f *faults) logging(c *Config, s *Settings) {
	if c.LogFormat != "text" && c.LogFormat != "json" {
		f.addf("--log-format", "must be text or json")
	}
	if err := s.LogLevel.UnmarshalText([]byte(c.LogLevel)); err != nil {
		f.addf("--log-level", "must be debug, info, warn or error")
	}
}

// leastSecret is 256 bits: what the secret seals is as strong as it.
const leastSecret = 32

func (f *faults) secret(c *Config) []byte {
	secret := []byte(c.Secret)
	name := "FREE2TALK_SECRET"
	if c.SecretFile != "" {
		name = "--secret-file"
		read, err := os.ReadFile(c.SecretFile)
		if err != nil {
			f.addf(name, "cannot be read: %v", errors.Unwrap(err))
			return nil
		}
		secret = read
	}
	secret = []byte(strings.TrimSpace(string(secret)))
	switch {
	case len(secret) == 0 && name == "FREE2TALK_SECRET":
		return nil
	case len(secret) < leastSecret:
		f.addf(name, "must be at least %d bytes long", leastSecret)
	case weak(secret):
		f.addf(name, "is not random; make one with: openssl rand -base64 32")
	}
	return secret
}

// weak recognises what people write where a secret should be: few different
// letters, or a word that says so.
func weak(secret []byte) bool {
	different := map[byte]bool{}
	for _, b := range secret {
		different[b] = true
	}
	text := strings.ToLower(string(secret))
	said := slices.ContainsFunc([]string{"changeme", "change-me", "change_me", "default", "example", "password"},
		func(word string) bool { return strings.Contains(text, word) })
	return len(different) < 8 || said
}

// databasePath is the SQLite file of the embedded default.
func (c *Config) databasePath() string { return filepath.Join(c.DataDir, "free2talk.db") }

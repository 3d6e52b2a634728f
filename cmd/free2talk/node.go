package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/uptrace/bun/extra/bunotel"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/free2talk/free2talk/cache"
	"github.com/free2talk/free2talk/client/web"
	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/server"
	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

// Names that tokens carry: who issued them, and for whom.
const (
	issuer   = "free2talk"
	audience = "free2talk"
)

// node is one server process's worth of parts, in the order in which they are
// opened; they are closed the other way round.
type node struct {
	settings Settings
	log      *slog.Logger
	id       string
	history  string        // of the database, that all is read from
	astray   chan struct{} // closed when the database has another one

	telemetry *server.Telemetry
	store     *db.Store
	clock     *talk.ClockSync
	revoked   *talk.Revocations
	keys      *talk.Keyring
	redis     *cache.Redis
	outbox    *talk.Outbox
	hub       *live.Hub
	bus       *cache.Bus
	lobby     *live.Lobby
	tail      *live.Tail
	uses      *talk.Uses
	accounts  *talk.Accounts
	server    *server.Server
	presence  *live.Presence
	conns     *cache.Connections

	closers []func() error
	stop    context.CancelFunc // of the loops
	loops   sync.WaitGroup

	analytics *talk.Analytics
	reader    *cache.Reader
	warmed    chan struct{} // closed when the caches hold what is asked for most, or that took too long
}

// open makes a node that is ready to serve. It waits for the database, and not
// for Redis.
func open(ctx context.Context, settings Settings, log *slog.Logger) (_ *node, err error) {
	n := &node{settings: settings, log: log, id: talk.NewID(), stop: func() {}, astray: make(chan struct{}), warmed: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	for _, part := range []struct {
		name string
		open func(context.Context) error
	}{
		{"telemetry", n.openTelemetry},
		{"database", n.openStore},
		{"keys", n.openKeys},
		{"redis", n.openRedis},
		{"server", n.openServer},
	} {
		if err := part.open(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	n.run(ctx)
	return n, nil
}

func (n *node) closing(f func() error) { n.closers = append(n.closers, f) }

func (n *node) openTelemetry(ctx context.Context) error {
	telemetry, err := server.NewTelemetry(ctx, server.TelemetryConfig{Version: version(), Node: n.id, Off: n.settings.unmeasured})
	if err != nil {
		return err
	}
	n.telemetry = telemetry
	otel.SetTracerProvider(telemetry.TracerProvider())
	n.closing(func() error {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), flushWithin)
		defer cancel()
		return telemetry.Shutdown(last)
	})
	return nil
}

// openStore opens the database, waits until it is there, and brings its schema
// up to date.
func (n *node) openStore(ctx context.Context) error {
	store, err := db.Open(ctx, db.Config{URL: n.settings.DatabaseURL, Now: n.settings.clock})
	if err != nil {
		return err
	}
	n.store = store
	n.closing(store.Close)
	if n.settings.unmeasured {
		return n.readyStore(ctx)
	}
	store.AddQueryHook(bunotel.NewQueryHook( // without the arguments: they are somebody's data
		bunotel.WithTracerProvider(n.telemetry.TracerProvider()), bunotel.WithMeterProvider(n.telemetry.MeterProvider()),
	))
	if err := store.Measure(n.meter("db")); err != nil {
		return err
	}
	if n.settings.watch != nil {
		store.AddQueryHook(n.settings.watch)
	}
	return n.readyStore(ctx)
}

// readyStore waits for the database, and gets from it what a node begins with.
func (n *node) readyStore(ctx context.Context) error {
	if err := n.awaitStore(ctx); err != nil {
		return err
	}
	if _, err := n.store.Migrate(ctx, db.Up); err != nil {
		return err
	}
	var err error
	if n.history, err = n.store.HistoryID(ctx); err != nil { // before anything else is read
		return err
	}
	local := n.settings.local
	if local == nil {
		local = n.settings.clock
	}
	n.clock = talk.NewClockSync(local)
	n.revoked = talk.NewRevocations(n.store, n.clock)
	return n.revoked.Poll(ctx)
}

const (
	awaitEvery  = time.Second
	flushWithin = 2 * time.Second // of spans and metrics that are still here at the end
)

// awaitStore returns once the database answers, and says so while it does not.
func (n *node) awaitStore(ctx context.Context) error {
	for {
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := n.store.Ping(short)
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, talk.ErrDatabaseUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		n.log.Warn("waiting for the database", "error", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(awaitEvery):
		}
	}
}

func (n *node) openKeys(ctx context.Context) error {
	keys, err := talk.NewKeyring(n.store, n.settings.Secret)
	if err != nil {
		return err
	}
	n.keys = keys
	if err := keys.Load(ctx, n.clock.Now()); err != nil {
		return err
	}
	if keys.Plain() {
		n.log.Warn("signing keys lie unsealed in the database; set FREE2TALK_SECRET or --secret-file")
	}
	return nil
}

func (n *node) openRedis(context.Context) error {
	url := n.settings.RedisURL
	if url == "" {
		embedded, err := cache.Embedded()
		if err != nil {
			return err
		}
		n.closing(embedded.Close)
		url = embedded.URL()
	}
	redis, err := cache.Open(cache.Config{
		URL: url, Prefix: n.settings.RedisPrefix, History: n.history, Log: n.log,
		Loads:   n.store.Conns() / 2,
		Near:    n.settings.NearCache,
		Meter:   n.meter("cache"),
		Tracer:  n.telemetry.Tracing(),
		Recover: func(ctx context.Context) error { return n.outbox.Recover(ctx) },
	})
	if err != nil {
		return err
	}
	n.redis = redis
	n.closing(redis.Close)
	n.outbox = talk.NewOutbox(n.store, redis, n.clock.Now, n.log)
	if n.hub, err = live.NewHub(n.store, n.log, n.meter("server/live")); err != nil {
		return err
	}
	n.bus = cache.NewBus(redis, n.hub)
	n.lobby = live.NewLobby()
	n.tail = live.NewTail(n.store, n.lobby, n.log)
	n.tail.Follow(n.hub.Offer, n.hub.CompareAll)
	n.hub.Use(n.bus, n.tail.Wake)
	n.outbox.Observe(n.lobby.Told)
	n.outbox.Observe(func(talk.Told) { n.tail.Wake() })
	n.presence = live.NewPresence(live.PresenceConfig{
		Node: n.id, Nodes: n.store, Seats: &talk.Seats{Outbox: n.outbox}, Clock: n.clock.Now, Log: n.log,
		Grace: n.settings.PresenceGrace, Unattended: n.settings.Unattended, Restart: func() { n.server.Restart() },
	})
	n.conns = cache.NewConnections(redis, n.presence)
	n.presence.Use(n.conns)
	n.tail.Follow(n.presence.Follow, n.presence.Unsure)
	n.outbox.Observe(n.presence.Told)
	n.outbox.Over(n.bus)
	n.outbox.Observe(n.hub.Told)
	n.uses = talk.NewUses(n.store, cache.NewSessions(redis), n.log)
	return nil
}

func (n *node) meter(room string) metric.Meter {
	return n.telemetry.MeterProvider().Meter("github.com/free2talk/free2talk/" + room)
}

func (n *node) openServer(ctx context.Context) (err error) {
	if err := n.tail.Warm(ctx); err != nil {
		return err
	}
	passwords := talk.NewPasswords(0)
	tokens := talk.NewTokens(n.keys, n.clock.Now, issuer, audience)
	if err := errors.Join(n.telemetry.Passwords(passwords), n.telemetry.Tokens(tokens), n.telemetry.Outbox(n.outbox)); err != nil {
		return err
	}
	n.reader = cache.NewReader(n.redis, n.store, cache.Codecs{Room: server.RoomCodec, User: server.UserCodec})
	reader := n.reader
	n.accounts = &talk.Accounts{
		Store: n.store, Outbox: n.outbox, Clock: n.clock.Now, Passwords: passwords,
		Tokens: tokens, Revoked: n.revoked, Uses: n.uses, Log: n.log,
	}
	limiter, limits := cache.NewLimiter(n.redis, n.presence.Live), n.limits()
	admin := &talk.Admin{
		Store: n.store, Outbox: n.outbox, Clock: n.clock.Now, Revoked: n.revoked, Uses: n.uses,
		Flush: n.redis.InvalidatePattern, Holds: n.redis.Holds, Reader: reader, Desk: limiter,
	}
	n.analytics = &talk.Analytics{
		History: n.store, Tallies: cache.NewTallies(n.redis), Chronicle: n.store, HistoryID: n.history, Mine: n.presence.First,
		Rooms: n.lobby, Online: n.presence.Count, Clock: n.clock.Now, Log: n.log, Every: n.settings.tallyEvery,
	}
	n.server, err = server.New(server.Config{
		Services: server.Services{
			Rooms:    &talk.Rooms{Reader: reader, Store: n.store, Outbox: n.outbox, Lobby: n.lobby, Ahead: reader, MaxCapacity: n.settings.MaxCapacity},
			Accounts: n.accounts,
			People:   &talk.People{Reader: reader, Outbox: n.outbox},
			Admin:    admin, Analytics: n.analytics,
			Insight: &talk.Insight{
				Store: n.store, History: n.store, Nodes: n.store, Presence: n.presence.Of, Clock: n.clock.Now,
				Limits: limits, Policies: server.PolicyNames(), Desk: limiter,
			},
		},
		Streams: n.settings.Streams,
		Live: server.Live{
			Hub: n.hub, Lobby: n.lobby, Presence: n.presence, History: n.store, HistoryID: n.history,
			Bans: n.bans, Ended: n.revoked.Check, Now: n.clock.Now,
		},
		Limiter:        limiter,
		Limits:         limits,
		About:          server.About{Redis: n.redis.Servers(), Database: n.store.Kind()},
		Role:           admin.Role,
		JWKS:           func() ([]byte, error) { return n.keys.JWKS(n.clock.Now()) },
		Ready:          n.ready,
		TrustedProxies: n.settings.TrustedProxies,
		AllowedOrigins: n.settings.AllowedOrigins,
		App:            web.App(),
		TLS:            n.settings.TLS,
		DrainDelay:     n.settings.DrainDelay,
		Telemetry:      n.telemetry,
		Log:            n.log,
	})
	if err != nil {
		return err
	}
	n.revoked.OnEnd(n.server.Revoked)
	return n.presence.Begin(ctx)
}

// limits are the rate limits, as they are or by default.
func (n *node) limits() server.Limits {
	if n.settings.RateLimits == nil {
		return server.DefaultLimits()
	}
	return n.settings.RateLimits
}

// bans is who is kept out of a room now.
func (n *node) bans(ctx context.Context, room talk.RoomID) ([]talk.RoomBan, error) {
	return n.store.RoomBans(ctx, room, n.clock.Now())
}

// ready says why this node should get no calls: it has only begun, or none can
// be decided since the database is away. Redis is not asked for.
func (n *node) ready(ctx context.Context) error {
	select {
	case <-n.warmed:
	default:
		if !n.settings.anew { // else all nodes might be unready at once
			return errWarming
		}
	}
	if n.revoked.Fresh() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	return n.store.Ping(ctx)
}

var errWarming = errors.New("the caches are being warmed")

// readyWithin is how long a probe waits for a database that says nothing.
const readyWithin = time.Second

// run starts what goes on behind the calls.
func (n *node) run(ctx context.Context) {
	ctx, n.stop = context.WithCancel(context.WithoutCancel(ctx))
	failed := func(what string) func(error) {
		return func(err error) {
			if err != nil {
				n.log.Warn(what, "error", err)
			} else {
				n.log.Info(what + " again")
			}
		}
	}
	n.loops.Go(func() { n.watchHistory(ctx) })
	n.loops.Go(func() { n.revoked.Run(ctx, failed("revocations read")) })
	n.loops.Go(func() { n.keys.Run(ctx, n.clock.Now, failed("keys read")) })
	n.loops.Go(func() { n.outbox.Run(ctx) })
	n.loops.Go(func() { n.hub.Run(ctx) })
	n.loops.Go(func() { n.bus.Run(ctx) })
	n.loops.Go(func() { n.tail.Run(ctx) })
	n.loops.Go(func() { n.uses.Run(ctx) })
	n.loops.Go(func() { n.analytics.Run(ctx) })
	n.loops.Go(func() { n.conns.Run(ctx) })
	n.loops.Go(func() { n.presence.Run(ctx) })
	n.loops.Go(func() { n.warm(ctx) })
	n.loops.Go(func() {
		if err := n.redis.Run(ctx); err != nil {
			n.log.Error("redis", "error", err)
		}
	})
}

// close ends the loops, which finish what they promised, and then the parts.
func (n *node) close() error {
	n.stop()
	n.loops.Wait()
	var errs []error
	for _, closer := range slices.Backward(n.closers) {
		errs = append(errs, closer())
	}
	return errors.Join(errs...)
}

// embed makes the settings of the embedded default whole: its database and its
// secret are files in the data directory.
func (s *Settings) embed(c *Config) error {
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return err
	}
	s.DatabaseURL = c.databasePath()
	if s.Secret != nil {
		return nil
	}
	secret, err := secretFile(filepath.Join(c.DataDir, "secret"))
	s.Secret = secret
	return err
}

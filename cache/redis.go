package cache

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/free2talk/free2talk/server/talk"
)

// Redis is a connection to a Redis, a Cluster or what Sentinels watch over,
// with everything that a node needs to know of it: whether it answers, and
// whether what it holds may be believed. It implements [talk.Cache].
type Redis struct {
	client  redis.UniversalClient
	config  Config
	servers string
	keys    keys
	history historyTag
	metrics *metrics
	memory  *memory

	cache    *batcher
	limiter  *batcher
	bus      *batcher
	presence *batcher
	patient  *batcher // of all roles, for what is unhurried
	loads    loads
	trust    *trust
	drift    [talk.PresenceShards]atomic.Int64 // connections of this node that a shard had wrong when it was last told
	dirty    *dirty
	near     *near
	hearing  *hearing
	warmed   atomic.Int64 // nanoseconds; 0: not yet

	mu     sync.Mutex
	chores []func(context.Context) // done after each heartbeat; only ever appended to
	work   sync.WaitGroup          // what goes on behind the calls
	ended  context.Context
	end    context.CancelFunc
}

var _ talk.Cache = (*Redis)(nil)

func newRedis(client redis.UniversalClient, servers []string, config Config) (*Redis, error) {
	r := &Redis{
		client: client, config: config, servers: strings.Join(servers, ","),
		keys: keys{config.Prefix, tagOf(config.History)}, history: tagOf(config.History),
		loads: newLoads(config.Loads), dirty: newDirty(),
	}
	r.ended, r.end = context.WithCancel(context.Background())
	var err error
	if r.near, err = newNear(config.Near); err != nil {
		return r, err
	}
	r.trust, r.hearing = newTrust(r.near.forgetAll), newHearing(r)
	r.cache = r.role(RoleCache, r.distrust)
	r.limiter = r.role(RoleLimiter, r.trust.raise)
	r.bus = r.role(RoleBus, func() {})
	r.presence = r.role(RolePresence, func() {})
	// Who comes and goes while a trip is under way goes together with the next:
	// Redis does many of them for little more than one.
	r.presence.calls, r.presence.yields = 4*mostCalls, 16
	r.patient = r.batcher(RoleCache, newBreaker(nil), max(unhurriedTimeout, config.Timeout))
	for _, role := range []*batcher{r.cache, r.limiter, r.bus, r.presence} {
		role.patient = r.patient
	}
	if r.metrics, err = newMetrics(config.Meter, r); err != nil {
		return r, err
	}
	r.chore(r.memory.read)
	return r, nil
}

func (r *Redis) role(role Role, opened func()) *batcher {
	b := newBreaker(func() {
		r.config.Log.Warn("redis is away", "role", string(role), "servers", r.servers)
		r.metrics.opened(role)
		opened()
	})
	return r.batcher(role, b, r.config.Timeout)
}

func (r *Redis) batcher(role Role, b *breaker, timeout time.Duration) *batcher {
	where := metric.WithAttributeSet(attribute.NewSet(attribute.String("role", string(role))))
	made := &batcher{client: r.client, breaker: b, timeout: timeout, calls: mostCalls, took: func(ctx context.Context, took time.Duration) {
		r.metrics.trips.Record(ctx, took.Seconds(), where)
	}}
	_, apart := r.client.(*redis.ClusterClient)
	made.apart.Store(apart)
	return made
}

// Run keeps the connection watched until ctx ends. The cache is not used
// before Run has heard from Redis, unlinked what this process could not
// unlink before, and Config.Recover has returned nil; and again so after
// every outage: a write that was made while Redis was away, by whichever
// node, has then been told before anybody reads from Redis again.
func (r *Redis) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ended, cancel)()
	var recovery sync.WaitGroup
	defer recovery.Wait()
	recovery.Go(func() { r.hearing.subscription.run(ctx) })
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		r.beat(ctx)
		r.flush(ctx)
		r.doChores(ctx)
		if epoch, due := r.trust.recoveryDue(time.Now()); due {
			recovery.Go(func() { r.recover(ctx, epoch) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// chore adds something to do after each heartbeat.
func (r *Redis) chore(do func(context.Context)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.chores = append(r.chores, do)
}

func (r *Redis) doChores(ctx context.Context) {
	r.mu.Lock()
	chores := r.chores
	r.mu.Unlock()
	for _, do := range chores {
		do(ctx)
	}
}

// Close ends what goes on in the background, waits for it, and closes the
// connections.
func (r *Redis) Close() error {
	r.end()
	r.work.Wait()
	r.near.close()
	return r.client.Close()
}

// Usable reports whether reads go to Redis now.
func (r *Redis) Usable() bool {
	return r.trust.usable(time.Now()) && !r.cache.breaker.open()
}

// Warmed notes how long this process took to load what is asked for most.
func (r *Redis) Warmed(took time.Duration) { r.warmed.Store(int64(took)) }

// Hears reports whether this process hears what others forget, and so serves
// what is near.
func (r *Redis) Hears() bool { return r.near.now() < r.near.until.Load() }

// eachMaster runs ask on every server that holds keys. Without a Cluster
// there is one.
func (r *Redis) eachMaster(ctx context.Context, ask func(context.Context, redis.UniversalClient) error) error {
	if cluster, ok := r.client.(*redis.ClusterClient); ok {
		return cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error { return ask(ctx, master) })
	}
	return ask(ctx, r.client)
}

// Near is how many entries this process keeps in its own memory, and how many
// bytes they take by the estimate that bounds them.
func (r *Redis) Near() (entries int, bytes uint64) { return r.near.stats() }

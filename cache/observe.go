package cache

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// observePool tells of the connections that this process has to Redis, to all
// servers together.
func observePool(meter metric.Meter, r *Redis) error {
	connections, e1 := meter.Int64ObservableGauge("free2talk_redis_connections",
		metric.WithDescription("Connections of this node to Redis, by state: used or idle. Those of subscriptions are not among them."))
	timeouts, e2 := meter.Int64ObservableCounter("free2talk_redis_pool_timeouts",
		metric.WithDescription("How often no connection to Redis was free in time."))
	dialled, e3 := meter.Int64ObservableCounter("free2talk_redis_dialled",
		metric.WithDescription("How often a connection to Redis had to be made."))
	if err := errors.Join(e1, e2, e3); err != nil {
		return err
	}
	used, idle := stateIs("used"), stateIs("idle")
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		stats := r.client.PoolStats()
		o.ObserveInt64(connections, int64(stats.TotalConns)-int64(stats.IdleConns), used)
		o.ObserveInt64(connections, int64(stats.IdleConns), idle)
		o.ObserveInt64(timeouts, int64(stats.Timeouts))
		o.ObserveInt64(dialled, int64(stats.Misses))
		return nil
	}, connections, timeouts, dialled)
	return err
}

func stateIs(state string) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String("state", state)))
}

// observeDrift tells whether Redis counts the connections that there are.
func observeDrift(meter metric.Meter, r *Redis) error {
	_, err := meter.Int64ObservableGauge("free2talk_presence_drift",
		metric.WithDescription("Connections of this node that Redis had wrong when it was last told; 0 where it counts what is there."),
		metric.WithInt64Callback(func(_ context.Context, o metric.Int64Observer) error {
			var total int64
			for shard := range r.drift {
				total += r.drift[shard].Load()
			}
			o.Observe(total)
			return nil
		}))
	return err
}

// memoryEvery is how often Redis is asked what it holds: the answer is some
// kilobytes, and changes slowly.
const memoryEvery = 15 * time.Second

// memory is what all masters together hold, as they last said.
type memory struct {
	redis *Redis

	mu      sync.Mutex
	asked   time.Time
	known   bool // false for one that does not say, such as the embedded one
	used    int64
	most    int64 // 0: no limit
	evicted int64
}

func newMemory(r *Redis) *memory { return &memory{redis: r} }

// observeMemory tells of what is known of Redis's memory.
func observeMemory(meter metric.Meter, r *Redis) error {
	r.memory = newMemory(r)
	used, e1 := meter.Int64ObservableGauge("free2talk_redis_memory_used", metric.WithUnit("By"),
		metric.WithDescription("Memory that Redis uses, all masters together."))
	most, e2 := meter.Int64ObservableGauge("free2talk_redis_memory_limit", metric.WithUnit("By"),
		metric.WithDescription("Memory that Redis may use, all masters together; 0 where that has no limit."))
	evicted, e3 := meter.Int64ObservableCounter("free2talk_redis_evicted",
		metric.WithDescription("Keys that Redis dropped because its memory was full."))
	if err := errors.Join(e1, e2, e3); err != nil {
		return err
	}
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		m := r.memory
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.known {
			o.ObserveInt64(used, m.used)
			o.ObserveInt64(most, m.most)
			o.ObserveInt64(evicted, m.evicted)
		}
		return nil
	}, used, most, evicted)
	return err
}

// read asks all masters, once in a while.
func (m *memory) read(ctx context.Context) {
	m.mu.Lock()
	due := time.Since(m.asked) >= memoryEvery
	if due {
		m.asked = time.Now()
	}
	m.mu.Unlock()
	if !due {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, m.redis.config.Timeout)
	defer cancel()
	var mu sync.Mutex
	sum := map[string]int64{}
	answers := 0
	err := m.redis.eachMaster(ctx, func(ctx context.Context, master redis.UniversalClient) error {
		said, err := numbersOf(ctx, master)
		mu.Lock()
		defer mu.Unlock()
		for name, n := range said {
			sum[name] += n
		}
		if len(said) > 0 {
			answers++
		}
		return err
	})
	if err != nil || answers == 0 {
		return // the last answer stands: the breakers tell that Redis is away
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.known, m.used, m.most, m.evicted = true, sum["used_memory"], sum["maxmemory"], sum["evicted_keys"]
}

// numbersOf are the numbers that a server says of itself.
func numbersOf(ctx context.Context, master redis.UniversalClient) (map[string]int64, error) {
	numbers := map[string]int64{}
	for _, section := range []string{"memory", "stats"} {
		info, err := master.Info(ctx, section).Result()
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(info) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				numbers[name] = n
			}
		}
	}
	return numbers, nil
}

// observeNear tells what this process keeps itself.
func observeNear(meter metric.Meter, r *Redis) error {
	entries, e1 := meter.Int64ObservableGauge("free2talk_cache_near_entries", metric.WithDescription("Entries that this node keeps in its own memory."))
	size, e2 := meter.Int64ObservableGauge("free2talk_cache_near_size", metric.WithUnit("By"),
		metric.WithDescription("What the entries that this node keeps in its own memory take, by an estimate that errs upwards."))
	heard, e4 := meter.Int64ObservableGauge("free2talk_cache_near_heard", metric.WithDescription("1 while this node hears what others forget, and so serves what is near."))
	warmed, e5 := meter.Float64ObservableGauge("free2talk_cache_warming", metric.WithUnit("s"),
		metric.WithDescription("How long this node took, when it started, to load what is asked for most."))
	ahead, e3 := meter.Int64ObservableCounter("free2talk_cache_prefetch",
		metric.WithDescription("Entries that were fetched before anybody asked, by what came of it: used, wasted, or dropped since too many waited."))
	if err := errors.Join(e1, e2, e3, e4, e5); err != nil {
		return err
	}
	used, wasted, dropped := resultIs("used"), resultIs("wasted"), resultIs("dropped")
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		count, bytes := r.near.stats()
		o.ObserveInt64(entries, int64(count))
		o.ObserveInt64(size, int64(bytes))
		if took := r.warmed.Load(); took > 0 {
			o.ObserveFloat64(warmed, time.Duration(took).Seconds())
		}
		o.ObserveInt64(heard, number(r.Hears()))
		o.ObserveInt64(ahead, r.near.used.Load(), used)
		o.ObserveInt64(ahead, r.near.wasted.Load(), wasted)
		o.ObserveInt64(ahead, r.near.dropped.Load(), dropped)
		return nil
	}, entries, size, heard, warmed, ahead)
	return err
}

func resultIs(result string) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(attribute.String("result", result)))
}

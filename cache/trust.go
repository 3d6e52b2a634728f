package cache

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	beatEvery    = 250 * time.Millisecond
	beatLasts    = time.Second           // a node that heard nothing for longer counts the cache as away
	recoverFirst = 50 * time.Millisecond // after an attempt that failed; doubled with each more
	recoverEvery = time.Second           // at most
	recoverIn    = 30 * time.Second      // bounds one attempt
)

// trust is whether what Redis holds may be believed: it has answered a
// heartbeat that was sent less than a second ago, and since it was last away
// everything has been told that could not be told meanwhile.
type trust struct {
	mu         sync.Mutex
	whole      bool
	epoch      uint64    // raised whenever trust is lost
	beat       time.Time // when the last heartbeat that was answered was sent
	masters    string    // who answered it
	recovering bool
	next       time.Time     // no attempt to recover before
	wait       time.Duration // after the attempt that failed last
	changed    chan struct{} // closed when whole changes
	lost       func()        // called whenever trust is lost
}

func newTrust(lost func()) *trust { return &trust{changed: make(chan struct{}), lost: lost} }

func (t *trust) usable(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.whole && now.Sub(t.beat) > beatLasts {
		t.lose()
	}
	return t.whole
}

// lose is called with the lock held.
func (t *trust) lose() {
	t.epoch++
	t.set(false)
	t.lost()
}

func (t *trust) set(whole bool) {
	if t.whole == whole {
		return
	}
	t.whole = whole
	close(t.changed)
	t.changed = make(chan struct{})
}

// heard notes an answered heartbeat. What came back after a silence, or is
// not the same server any more, has lost what it was told meanwhile.
func (t *trust) heard(sent time.Time, masters string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if (t.whole || t.recovering) && (sent.Sub(t.beat) > beatLasts || masters != t.masters) {
		t.lose() // an attempt to recover that goes on has told another server
	}
	t.beat, t.masters = sent, masters
}

// age is how long ago the last answered heartbeat was sent, at most an hour.
func (t *trust) age(now time.Time) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return min(now.Sub(t.beat), time.Hour)
}

// recoveryDue reports whether it is time to recover, and claims the attempt.
func (t *trust) recoveryDue(now time.Time) (epoch uint64, due bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.whole || t.recovering || now.Before(t.next) || now.Sub(t.beat) > beatLasts {
		return 0, false
	}
	t.recovering = true
	return t.epoch, true
}

// recovered ends an attempt; it counts only where trust was not lost again
// while it lasted.
func (t *trust) recovered(epoch uint64, err error) (whole bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.recovering = false
	switch {
	case err != nil:
		t.wait = min(max(recoverFirst, 2*t.wait), recoverEvery)
		t.next = time.Now().Add(jitter(t.wait))
	case epoch == t.epoch:
		t.wait = 0
		t.set(true)
	}
	return t.whole
}

// distrust keeps reads away from Redis until it has recovered.
func (r *Redis) distrust() {
	r.trust.mu.Lock()
	defer r.trust.mu.Unlock()
	r.trust.lose()
}

// beat asks every master whether it is there, whether it can be written to, and
// whether it is still the same. It does not ask the breaker, and closes it where Redis answers.
func (r *Redis) beat(ctx context.Context) {
	sent := time.Now()
	bounded, cancel := context.WithTimeout(ctx, r.config.Timeout+r.config.dialTimeout())
	defer cancel()
	var mu sync.Mutex
	var masters []string
	number := r.hearing.begin(sent)
	err := r.eachMaster(bounded, func(ctx context.Context, master redis.UniversalClient) error {
		name, err := incarnation(ctx, master)
		if err == nil {
			err = r.writable(ctx, master)
		}
		if err == nil {
			err = r.hearing.beat(ctx, master, number, r.config.Timeout)
		}
		if err == nil {
			mu.Lock()
			masters = append(masters, name)
			mu.Unlock()
		}
		return err
	})
	if ctx.Err() != nil || err != nil && slept(sent, r.config.Timeout) {
		return // says nothing about Redis
	}
	r.cache.breaker.report(err != nil)
	if err == nil {
		slices.Sort(masters)
		r.trust.heard(sent, strings.Join(masters, " "))
	}
	r.hearing.told(number, len(masters), err == nil)
	for _, role := range []*batcher{r.limiter, r.bus, r.presence, r.patient} {
		switch {
		case len(masters) > 0: // one shard of a cluster serves what is in it
			role.breaker.hint()
		case err != nil: // who asks would wait for nothing
			role.breaker.trip()
		}
	}
}

// incarnation names a server's data: it is another one after a failover or a
// restart.
func incarnation(ctx context.Context, master redis.UniversalClient) (string, error) {
	info, err := master.Info(ctx, "replication").Result()
	if err != nil {
		if isFailure(err) {
			return "", err
		}
		return "", master.Ping(ctx).Err() // the embedded one has no such section, and no other incarnation
	}
	for line := range strings.Lines(info) {
		if id, ok := strings.CutPrefix(line, "master_replid:"); ok {
			return strings.TrimSpace(id), nil
		}
	}
	return "", nil
}

// scriptWritable is a write to no key: a master of a cluster takes a key only
// where it is its own. Servers too old to know the flags know no cluster of ours.
const scriptWritable = "#!lua flags=allow-oom\nreturn 1"

// writable reports whether a master refuses to be written to. It may still
// answer reads then, and pass messages on, but no node could make it forget what
// is no longer true. That its memory is full is no such reason.
func (r *Redis) writable(ctx context.Context, master redis.UniversalClient) error {
	var err error
	if _, cluster := r.client.(*redis.ClusterClient); cluster {
		err = master.Eval(ctx, scriptWritable, nil).Err()
	} else {
		err = master.Unlink(ctx, r.keys.nothing()).Err()
	}
	if isFailure(err) {
		return err
	}
	return nil
}

// recover makes Redis right again after it was away: what this process could
// not unlink, what it unlinked in the last minute (a failover may have lost
// that), and what Config.Recover finds untold.
func (r *Redis) recover(ctx context.Context, epoch uint64) {
	bounded, cancel := context.WithTimeout(ctx, recoverIn)
	defer cancel()
	bounded = unhurried(bounded)
	err := r.forgetAgain(bounded)
	if err == nil {
		err = r.config.Recover(bounded)
	}
	switch whole := r.trust.recovered(epoch, err); {
	case whole:
		r.config.Log.Info("redis is used", "servers", r.servers)
	case err != nil && ctx.Err() == nil:
		r.config.Log.Warn("redis is not used yet", "servers", r.servers, "error", err)
	}
}

// number counts the outages: what Redis knew before the last one may be lost.
func (t *trust) number() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.epoch
}

// raise notes an outage that says nothing about entries.
func (t *trust) raise() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.epoch++
}

package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/free2talk/free2talk/server/talk"
)

// flips hears who goes online and offline.
type flips struct {
	mu    sync.Mutex
	heard []string
	ready chan struct{}
	once  sync.Once
}

func newFlips() *flips { return &flips{ready: make(chan struct{})} }

// Flipped notes a flip.
func (f *flips) Flipped(user talk.UserID, online bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.heard = append(f.heard, fmt.Sprint(user, " ", online))
}

// Unsure is that flips are heard from now on.
func (f *flips) Unsure() { f.once.Do(func() { close(f.ready) }) }

func (f *flips) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.heard)
}

func TestConnections(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, where corner) {
		for name, test := range map[string]func(*testing.T, *Connections, *flips){
			"online while any connection is open":          anyConnection,
			"a grace, and none after a logout":             graces,
			"a dead node's people leave":                   deadNodes,
			"what Redis lost is put right, and not before": lostReports,
			"one key that Redis lost":                      lostKeys,
			"nodes that nobody knows are swept":            unknownNodes,
			"a node that lives now and then is not swept":  unsteadyNodes,
			"what comes twice or at once counts once":      twiceAtOnce,
			"what comes while its node reports stays":      lateReports,
			"a node of very many is put right too":         longReports,
			"what a count does not tell is put right too":  equalReports,
			"people are listed page by page":               pages,
		} {
			t.Run(name, func(t *testing.T) {
				where := where
				where.prefix += strings.ReplaceAll(name, " ", "_") + ":"
				f := newFlips()
				c := NewConnections(where.open(t), f)
				ctx, stop := context.WithCancel(t.Context())
				var run sync.WaitGroup
				run.Go(func() { c.Run(ctx) })
				t.Cleanup(func() {
					stop()
					run.Wait()
				})
				<-f.ready
				test(t, c, f)
			})
		}
	})
}

// whole has node report nothing in every shard, as the only one that lives.
func whole(t *testing.T, c *Connections, node string, own ...talk.Connection) {
	t.Helper()
	for shard := range talk.PresenceShards {
		var of []talk.Connection
		for _, conn := range own {
			if talk.PresenceShard(conn.User) == shard {
				of = append(of, conn)
			}
		}
		for range 2 { // the first may put Redis right
			_, err := c.Report(t.Context(), shard, node, []string{node}, of)
			check(t, err)
		}
	}
}

func online(t *testing.T, c *Connections, user talk.UserID) (there, known bool) {
	t.Helper()
	found, err := c.Online(t.Context(), []talk.UserID{user})
	check(t, err)
	there, known = found[user]
	return there, known
}

// expired takes everybody offline whose grace is over.
func expired(t *testing.T, c *Connections) (users []talk.UserID) {
	t.Helper()
	for shard := range talk.PresenceShards {
		gone, err := c.Expire(t.Context(), shard)
		check(t, err)
		users = append(users, gone...)
	}
	return users
}

func heardSoon(t *testing.T, f *flips, want ...string) {
	t.Helper()
	eventually(t, func() bool { return slices.Equal(f.all(), want) })
}

func anyConnection(t *testing.T, c *Connections, f *flips) {
	one, two := talk.Connection{User: "ada", ID: "1"}, talk.Connection{User: "ada", ID: "2"}
	check(t, c.Open(t.Context(), "n1", one))
	check(t, c.Open(t.Context(), "n2", two))
	left, err := c.Close(t.Context(), "n1", one, time.Hour)
	check(t, err)
	equal(t, "left", left, 1)
	again, err := c.Close(t.Context(), "n1", one, time.Hour) // it is not there any more
	check(t, err)
	equal(t, "left after closing again", again, 1)
	left, err = c.Close(t.Context(), "n2", two, time.Hour)
	check(t, err)
	equal(t, "left", left, 0)
	heardSoon(t, f, "ada true")
}

func graces(t *testing.T, c *Connections, f *flips) {
	whole(t, c, "n1")
	conn := talk.Connection{User: "ada", ID: "1"}
	check(t, c.Open(t.Context(), "n1", conn))
	_, err := c.Close(t.Context(), "n1", conn, time.Hour)
	check(t, err)
	if there, known := online(t, c, "ada"); !there || !known {
		t.Errorf("within the grace: %v, known %v", there, known)
	}
	is, err := c.Connected(t.Context(), []talk.UserID{"ada"})
	check(t, err)
	equal(t, "connected within the grace", fmt.Sprint(is), "map[ada:false]")
	equal(t, "expired within the grace", len(expired(t, c)), 0)
	leaves(t, c, "ada", time.Hour)
	check(t, c.Open(t.Context(), "n1", conn))
	leaves(t, c, "ada", -1)
	check(t, c.Open(t.Context(), "n2", talk.Connection{User: "ada", ID: "2"}))
	_, err = c.Close(t.Context(), "n1", conn, time.Minute)
	check(t, err)
	leaves(t, c, "ada", -1)
	_, err = c.Close(t.Context(), "n2", talk.Connection{User: "ada", ID: "2"}, time.Minute)
	check(t, err)
	leaves(t, c, "ada", time.Minute) // counted from when the last connection went
	check(t, c.Open(t.Context(), "n1", conn))
	_, err = c.Close(t.Context(), "n1", conn, time.Millisecond)
	check(t, err)
	eventually(t, func() bool { return len(expired(t, c)) == 1 })
	heardSoon(t, f, "ada true", "ada false")
	check(t, c.Open(t.Context(), "n1", conn))
	_, err = c.Close(t.Context(), "n1", conn, 0)
	check(t, err)
	if there, _ := online(t, c, "ada"); there {
		t.Error("online after a logout")
	}
	heardSoon(t, f, "ada true", "ada false", "ada true", "ada false")
}

// leaves checks what is left of somebody's grace, to ten seconds; less than none
// where they have a connection.
func leaves(t *testing.T, c *Connections, user talk.UserID, want time.Duration) {
	t.Helper()
	leaving, err := c.Leaving(t.Context(), []talk.UserID{user})
	check(t, err)
	left, gone := leaving[user]
	if gone != (want >= 0) || gone && (left > want || left < want-10*time.Second) {
		t.Errorf("%s leaves in %v (%t), want %v", user, left, gone, want)
	}
}

func deadNodes(t *testing.T, c *Connections, f *flips) {
	conns := map[talk.UserID]talk.Connection{}
	for i := range 150 {
		conn := talk.Connection{User: talk.UserID(fmt.Sprint("user", i)), ID: "1"}
		conns[conn.User] = conn
		check(t, c.Open(t.Context(), "dead", conn))
	}
	check(t, c.Open(t.Context(), "n1", talk.Connection{User: "user0", ID: "2"}))
	whole(t, c, "n1", talk.Connection{User: "user0", ID: "2"})
	var last []talk.UserID
	for shard := range talk.PresenceShards {
		for more := true; more; {
			var users []talk.UserID
			var err error
			users, more, err = c.Sweep(t.Context(), shard, "dead", 0)
			check(t, err)
			last = append(last, users...)
		}
	}
	equal(t, "whose last connection it was", len(last), 149)
	if err := c.Open(t.Context(), "dead", conns["user1"]); !errors.Is(err, talk.ErrNodeSwept) {
		t.Errorf("a swept node opens: %v", err)
	}
	left, err := c.Close(t.Context(), "dead", conns["user1"], time.Hour)
	check(t, err)
	equal(t, "left of whom another node swept", left, -1)
	if _, err := c.Report(t.Context(), 0, "dead", []string{"dead"}, nil); !errors.Is(err, talk.ErrNodeSwept) {
		t.Errorf("a swept node reports: %v", err)
	}
	whole(t, c, "n1", talk.Connection{User: "user0", ID: "2"})
	gone := 0
	eventually(t, func() bool { gone += len(expired(t, c)); return gone == 149 })
	eventually(t, func() bool { return len(f.all()) == 150+149 })
}

func lostReports(t *testing.T, c *Connections, f *flips) {
	conn := talk.Connection{User: "ada", ID: "1"}
	shard := talk.PresenceShard("ada")
	check(t, c.Open(t.Context(), "n1", conn))
	if _, known := online(t, c, "ada"); known {
		t.Error("a shard that nobody has reported to is read")
	}
	is, err := c.Report(t.Context(), shard, "n1", []string{"n1", "n2"}, []talk.Connection{conn})
	check(t, err)
	equal(t, "whole before n2 has reported", is, false)
	is, err = c.Report(t.Context(), shard, "n2", []string{"n1", "n2"}, nil)
	check(t, err)
	equal(t, "whole", is, true)
	for _, key := range []string{"counts", "node:n1", "online", "leaving", "whole", "reported"} { // as FLUSHALL does
		check(t, raw(c.redis).Del(t.Context(), c.redis.keys.presence(shard)+key).Err())
	}
	if _, known := online(t, c, "ada"); known {
		t.Error("a shard that lost everything is read")
	}
	equal(t, "expired then", len(expired(t, c)), 0)
	for round := range 3 {
		for _, node := range []string{"n1", "n2"} {
			own := []talk.Connection{conn}
			if node == "n2" {
				own = nil
			}
			is, err = c.Report(t.Context(), shard, node, []string{"n1", "n2"}, own)
			check(t, err)
		}
		if round == 2 && !is {
			t.Error("not whole again")
		}
	}
	if there, known := online(t, c, "ada"); !there || !known {
		t.Errorf("then she is online %v, known %v", there, known)
	}
	for _, line := range f.all() {
		equal(t, "flip", line, "ada true")
	}
}

// Redis evicts one key of a shard, and somebody comes before any node reports.
// Nobody is taken for gone, and all are known again once each node has reported.
func lostKeys(t *testing.T, c *Connections, f *flips) {
	shard := talk.PresenceShard("ada")
	same := func(prefix string) talk.UserID {
		for i := 0; ; i++ {
			if user := talk.UserID(fmt.Sprint(prefix, i)); talk.PresenceShard(user) == shard {
				return user
			}
		}
	}
	bob, late := talk.Connection{User: same("bob"), ID: "1"}, talk.Connection{User: same("late"), ID: "1"}
	one, two := talk.Connection{User: "ada", ID: "1"}, talk.Connection{User: "ada", ID: "2"}
	own := map[string][]talk.Connection{"n1": {one}, "n2": {two, bob}}
	report := func() (is bool) {
		for _, node := range []string{"n1", "n2"} {
			var err error
			is, err = c.Report(t.Context(), shard, node, []string{"n1", "n2"}, own[node])
			check(t, err)
		}
		return is
	}
	for node, all := range own {
		for _, conn := range all {
			check(t, c.Open(t.Context(), node, conn))
		}
	}
	for _, key := range []string{"counts", "node:n1", "node:n2", "online", "leaving"} {
		report()
		equal(t, "whole", report(), true)
		check(t, raw(c.redis).Unlink(t.Context(), c.redis.keys.presence(shard)+key).Err())
		check(t, c.Open(t.Context(), "n1", late))
		is, err := c.Connected(t.Context(), []talk.UserID{"ada", bob.User})
		check(t, err)
		for user, there := range is {
			if !there {
				t.Errorf("without %s %s counts as gone", key, user)
			}
		}
		left, err := c.Close(t.Context(), "n1", late, 0)
		check(t, err)
		equal(t, "left of who came meanwhile", left, 0)
		report()
		report()
		equal(t, "whole again without "+key, report(), true)
		leaves(t, c, "ada", -1)
		leaves(t, c, bob.User, -1)
	}
	left, err := c.Close(t.Context(), "n1", one, time.Hour)
	check(t, err)
	equal(t, "left of ada's", left, 1)
	for _, line := range f.all() {
		if strings.HasPrefix(line, "ada") || strings.HasPrefix(line, string(bob.User)) {
			equal(t, "flip", strings.HasSuffix(line, "true"), true)
		}
	}
}

// Redis has connections of a node that does not live and was swept long ago, or
// so everybody thinks: a replica took over that had not heard of it.
func unknownNodes(t *testing.T, c *Connections, _ *flips) {
	shard := talk.PresenceShard("ada")
	one, two := talk.Connection{User: "ada", ID: "1"}, talk.Connection{User: "ada", ID: "2"}
	check(t, c.Open(t.Context(), "old", one))
	check(t, c.Open(t.Context(), "n1", two))
	report := func(own ...talk.Connection) {
		t.Helper()
		for range 2 * compareEvery {
			_, err := c.Report(t.Context(), shard, "n1", []string{"n1"}, own)
			check(t, err)
		}
	}
	report(two)
	leaves(t, c, "ada", -1)
	left, err := c.Close(t.Context(), "n1", two, time.Hour)
	check(t, err)
	equal(t, "left", left, 0)
	check(t, c.Open(t.Context(), "older", one))
	report()
	leaves(t, c, "ada", lostGrace)
	if err := c.Open(t.Context(), "old", one); !errors.Is(err, talk.ErrNodeSwept) {
		t.Errorf("the old node opens: %v", err)
	}
}

// A node that lives is not always among those who do, as where the database
// answers now and then.
func unsteadyNodes(t *testing.T, c *Connections, _ *flips) {
	shard := talk.PresenceShard("ada")
	one, two := talk.Connection{User: "ada", ID: "1"}, talk.Connection{User: "ada", ID: "2"}
	check(t, c.Open(t.Context(), "n1", one))
	check(t, c.Open(t.Context(), "n2", two))
	for n := range 5 * compareEvery {
		live := []string{"n1"}
		if n%10 == 0 {
			live = append(live, "n2")
		}
		_, err := c.Report(t.Context(), shard, "n1", live, []talk.Connection{one})
		check(t, err)
	}
	left, err := c.Close(t.Context(), "n2", two, time.Hour)
	check(t, err)
	equal(t, "left when n2 takes its own away", left, 1)
	check(t, c.Open(t.Context(), "n2", two))
}

// What comes to Redis twice, or at once with another of the same person, counts
// once.
func twiceAtOnce(t *testing.T, c *Connections, f *flips) {
	whole(t, c, "n1")
	one, two := talk.Connection{User: "ada", ID: "1"}, talk.Connection{User: "ada", ID: "2"}
	do := func(calls ...*call) (answers []int64) {
		t.Helper()
		check(t, c.redis.presence.do(t.Context(), calls...))
		for _, each := range calls {
			n, err := each.replied()
			check(t, err)
			answers = append(answers, n)
		}
		return answers
	}
	opening := func(conn talk.Connection) *call { return c.opening("n1", conn) }
	closing := func(conn talk.Connection) *call { return c.closing("n1", conn, 0) }
	do(opening(one), opening(one), opening(two))
	equal(t, "opened again", fmt.Sprint(do(opening(two))), "[0]")
	leaves(t, c, "ada", -1)
	equal(t, "closed", fmt.Sprint(do(closing(one), closing(one))), "[1 1]")
	equal(t, "closed", fmt.Sprint(do(closing(one), closing(two), closing(two))), "[1 0 -1]")
	equal(t, "closed again", fmt.Sprint(do(closing(two))), "[-1]")
	eventually(t, func() bool { return slices.Equal(slices.Compact(f.all()), []string{"ada true", "ada false"}) })
	is, err := c.Report(t.Context(), talk.PresenceShard("ada"), "n1", []string{"n1"}, nil)
	check(t, err)
	equal(t, "whole with none of them", is, true)
}

// A node counts its connections, another is opened, and the count reaches Redis.
func lateReports(t *testing.T, c *Connections, _ *flips) {
	shard := talk.PresenceShard("ada")
	early, late := talk.Connection{User: "ada", ID: "1"}, talk.Connection{User: "ada", ID: "2"}
	report := func(own ...talk.Connection) {
		t.Helper()
		_, err := c.Report(t.Context(), shard, "n1", []string{"n1"}, own)
		check(t, err)
	}
	report()
	check(t, c.Open(t.Context(), "n1", early))
	report() // counted before
	leaves(t, c, "ada", -1)
	report(early)
	check(t, c.Open(t.Context(), "n1", late))
	report(early)
	report(early, late)
	report(early) // another one is late, not the same again
	left, err := c.Close(t.Context(), "n1", early, time.Hour)
	check(t, err)
	equal(t, "left", left, 1)
	report() // for the second time without it: it is gone, and nobody said so
	leaves(t, c, "ada", lostGrace)
}

// A node has more connections than Redis tells in one step; Redis loses one of
// them, and has one that the node does not know.
func longReports(t *testing.T, c *Connections, _ *flips) {
	shard := talk.PresenceShard("ada")
	own := []talk.Connection{{User: "ada", ID: "1"}}
	for i := 0; len(own) < 2*scanCount+2; i++ {
		if user := talk.UserID(fmt.Sprint("user", i)); talk.PresenceShard(user) == shard {
			own = append(own, talk.Connection{User: user, ID: "1"})
		}
	}
	stranger := own[len(own)-1]
	own = own[:len(own)-1]
	report := func() bool {
		t.Helper()
		whole, err := c.Report(t.Context(), shard, "n1", []string{"n1"}, own)
		check(t, err)
		return whole
	}
	report()
	equal(t, "whole", report(), true)
	set := c.redis.keys.presence(shard) + "node:n1"
	check(t, raw(c.redis).SRem(t.Context(), set, "ada 1").Err())
	report()
	equal(t, "whole once she is put back", report(), true)
	check(t, raw(c.redis).SAdd(t.Context(), set, string(stranger.User)+" 1").Err())
	report()
	report()
	equal(t, "whole once the stranger is taken away", report(), true)
	known, err := c.members(t.Context(), set)
	check(t, err)
	equal(t, "known", len(known), len(own))
	_, there := known["ada 1"]
	equal(t, "ada is known", there, true)
}

// Redis loses one connection of a node, and that another ended: it counts as many as
// the node.
func equalReports(t *testing.T, c *Connections, _ *flips) {
	shard := talk.PresenceShard("ada")
	stranger := talk.Connection{ID: "1"}
	for i := 0; stranger.User == "" || talk.PresenceShard(stranger.User) != shard; i++ {
		stranger.User = talk.UserID(fmt.Sprint("user", i))
	}
	check(t, c.Open(t.Context(), "n1", stranger))
	for range compareEvery + 1 {
		_, err := c.Report(t.Context(), shard, "n1", []string{"n1"}, []talk.Connection{{User: "ada", ID: "1"}})
		check(t, err)
	}
	leaves(t, c, "ada", -1)
	leaves(t, c, stranger.User, lostGrace)
}

func pages(t *testing.T, c *Connections, _ *flips) {
	want := map[talk.UserID]bool{}
	for i := range 40 {
		user := talk.UserID(fmt.Sprintf("user%02d", i))
		want[user] = true
		check(t, c.Open(t.Context(), "n1", talk.Connection{User: user, ID: "1"}))
	}
	n, err := c.Count(t.Context())
	check(t, err)
	equal(t, "count", n, 40)
	for shard := range talk.PresenceShards {
		for after := talk.UserID(""); ; {
			page, err := c.Page(t.Context(), shard, after, 2)
			check(t, err)
			if len(page) == 0 {
				break
			}
			for _, user := range page {
				if !want[user] {
					t.Errorf("%s is listed twice, or was never there", user)
				}
				delete(want, user)
			}
			after = page[len(page)-1]
		}
	}
	equal(t, "not listed", len(want), 0)
}

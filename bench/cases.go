package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/sync/errgroup"

	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/server/talk"
)

// The methods that are called.
const (
	getRoom   = "/free2talk.v1.RoomService/GetRoom"
	listRooms = "/free2talk.v1.RoomService/ListRooms"
	joinRoom  = "/free2talk.v1.RoomService/JoinRoom"
	leaveRoom = "/free2talk.v1.RoomService/LeaveRoom"
	login     = "/free2talk.v1.AuthService/Login"
)

const manyCallers = 10_000

// hot is how many rooms are read again and again.
const hot = 100

// few are the callers at once of what is slow: of log-ins, one hash after the
// other.
const few = 8

// introduce has every caller call once, so that what is measured is a server
// that has been running: their tokens are verified, and remembered.
func (c *crowd) introduce(p *process) error {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	defer client.CloseIdleConnections()
	var all errgroup.Group
	all.SetLimit(connections)
	for n := range len(c.tokens) {
		all.Go(func() error { return call(client, p.url, c.hot(0, int64(n))) })
	}
	return all.Wait()
}

func (r *run) crowd(name string, rooms, callers int) (*crowd, error) {
	dsn, err := r.database(name)
	if err != nil {
		return nil, err
	}
	return newCrowd(r.ctx, dsn, rooms, callers)
}

func (c *crowd) token(n int64) string { return c.tokens[n%int64(len(c.tokens))] }

func (c *crowd) list(_ int, n int64) request {
	filters := []string{`{}`, `{"language":"es"}`, `{"level":"LEVEL_BEGINNER"}`, `{"orderBy":"ORDER_BY_NEWEST"}`, `{"language":"ja","level":"LEVEL_ADVANCED"}`}
	return request{path: listRooms, body: filters[n%int64(len(filters))], token: c.token(n)}
}

// writes measures joins and leaves over the wire. Goal G8 compares the store
// with bare pgx: see store.
func (r *run) writes() error {
	noop, err := r.noop()
	if err != nil {
		return err
	}
	defer noop.stop()
	c, err := r.crowd("writes", 1_000, 2*connections)
	if err != nil {
		return err
	}
	p, err := r.shipped(c, "writes:")
	if err != nil {
		return err
	}
	defer p.stop()
	leave := request{path: leaveRoom, body: `{"roomId":"01a20543-7a88-715b-b71f-2d02a3eef732"}`}
	got, err := r.turns(
		variant{name: "noop", on: noop, next: func(int, int64) request { return leave }},
		variant{name: "spread", on: p, next: c.comeAndGo(c.rooms[:len(c.rooms)-1], 0)},
		variant{name: "one room", on: p, next: c.comeAndGo(c.rooms[len(c.rooms)-1:], connections), callers: roomSeats - seatedPeople},
	)
	if err != nil {
		return err
	}
	r.table.ratio("join and leave, spread over 1,000 rooms: CPU ÷ no-op", "–", got["spread"], got["noop"])
	r.table.ratio("join and leave, all in one room: CPU ÷ no-op", "–", got["one room"], got["noop"])
	return nil
}

// comeAndGo has each worker join and leave in turn, always as the same person:
// the callers from a number on.
func (c *crowd) comeAndGo(rooms []string, from int) func(int, int64) request {
	seated := make([]bool, connections) // each worker has its own
	return func(worker int, _ int64) request {
		path := joinRoom
		if seated[worker] {
			path = leaveRoom
		}
		seated[worker] = !seated[worker]
		return request{path: path, body: fmt.Sprintf(`{"roomId":%q}`, rooms[worker%len(rooms)]), token: c.tokens[from+worker]}
	}
}

// password is everybody's in the measured log-ins.
const password = "seven blue kettles"

// logins measures goal G15.
func (r *run) logins() error {
	c, err := r.crowd("logins", 1_000, 1_000)
	if err != nil {
		return err
	}
	if err := c.givePasswords(r); err != nil {
		return err
	}
	p, err := r.shipped(c, "logins:")
	if err != nil {
		return err
	}
	defer p.stop()
	// Everybody comes from an address of their own, as people do: those of one
	// address take turns, five at a time.
	enter := func(_ int, n int64) request {
		who := n % 1_000
		return request{
			path: login, from: fmt.Sprintf("10.0.%d.%d", who/250, who%250),
			body: fmt.Sprintf(`{"username":"person-%d","password":%q}`, 1_000*seatedPeople+who, password),
		}
	}
	idle, err := r.turns(variant{name: "GetRoom", on: p, next: c.hot})
	if err != nil {
		return err
	}
	var hashes []float64
	var meanwhile []figures
	var over []int64
	for range r.rounds {
		hash, err := bareHash(r.turn)
		if err != nil {
			return err
		}
		hashes = append(hashes, hash)
		m, grown, err := r.loginsTurn(p, c, enter)
		if err != nil {
			return err
		}
		meanwhile, over = append(meanwhile, m), append(over, grown)
	}
	bare := median(hashes)
	alone, err := r.turns(variant{name: "log-ins", on: p, next: enter, callers: few})
	if err != nil {
		return err
	}
	r.table.add("G15 log-ins: CPU of a bare argon2id ÷ CPU of a log-in", "≥ 0.95", bare/alone["log-ins"].cpuPerCall(), alone["log-ins"])
	r.table.plain("G15 256 log-ins at once: memory over idle, MiB", "≤ 150", float64(median(over))/(1<<20))
	r.table.add("G15 GetRoom's rate while 256 log in ÷ idle", "≥ 0.4", medianOf(meanwhile).rate()/idle["GetRoom"].rate(), medianOf(meanwhile))
	return nil
}

// givePasswords sets one hash for all callers.
func (c *crowd) givePasswords(r *run) error {
	hash, err := talk.NewPasswords(0).Hash(r.ctx, password)
	if err != nil {
		return err
	}
	store, err := db.Open(r.ctx, db.Config{URL: c.dsn})
	if err != nil {
		return err
	}
	_, err = store.DB().NewRaw("UPDATE users SET password_hash = ?", hash).Exec(r.ctx)
	return errors.Join(err, store.Close())
}

// bareHash is the CPU time of one hash with nothing around it, in µs.
func bareHash(d time.Duration) (float64, error) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	salt := make([]byte, 16)
	before, err := ownCPU()
	if err != nil {
		return 0, err
	}
	n := 0
	for began := time.Now(); time.Since(began) < d; n++ {
		argon2.IDKey([]byte(password), salt, 2, 19<<10, 1, 32)
	}
	after, err := ownCPU()
	return (after - before).Seconds() * 1e6 / float64(n), err
}

// loginsTurn has 256 people log in at once, again and again, while others
// read rooms, and watches the memory.
func (r *run) loginsTurn(p *process, c *crowd, enter func(int, int64) request) (meanwhile figures, grown int64, err error) {
	idle, err := p.memory()
	if err != nil {
		return meanwhile, 0, err
	}
	var both sync.WaitGroup
	var e1, e2 error
	ended := make(chan struct{})
	both.Go(func() { _, e1 = drive(r.ctx, p, 256, r.turn, enter) })
	both.Go(func() { meanwhile, e2 = drive(r.ctx, p, connections, r.turn, c.hot) })
	go func() { both.Wait(); close(ended) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			if e2 == nil && meanwhile.failed > 0 {
				e2 = fmt.Errorf("GetRoom while people log in: %d failed: %s", meanwhile.failed, meanwhile.sample)
			}
			return meanwhile, grown, errors.Join(e1, e2)
		case <-tick.C:
			now, err := p.memory()
			if err != nil {
				return meanwhile, grown, err
			}
			grown = max(grown, now-idle)
		}
	}
}

// starts measures goal G16.
func (r *run) starts() error { return errors.Join(r.firstStarts(), r.warmStarts()) }

// warmStarts is from exec until a node is ready, having warmed what many open
// rooms are.
func (r *run) warmStarts() error {
	rooms := r.rooms[len(r.rooms)-1]
	c, err := r.crowd("starts", rooms, 1)
	if err != nil {
		return err
	}
	var took []float64
	for n := range r.rounds {
		began := time.Now()
		p, err := r.shipped(c, fmt.Sprintf("starts-%d:", n))
		if err != nil {
			return err
		}
		err = p.ready(r.ctx)
		took = append(took, time.Since(began).Seconds())
		if err := errors.Join(err, p.stop()); err != nil {
			return err
		}
	}
	r.table.plain(fmt.Sprintf("G16 ready after warming %d rooms, seconds", rooms), "≤ 5", median(took))
	return nil
}

// firstStarts is from exec to the first answer, on the embedded default, with an
// empty data directory.
func (r *run) firstStarts() error {
	var took []float64
	for n := range max(5, r.rounds) {
		data := filepath.Join(r.dir, fmt.Sprintf("data-%d-%d", n, rand.Int()))
		began := time.Now()
		p, err := start(r.ctx, filepath.Join(r.dir, "free2talk"), nil, "--data-dir", data)
		if err != nil {
			return err
		}
		took = append(took, time.Since(began).Seconds())
		if err := errors.Join(p.stop(), os.RemoveAll(data)); err != nil {
			return err
		}
	}
	r.table.plain("G16 first answer after start, embedded, seconds", "≤ 1", median(took))
	return nil
}

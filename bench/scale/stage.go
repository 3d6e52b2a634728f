package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/server/talk"
)

// stage is one node on a Postgres and a Redis of its own, and people.
type stage struct {
	dsn     string
	count   int
	store   *db.Store
	redis   *redis.Client
	node    *exec.Cmd
	log     bytes.Buffer // of the node, read once it has ended
	ended   chan error
	dir     string
	url     string
	metrics string
	callers []*http.Client
	tokens  []string
	rooms   []string
	figures figures
	base    base
	hangUp  context.CancelFunc
}

func newStage(ctx context.Context, dsn, redisURL string, people int) (*stage, error) {
	s := &stage{dsn: dsn, count: people, ended: make(chan error, 1), hangUp: func() {}}
	options, err := redis.ParseURL(redisURL)
	if err != nil {
		return nil, err
	}
	s.redis = redis.NewClient(options)
	if s.store, err = db.Open(ctx, db.Config{URL: dsn}); err != nil {
		return nil, err
	}
	if _, err := s.store.Migrate(ctx, db.Up); err != nil {
		return nil, err
	}
	return s, s.start(ctx, redisURL)
}

// start builds the node and runs it.
func (s *stage) start(ctx context.Context, redisURL string) error {
	dir, err := os.MkdirTemp("", "free2talk-scale-")
	if err != nil {
		return err
	}
	s.dir = dir
	program := filepath.Join(dir, "free2talk")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "./cmd/free2talk").CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	clients, err := freeAddress()
	if err != nil {
		return err
	}
	metrics, err := freeAddress()
	if err != nil {
		return err
	}
	s.url, s.metrics = "http://"+clients, "http://"+metrics
	s.node = exec.Command(program, "--listen", clients, "--metrics-listen", metrics, "--log-level", "warn", "--unattended", "0",
		"--database-url", s.dsn, "--redis-url", redisURL, "--rate-limits", "room_create=off,message=off,api=100000/15m")
	s.node.Stderr = &s.log
	if err := s.node.Start(); err != nil {
		return err
	}
	go func() { s.ended <- s.node.Wait() }()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		reply, err := http.Get(s.url + "/readyz")
		if err == nil {
			_ = reply.Body.Close()
			if reply.StatusCode == http.StatusOK {
				return nil
			}
		}
		if time.Now().After(deadline) {
			return errors.Join(fmt.Errorf("the node is not ready: %w", err), s.node.Process.Kill(), <-s.ended, errors.New(s.log.String()))
		}
	}
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func (s *stage) close() error {
	s.hangUp()
	err := s.node.Process.Signal(syscall.SIGTERM)
	return errors.Join(err, <-s.ended, s.redis.Close(), s.store.Close(), os.RemoveAll(s.dir))
}

// moment is what everything has used so far.
type moment struct {
	at             time.Time
	cpu, redisCPU  time.Duration
	memory         int64 // of the node, as the kernel sees it
	inUse          int64 // of that, what Go has on its heap and stacks
	redisMemory    int64
	redisCommands  int64
	redisBytes     int64 // over the network, both ways
	transactions   int64
	walBytes       int64
	databaseOnDisk int64
}

// now measures. The node's garbage is not its memory: it is collected first.
func (s *stage) now(ctx context.Context) (moment, error) {
	var m moment
	reply, err := http.Get(s.metrics + "/debug/pprof/heap?gc=1")
	if err != nil {
		return m, err
	}
	_ = reply.Body.Close()
	m.at = time.Now()
	if m.memory, err = s.resident(); err != nil {
		return m, err
	}
	if m.inUse, err = s.inUse(); err != nil {
		return m, err
	}
	if m.cpu, err = s.cpu(); err != nil {
		return m, err
	}
	info, err := s.redis.Info(ctx, "memory", "stats", "cpu").Result()
	if err != nil {
		return m, err
	}
	said := map[string]float64{}
	for line := range strings.Lines(info) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			said[name] = n
		}
	}
	m.redisMemory, m.redisCommands = int64(said["used_memory_dataset"]), int64(said["total_commands_processed"])
	m.redisBytes = int64(said["total_net_input_bytes"] + said["total_net_output_bytes"])
	m.redisCPU = time.Duration((said["used_cpu_user"] + said["used_cpu_sys"]) * float64(time.Second))
	err = s.store.DB().NewRaw(`
		SELECT xact_commit, pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint, pg_database_size(current_database())
		FROM pg_stat_database
		WHERE datname = current_database()`).Scan(ctx, &m.transactions, &m.walBytes, &m.databaseOnDisk)
	return m, err
}

// between is what was used meanwhile, by each of n.
func between(before, after moment, n int) moment {
	each := func(d int64) int64 { return d / int64(n) }
	return moment{
		cpu: (after.cpu - before.cpu) / time.Duration(n), redisCPU: (after.redisCPU - before.redisCPU) / time.Duration(n),
		memory: each(after.memory - before.memory), inUse: each(after.inUse - before.inUse), redisMemory: each(after.redisMemory - before.redisMemory),
		redisCommands: after.redisCommands - before.redisCommands, redisBytes: each(after.redisBytes - before.redisBytes),
		transactions: after.transactions - before.transactions, walBytes: each(after.walBytes - before.walBytes),
		databaseOnDisk: each(after.databaseOnDisk - before.databaseOnDisk),
	}
}

const clockTick = 10 * time.Millisecond // USER_HZ, 100 on Linux

func (s *stage) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.node.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * clockTick, err
}

// inUse is what Go has on its heap and its stacks.
func (s *stage) inUse() (int64, error) {
	reply, err := http.Get(s.metrics + "/metrics")
	if err != nil {
		return 0, err
	}
	defer reply.Body.Close()
	var total float64
	for lines := bufio.NewScanner(reply.Body); lines.Scan(); {
		for _, name := range []string{"go_memstats_heap_alloc_bytes ", "go_memstats_stack_inuse_bytes "} {
			if value, ok := strings.CutPrefix(lines.Text(), name); ok {
				n, err := strconv.ParseFloat(value, 64)
				if err != nil {
					return 0, err
				}
				total += n
			}
		}
	}
	return int64(total), nil
}

// resident is what of the node the kernel holds in memory.
func (s *stage) resident() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.node.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.Fields(kib)[0], 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("no VmRSS")
}

// The people are numbered: their ids are the number, in the shape of a UUID.
const (
	insertPeople = `
		INSERT INTO users (id, email, username, display_name, created_at, updated_at)
		SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'person-' || n || '@example.org', 'person-' || n, 'Person ' || n, now(), now()
		FROM generate_series(0, ? - 1) AS n`
	insertSessions = `
		INSERT INTO sessions (id, user_id, generation, confirmed_generation, rotated_at, idle_expires_at, absolute_expires_at, created_at, last_used_at, user_agent, ip)
		SELECT ('00000000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid, ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
			1, 1, now(), now() + interval '7 days', now() + interval '90 days', now() AS made, now() AS used, 'Mozilla/5.0 (X11; Linux x86_64) of somebody', '203.0.113.7'
		FROM generate_series(0, ? - 1) AS n`
)

// sign makes everybody's access tokens, with the keys of the database.
func (s *stage) sign(ctx context.Context) error {
	now, err := s.store.Now(ctx)
	if err != nil {
		return err
	}
	keys, err := talk.NewKeyring(s.store, nil)
	if err != nil {
		return err
	}
	if err := keys.Load(ctx, now); err != nil {
		return err
	}
	tokens := talk.NewTokens(keys, func() time.Time { return now }, "free2talk", "free2talk")
	for n := range s.count {
		user, session := talk.UserID(fmt.Sprintf("00000000-0000-7000-8000-%012x", n)), talk.SessionID(fmt.Sprintf("00000000-0000-7000-9000-%012x", n))
		token, _, err := tokens.Access(user, session, 1, now)
		if err != nil {
			return err
		}
		s.tokens = append(s.tokens, token)
	}
	return nil
}

// base is what goes on each second while people are online and do nothing.
type base struct {
	cpu, redisCPU          time.Duration
	commands, transactions float64
	wal                    float64
}

// without is a moment as it would be, had only what was measured gone on for
// so long.
func (b base) without(m moment, took time.Duration) moment {
	seconds := took.Seconds()
	m.cpu -= time.Duration(float64(b.cpu) * seconds)
	m.redisCPU -= time.Duration(float64(b.redisCPU) * seconds)
	m.redisCommands -= int64(b.commands * seconds)
	m.transactions -= int64(b.transactions * seconds)
	m.walBytes -= int64(b.wal * seconds)
	return m
}

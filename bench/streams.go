package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

const (
	connectPath = "/free2talk.v1.PresenceService/Connect"
	streamsEach = 100 // of a connection of HTTP/2, as a proxy has them
)

// streams measures goal G12, and of G13 what Redis does for who is online and
// does nothing.
func (r *run) streams() error {
	for _, protocol := range []struct {
		name, goal string
		open       func(*openStreams, context.Context, int) error
	}{
		{"h2c, 100 a connection", "≤ 16", (*openStreams).overHTTP2},
		{"HTTP/1.1", "≤ 28", (*openStreams).overHTTP1},
	} {
		if err := r.idle(protocol.name, protocol.goal, protocol.open); err != nil {
			return fmt.Errorf("%s: %w", protocol.name, err)
		}
	}
	return nil
}

// idle opens a tenth of the streams, and then all.
func (r *run) idle(name, goal string, open func(*openStreams, context.Context, int) error) error {
	database := strings.ToLower(strings.Fields(strings.NewReplacer(",", "", "/", "", ".", "").Replace(name))[0])
	c, err := r.crowd("idle_"+database, hot, r.people)
	if err != nil {
		return err
	}
	p, err := r.shipped(c, "idle-"+database+":")
	if err != nil {
		return err
	}
	defer p.stop()
	if err := c.introduce(p); err != nil {
		return err
	}
	s := &openStreams{crowd: c, on: p}
	defer s.close()
	if err := r.pause(givenBack); err != nil {
		return err
	}
	before, err := p.settled(r.ctx)
	if err != nil {
		return err
	}
	var busy [2]float64
	for i, people := range []int{r.people / 10, r.people} {
		if err := open(s, r.ctx, people); err != nil {
			return err
		}
		if _, err := r.commandsASecond(2 * r.turn); err != nil { // what followed their coming
			return err
		}
		if busy[i], err = r.commandsASecond(3 * r.turn); err != nil {
			return err
		}
	}
	if err := r.pause(givenBack); err != nil {
		return err
	}
	after, err := p.settled(r.ctx)
	if err != nil {
		return err
	}
	if err := r.heap(p, "idle-"+database); err != nil {
		return err
	}
	r.table.rows = append(r.table.rows, row{
		"G12 memory of an idle stream with presence, KB, " + name, goal, float64(after-before) / 1000 / float64(r.people),
		fmt.Sprintf("%d streams; resident memory once garbage is collected: %d MB before, %d MB after", r.people, before/1_000_000, after/1_000_000),
	})
	if strings.HasPrefix(name, "h2c") {
		r.table.rows = append(r.table.rows, row{
			"G13 presence: Redis operations a second with ten times the people online", "≤ 1.2 (flat)", busy[1] / busy[0],
			fmt.Sprintf("%.0f/s with %d people, %.0f/s with %d", busy[0], r.people/10, busy[1], r.people),
		})
	}
	return nil
}

// givenBack is after how long without a collection a server has given back what
// it does not need, and more.
const givenBack = 40 * time.Second

// settled is the server's memory without garbage, in bytes. What has a finalizer
// goes the second time, and each time stacks that were deep are halved.
func (p *process) settled(ctx context.Context) (int64, error) {
	for range 5 {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.metrics+"/debug/pprof/heap?gc=1", nil)
		if err != nil {
			return 0, err
		}
		reply, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err
		}
		_, err = io.Copy(io.Discard, reply.Body)
		if err := errors.Join(err, reply.Body.Close()); err != nil {
			return 0, err
		}
	}
	return p.memory()
}

// heap writes what the server's memory holds, where that is wanted: by who
// allocated it, and as text, which ends with the stacks and the rest.
func (r *run) heap(p *process, name string) error {
	if r.profiles == "" {
		return nil
	}
	base := filepath.Join(r.profiles, name)
	return errors.Join(
		p.fetch(r.ctx, "/debug/pprof/heap?gc=1", base+".heap.pprof"),
		p.fetch(r.ctx, "/debug/pprof/heap?debug=1", base+".heap.txt"),
		p.fetch(r.ctx, "/debug/pprof/goroutine?debug=1", base+".goroutines.txt"),
	)
}

// commandsASecond is how many commands Redis runs, whoever asks.
func (r *run) commandsASecond(d time.Duration) (float64, error) {
	client, err := r.redisClient()
	if err != nil {
		return 0, err
	}
	defer client.Close()
	before, err := redisInfo(r.ctx, client, "stats")
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := r.pause(d); err != nil {
		return 0, err
	}
	after, err := redisInfo(r.ctx, client, "stats")
	const commands = "total_commands_processed"
	return (after[commands] - before[commands]) / time.Since(began).Seconds(), err
}

func (r *run) pause(d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-r.ctx.Done():
		return r.ctx.Err()
	}
}

func (r *run) redisClient() (*redis.Client, error) {
	options, err := redis.ParseURL(r.redis.URL())
	if err != nil {
		return nil, err
	}
	return redis.NewClient(options), nil
}

// openStreams are personal streams, of as many people.
type openStreams struct {
	crowd *crowd
	on    *process

	mu      sync.Mutex
	open    []io.Closer
	clients []*http.Client
	count   int
}

func (s *openStreams) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.open {
		_ = one.Close() // nothing is to be had from it any more
	}
	for _, client := range s.clients {
		client.CloseIdleConnections()
	}
}

func (s *openStreams) keep(one io.Closer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, one)
}

// upTo opens streams until there are so many.
func (s *openStreams) upTo(people int, open func(n int) (io.Closer, error)) error {
	var all errgroup.Group
	all.SetLimit(connections)
	for n := s.count; n < people; n++ {
		all.Go(func() error {
			one, err := open(n)
			if err == nil {
				s.keep(one)
			}
			return err
		})
	}
	s.count = people
	return all.Wait()
}

func (s *openStreams) request(ctx context.Context, n int) (*http.Request, error) {
	body := "\x00\x00\x00\x00\x02{}"
	post, err := http.NewRequestWithContext(ctx, http.MethodPost, s.on.url+connectPath, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	post.Header.Set("Content-Type", "application/connect+json")
	post.Header.Set("Connect-Protocol-Version", "1")
	post.Header.Set("Authorization", "Bearer "+s.crowd.tokens[n])
	post.Header.Set("X-Forwarded-For", fmt.Sprintf("10.2.%d.%d", n/200, n%200))
	return post, nil
}

func (s *openStreams) overHTTP1(ctx context.Context, people int) error {
	return s.upTo(people, func(n int) (io.Closer, error) {
		post, err := s.request(ctx, n)
		if err != nil {
			return nil, err
		}
		conn, err := net.Dial("tcp", post.URL.Host)
		if err != nil {
			return nil, err
		}
		if err := post.Write(conn); err != nil {
			return nil, err
		}
		reply, err := http.ReadResponse(bufio.NewReader(conn), post) //nolint:bodyclose // it is read until the connection is closed
		if err != nil {
			return nil, err
		}
		return conn, opened(reply)
	})
}

func (s *openStreams) overHTTP2(ctx context.Context, people int) error {
	for len(s.clients) <= (people-1)/streamsEach {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		s.clients = append(s.clients, &http.Client{Transport: transport})
	}
	return s.upTo(people, func(n int) (io.Closer, error) {
		post, err := s.request(ctx, n)
		if err != nil {
			return nil, err
		}
		reply, err := s.clients[n/streamsEach].Do(post)
		if err != nil {
			return nil, err
		}
		return reply.Body, opened(reply)
	})
}

// opened waits for the first message of a stream.
func opened(reply *http.Response) error {
	if reply.StatusCode != http.StatusOK {
		return errors.New(reply.Status)
	}
	head := make([]byte, 5)
	if _, err := io.ReadFull(reply.Body, head); err != nil {
		return err
	}
	if head[0] != 0 {
		text := make([]byte, 300)
		n, _ := reply.Body.Read(text) // the error is what it ended with
		return fmt.Errorf("the stream ended: %s", text[:n])
	}
	return nil
}

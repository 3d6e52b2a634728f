package cache

import (
	"fmt"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// tick is how often the embedded Redis's clock is driven.
const tick = 100 * time.Millisecond

// Server is a Redis within this process, for trying out and developing. What
// it holds ends with it.
type Server struct {
	redis *miniredis.Miniredis
	stop  chan struct{}
	work  sync.WaitGroup
}

// Embedded starts a Redis on a free port of the loopback. (It listens, since
// pipelines lock up on its connections in memory.)
func Embedded() (*Server, error) {
	s := &Server{redis: miniredis.NewMiniRedis(), stop: make(chan struct{})}
	if err := s.redis.Start(); err != nil {
		return nil, fmt.Errorf("embedded redis: %w", err)
	}
	s.work.Go(s.drive)
	return s, nil
}

// drive lets time pass: by itself the clock by which keys expire stands still.
func (s *Server) drive() {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-s.stop:
			return
		case now := <-ticker.C:
			s.redis.FastForward(now.Sub(last))
			last = now
		}
	}
}

// URL is what [Config] takes.
func (s *Server) URL() string { return "redis://" + s.redis.Addr() }

// Close ends the server.
func (s *Server) Close() error {
	close(s.stop)
	s.work.Wait()
	s.redis.Close()
	return nil
}

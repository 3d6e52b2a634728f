package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"golang.org/x/sync/errgroup"
)

// subscriber is one connection, and what came over it.
type subscriber struct {
	seen  atomic.Int64
	times []int64 // when each event came, in ns of the program; grows with seen
	last  time.Time
	err   error
	_     [64]byte // no two share a cache line
}

// began is when the program's own time begins.
var began = time.Now()

// crowd is all subscribers.
type crowd struct {
	all     []*subscriber
	reading sync.WaitGroup
}

// reader calls heard with the number of events that came at once, until the
// connection ends.
type reader func(heard func(events int)) error

func subscribe(o options, tokens []string) (*crowd, error) {
	open := map[string]func(options, int, string) (reader, error){
		"connect": connectStream, "centrifuge": centrifugeSocket, "socketio": socketIO,
	}[o.kind]
	if open == nil {
		return nil, fmt.Errorf("there is no kind %q", o.kind)
	}
	c := &crowd{all: make([]*subscriber, o.subscribers)}
	var opening errgroup.Group
	opening.SetLimit(64)
	for i := range c.all {
		s := &subscriber{}
		c.all[i] = s
		opening.Go(func() error {
			read, err := open(o, i, tokens[i%len(tokens)])
			if err != nil {
				return fmt.Errorf("subscriber %d: %w", i, err)
			}
			c.reading.Go(func() { s.err = read(s.heard) })
			return nil
		})
	}
	return c, opening.Wait()
}

func (s *subscriber) heard(events int) {
	now := int64(time.Since(began))
	for range events {
		s.times = append(s.times, now)
	}
	s.seen.Add(int64(events))
}

// slowest is the least that any subscriber has seen.
func (c *crowd) slowest() int64 {
	least := c.all[0].seen.Load()
	for _, s := range c.all {
		least = min(least, s.seen.Load())
	}
	return least
}

// Flags of Connect's envelopes.
const endOfStream = 0b10

// connectStream opens a server stream of Connect's, as JSON over HTTP/1.1, and
// returns once the snapshot has come.
func connectStream(o options, i int, token string) (reader, error) {
	conn, err := net.Dial("tcp", o.address)
	if err != nil {
		return nil, err
	}
	envelope := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(o.body)))
	post, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://"+o.address+"/free2talk.v1.RoomService/WatchRoom",
		bytes.NewReader(append(envelope, o.body...)))
	if err != nil {
		return nil, err
	}
	post.Header.Set("Content-Type", "application/connect+json")
	post.Header.Set("Connect-Protocol-Version", "1")
	post.Header.Set("X-Forwarded-For", fmt.Sprintf("10.1.%d.%d", i/200, i%200)) // not all from one address
	if token != "" {
		post.Header.Set("Authorization", "Bearer "+token)
	}
	if err := post.Write(conn); err != nil {
		return nil, err
	}
	reply, err := http.ReadResponse(bufio.NewReaderSize(conn, 16<<10), post)
	if err != nil {
		return nil, err
	}
	if reply.StatusCode != http.StatusOK {
		return nil, errors.New(reply.Status)
	}
	in := bufio.NewReaderSize(reply.Body, 16<<10)
	if _, err := skipEnvelope(in); err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	return func(heard func(int)) error {
		for {
			size, err := skipEnvelope(in)
			if err != nil {
				return err
			}
			if size >= leastEvent {
				heard(1)
			}
		}
	}, nil
}

// leastEvent is the size of an event; what is smaller is a heartbeat.
const leastEvent = 200

func skipEnvelope(in *bufio.Reader) (size uint32, err error) {
	head, err := in.Peek(5)
	if err != nil {
		return 0, err
	}
	size = binary.BigEndian.Uint32(head[1:])
	if head[0]&endOfStream != 0 {
		end := make([]byte, 5+size)
		_, _ = io.ReadFull(in, end)
		return 0, fmt.Errorf("the stream ended: %s", end[5:])
	}
	_, err = in.Discard(5 + int(size))
	return size, err
}

// socket is a websocket, read frame by frame.
func socket(url string) (net.Conn, *bufio.Reader, error) {
	conn, buffered, _, err := ws.Dial(context.Background(), url)
	if err != nil {
		return nil, nil, err
	}
	if buffered == nil {
		return conn, bufio.NewReaderSize(conn, 16<<10), nil
	}
	return conn, bufio.NewReaderSize(io.MultiReader(buffered, conn), 16<<10), nil
}

func nextFrame(in *bufio.Reader) ([]byte, error) {
	header, err := ws.ReadHeader(in)
	if err != nil {
		return nil, err
	}
	payload := make([]byte, header.Length)
	_, err = io.ReadFull(in, payload)
	return payload, err
}

// centrifugeSocket connects by centrifuge's protocol; the server subscribes it.
func centrifugeSocket(o options, _ int, _ string) (reader, error) {
	conn, in, err := socket("ws://" + o.address + "/connection/websocket")
	if err != nil {
		return nil, err
	}
	if err := wsutil.WriteClientText(conn, []byte(`{"id":1,"connect":{}}`)); err != nil {
		return nil, err
	}
	reply, err := nextFrame(in)
	if err != nil || !bytes.Contains(reply, []byte(`"connect"`)) {
		return nil, fmt.Errorf("connect: %s %w", reply, err)
	}
	return func(heard func(int)) error {
		for {
			// One frame may hold several messages, a line each.
			frame, err := nextFrame(in)
			if err != nil {
				return err
			}
			heard(1 + bytes.Count(bytes.TrimRight(frame, "\n"), []byte("\n")))
		}
	}, nil
}

// socketIO connects by Engine.IO 4 and Socket.IO 5; the server joins it.
func socketIO(o options, _ int, _ string) (reader, error) {
	conn, in, err := socket("ws://" + o.address + "/socket.io/?EIO=4&transport=websocket")
	if err != nil {
		return nil, err
	}
	for _, step := range []struct{ send, want string }{{"", "0{"}, {"40", "40"}} {
		if step.send != "" {
			if err := wsutil.WriteClientText(conn, []byte(step.send)); err != nil {
				return nil, err
			}
		}
		reply, err := nextFrame(in)
		if err != nil || !strings.HasPrefix(string(reply), step.want) {
			return nil, fmt.Errorf("connect: %s %w", reply, err)
		}
	}
	return func(heard func(int)) error {
		for {
			frame, err := nextFrame(in)
			if err != nil {
				return err
			}
			if bytes.HasPrefix(frame, []byte("42")) {
				heard(1)
			}
		}
	}, nil
}

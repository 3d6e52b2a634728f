package main

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"golang.org/x/sync/errgroup"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
)

// How much is done of each.
const (
	callsMade    = 20_000
	callsAtOnce  = 16
	streamsEach  = 100 // of an HTTP/2 connection
	restFor      = 15 * time.Second
	seats        = 8 // of a room
	messagesSent = 1000

	changesAtOnce = 4
	settles       = 3 * time.Second // within that, what follows a change has followed, and Postgres has counted it
)

// people makes accounts, each with a session.
func (s *stage) people(ctx context.Context, t *table) error {
	before, err := s.now(ctx)
	if err != nil {
		return err
	}
	for _, insert := range []string{insertPeople, insertSessions} {
		if _, err := s.store.DB().NewRaw(insert, s.count).Exec(ctx); err != nil {
			return err
		}
	}
	if err := s.sign(ctx); err != nil {
		return err
	}
	after, err := s.now(ctx)
	if err != nil {
		return err
	}
	used := between(before, after, s.count)
	s.figures.accountDisk = used.databaseOnDisk
	t.row("an account with a session", "Postgres, on disk with its indexes", size(used.databaseOnDisk))
	return nil
}

// as is the connection of a caller, with their token.
func (s *stage) as(n int, by *http.Client) *connect.Client {
	token := "Bearer " + s.tokens[n]
	signed := func(next connect.ClientFunc) connect.ClientFunc {
		return func(ctx context.Context, spec connect.Spec) (connect.ClientStream, error) {
			if info, ok := connect.CallInfoForClientContext(ctx); ok {
				info.RequestHeader().Set("Authorization", token)
			}
			return next(ctx, spec)
		}
	}
	return connect.NewClient(connecthttp.NewTransport(by, s.url), signed)
}

func plain() *http.Client {
	return &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callsAtOnce}}
}

func multiplexed() *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: transport}
}

// calls makes calls that the cache answers, all callers in turn.
func (s *stage) calls(ctx context.Context, t *table) error {
	by := plain()
	room, err := free2talkv1connect.NewRoomServiceClient(s.as(0, by)).CreateRoom(ctx, newRoom(0))
	if err != nil {
		return err
	}
	get := &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: room.GetRoom().GetId()}}
	clients := make([]free2talkv1connect.RoomServiceClient, s.count)
	for n := range clients {
		clients[n] = free2talkv1connect.NewRoomServiceClient(s.as(n, by))
	}
	round := func(calls int) error {
		var all errgroup.Group
		var next atomic.Int64
		for range callsAtOnce {
			all.Go(func() error {
				for n := next.Add(1); n <= int64(calls); n = next.Add(1) {
					if _, err := clients[int(n)%s.count].GetRoom(ctx, get); err != nil {
						return err
					}
				}
				return nil
			})
		}
		return all.Wait()
	}
	if err := round(s.count); err != nil { // each token is verified once
		return err
	}
	before, err := s.now(ctx)
	if err != nil {
		return err
	}
	if err := round(callsMade); err != nil {
		return err
	}
	after, err := s.now(ctx)
	if err != nil {
		return err
	}
	used := between(before, after, callsMade)
	s.figures.callCPU, s.figures.callRedisCPU = used.cpu, used.redisCPU
	t.row("a call that the cache answers", "node, processor", micro(used.cpu))
	t.row("", "Redis, processor · commands", micro(used.redisCPU)+fmt.Sprintf(" · %.1f", float64(used.redisCommands)/callsMade))
	_, err = free2talkv1connect.NewRoomServiceClient(s.as(0, by)).CloseRoom(ctx, &free2talkv1.CloseRoomRequest{RoomId: room.GetRoom().GetId()})
	return err
}

func newRoom(n int) *free2talkv1.CreateRoomRequest {
	return &free2talkv1.CreateRoomRequest{
		Name: fmt.Sprint("A room to talk in, number ", n), Topic: "What one would do with a year off",
		Languages: []string{"es-mx", "en"}, Capacity: seats,
	}
}

// online connects everybody, and keeps them so.
func (s *stage) online(ctx context.Context, t *table) error {
	before, err := s.now(ctx)
	if err != nil {
		return err
	}
	ctx, hangUp := context.WithCancel(ctx)
	s.hangUp = hangUp
	var there sync.WaitGroup
	failed := make(chan error, s.count) // one each
	for n := range s.count {
		if n%streamsEach == 0 {
			s.callers = append(s.callers, multiplexed())
		}
		by := s.callers[len(s.callers)-1]
		there.Add(1)
		go s.stay(ctx, n, by, sync.OnceFunc(there.Done), failed)
	}
	there.Wait()
	select {
	case err := <-failed:
		return err
	default:
	}
	after, err := s.now(ctx)
	if err != nil {
		return err
	}
	used := between(before, after, s.count)
	s.figures.onlineMemory, s.figures.onlineRedis, s.figures.connectCPU = used.memory, used.redisMemory, used.cpu
	t.row("somebody who comes online", "node, memory (HTTP/2, a hundred a connection) · of it in use", size(used.memory)+" · "+size(used.inUse))
	t.row("", "node, processor", micro(used.cpu))
	t.row("", "Redis, memory", size(used.redisMemory))
	t.row("", "Redis, processor · commands", micro(used.redisCPU)+fmt.Sprintf(" · %.1f", float64(used.redisCommands)/float64(s.count)))
	t.row("", "Postgres, transactions", fmt.Sprintf("%.1f", float64(used.transactions)/float64(s.count)))
	return nil
}

// stay is online until ctx ends.
func (s *stage) stay(ctx context.Context, n int, by *http.Client, there func(), failed chan<- error) {
	defer there()
	stream, err := free2talkv1connect.NewPresenceServiceClient(s.as(n, by)).Connect(ctx, &free2talkv1.ConnectRequest{})
	for err == nil {
		_, err = stream.Receive()
		there()
	}
	if ctx.Err() == nil {
		failed <- err
	}
}

// rest looks at what it costs that people are online and do nothing.
func (s *stage) rest(ctx context.Context, t *table) error {
	before, err := s.now(ctx)
	if err != nil {
		return err
	}
	select {
	case <-time.After(restFor):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := s.now(ctx)
	if err != nil {
		return err
	}
	took := after.at.Sub(before.at).Seconds()
	s.base = base{
		cpu: time.Duration(float64(after.cpu-before.cpu) / took), redisCPU: time.Duration(float64(after.redisCPU-before.redisCPU) / took),
		commands: float64(after.redisCommands-before.redisCommands) / took, transactions: float64(after.transactions-before.transactions) / took,
		wal: float64(after.walBytes-before.walBytes) / took,
	}
	s.figures.restCPU = (after.cpu - before.cpu).Seconds() / took / float64(s.count)
	t.row("somebody online who does nothing", "node, processor (heartbeats, and the node's own rounds)", fmt.Sprintf("%.1f µs a second", s.figures.restCPU*1e6))
	t.row("a node, whoever is there", "Redis, commands", fmt.Sprintf("%.0f a second", float64(after.redisCommands-before.redisCommands)/took))
	t.row("", "Postgres, transactions", fmt.Sprintf("%.0f a second", float64(after.transactions-before.transactions)/took))
	return nil
}

// openRooms has one in eight open a room.
func (s *stage) openRooms(ctx context.Context, t *table) error {
	n := s.count / seats
	s.rooms = make([]string, n)
	used, err := s.during(ctx, n, func(i int) error {
		reply, err := free2talkv1connect.NewRoomServiceClient(s.as(i, s.callers[0])).CreateRoom(ctx, newRoom(i))
		if err == nil {
			s.rooms[i] = reply.GetRoom().GetId()
		}
		return err
	})
	if err != nil {
		return err
	}
	used.memory = used.inUse
	s.figures.roomMemory, s.figures.roomDisk, s.figures.openCPU, s.figures.openWAL = used.memory, used.databaseOnDisk, used.cpu, used.walBytes
	t.row("a room that opens", "node, memory (each node)", size(used.memory))
	t.row("", "node, processor (the one that is asked)", micro(used.cpu))
	t.row("", "Postgres, on disk · written ahead", size(used.databaseOnDisk)+" · "+size(used.walBytes))
	t.row("", "Postgres, transactions", fmt.Sprintf("%.1f", float64(used.transactions)/float64(n)))
	t.row("", "Redis, commands", fmt.Sprintf("%.1f", float64(used.redisCommands)/float64(n)))
	return nil
}

// joins has everybody else sit down.
func (s *stage) joins(ctx context.Context, t *table) error {
	first := s.count / seats
	n := s.count - first
	used, err := s.during(ctx, n, func(i int) error {
		_, err := free2talkv1connect.NewRoomServiceClient(s.as(first+i, s.callers[0])).
			JoinRoom(ctx, &free2talkv1.JoinRoomRequest{RoomId: s.rooms[i%len(s.rooms)]})
		return err
	})
	if err != nil {
		return err
	}
	s.figures.joinCPU, s.figures.joinDisk, s.figures.joinWAL = used.cpu, used.databaseOnDisk, used.walBytes
	s.figures.joinRedis, s.figures.joinTx = float64(used.redisCommands)/float64(n), float64(used.transactions)/float64(n)
	t.row("a join, told to those who sit there", "node, processor", micro(used.cpu))
	t.row("", "Postgres, on disk for ten minutes · written ahead", size(used.databaseOnDisk)+" · "+size(used.walBytes))
	t.row("", "Postgres, transactions", fmt.Sprintf("%.1f", s.figures.joinTx))
	t.row("", "Redis, processor · commands", micro(used.redisCPU)+fmt.Sprintf(" · %.1f", s.figures.joinRedis))
	return nil
}

// messages are said in rooms that are full: each is delivered to all who sit there.
func (s *stage) messages(ctx context.Context, t *table) error {
	used, err := s.during(ctx, messagesSent, func(i int) error {
		n := i % len(s.rooms)
		_, err := free2talkv1connect.NewRoomServiceClient(s.as(n, s.callers[0])).
			SendMessage(ctx, &free2talkv1.SendMessageRequest{RoomId: s.rooms[n], Text: "What would you do with a year off, and where?"})
		return err
	})
	if err != nil {
		return err
	}
	s.figures.messageCPU, s.figures.messageWAL, s.figures.messageTx = used.cpu, used.walBytes, float64(used.transactions)/messagesSent
	s.figures.messageRedisCPU, s.figures.messageRedis = used.redisCPU, float64(used.redisCommands)/messagesSent
	t.row(fmt.Sprintf("a message in a room of %d", seats), "node, processor, deliveries and all", micro(used.cpu))
	t.row("", "Postgres, written ahead", size(used.walBytes))
	t.row("", "Postgres, transactions", fmt.Sprintf("%.1f", s.figures.messageTx))
	t.row("", "Redis, processor · commands", micro(used.redisCPU)+fmt.Sprintf(" · %.1f", s.figures.messageRedis))
	return nil
}

// during does something n times, a few at once, and says what each used beside
// what goes on anyhow.
func (s *stage) during(ctx context.Context, n int, do func(i int) error) (moment, error) {
	before, err := s.now(ctx)
	if err != nil {
		return moment{}, err
	}
	var all errgroup.Group
	all.SetLimit(changesAtOnce)
	for i := range n {
		all.Go(func() error { return do(i) })
	}
	if err := all.Wait(); err != nil {
		return moment{}, err
	}
	time.Sleep(settles)
	after, err := s.now(ctx)
	return between(before, s.base.without(after, after.at.Sub(before.at)), n), err
}

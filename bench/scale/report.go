package main

import (
	"fmt"
	"io"
	"math"
	"runtime"
	"time"
)

// table is what was measured, in order.
type table struct{ rows [][3]string }

func (t *table) row(what, where, value string) {
	t.rows = append(t.rows, [3]string{what, where, value})
}

func (t *table) print(w io.Writer) {
	fmt.Fprintln(w, "| what | where | each |\n|---|---|---|")
	for _, row := range t.rows {
		fmt.Fprintf(w, "| %s | %s | %s |\n", row[0], row[1], row[2])
	}
}

func micro(d time.Duration) string {
	return fmt.Sprintf("%.0f µs", float64(d)/float64(time.Microsecond))
}

func size(n int64) string {
	switch {
	case n < 0:
		return "none"
	case n < 10_000:
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f kB", float64(n)/1000)
}

// figures are what the projection is made of.
type figures struct {
	accountDisk                   int64
	callCPU, callRedisCPU         time.Duration
	onlineMemory, onlineRedis     int64
	connectCPU                    time.Duration
	restCPU                       float64 // processors
	roomMemory, roomDisk, openWAL int64
	openCPU                       time.Duration
	joinCPU                       time.Duration
	joinDisk, joinWAL             int64
	joinRedis, joinTx             float64
	messageCPU, messageRedisCPU   time.Duration
	messageWAL                    int64
	messageRedis, messageTx       float64
}

// What people do, as the projection supposes it. Change it and run it again.
const (
	callsASecond    = 1.0 / 20   // each person online calls so often
	joinsASecond    = 1.0 / 1200 // and joins a room each twenty minutes, and leaves another
	messagesASecond = 1.0 / 180  // and says something each three minutes
	connectsASecond = 1.0 / 600  // and their connection breaks each ten minutes
	seated          = 0.5        // of those online sit in a room
	perRoom         = 4.0
	accountsEach    = 20.0 // accounts for each who is online
	halfBusy        = 0.5  // of a processor is what is planned with
	nodeProcessors  = 8.0
	nodeMemory      = 32e9
	redisBusy       = 0.5 // of a master's one processor
	redisMemory     = 8e9 // of a master
)

// head is what stands above the figures on their page, and foot what stands below.
const (
	head = `# What people cost, and what many of them take

Written by %[1]sgo run ./bench/scale -o docs/scaling.md%[1]s; never by hand. One node, a Postgres and a Redis of its own, all on one
machine with those who call: the figures are of CPU time, bytes and operations, which hold on a busy machine, not of latency.

## Measured

`
	foot = `
The projection takes the figures above times what people are supposed to do: a call each 20 s, a room joined and another left each
20 minutes, a message each 3 minutes, a connection that breaks each 10; half of those online sit, four to a room; and 20 accounts
for each who is online. Node processors are planned half busy. Change the constants in
%[1]sbench/scale/report.go%[1]s to what your community does, and run it again.

- **10 thousand online**: two small nodes, so that one may go; one Redis, one Postgres. Nothing here is near a limit.
- **1 million**: nodes by their processors; Redis by its memory more than by its work. Postgres writes what joins and
  messages make, on one machine with fast disks; its history is kept for ten minutes and stays in memory. Each node brings up
  to 20 connections: a pooler in front of it, from some twenty nodes on.
- **10 million**: a Redis Cluster (presence is spread over sixteen shards, limits and entries over all slots). One Postgres is
  the limit: what rooms write would have to be spread over several, by room, which this server does not do. Every node also
  keeps all open rooms in its index, which the memory of a node counts.
`
)

// page writes everything.
func (s *stage) page(w io.Writer, t *table) {
	fmt.Fprintf(w, head, "`")
	fmt.Fprintf(w, "Measured on %s, %d processors, %s, with %d people online on one node.\n\n", time.Now().Format(time.DateOnly), runtime.NumCPU(), runtime.Version(), s.count)
	t.print(w)
	fmt.Fprint(w, "\n## Projected\n\n")
	s.project(w)
	fmt.Fprintf(w, foot, "`")
}

// project prints what so many people online take.
func (s *stage) project(w io.Writer) {
	f := s.figures
	fmt.Fprintln(w, "| online | calls/s | writes/s | node processors | node memory | nodes (8 processors, 32 GB) | Redis processors | Redis masters | Postgres transactions/s | written ahead | accounts on disk |")
	fmt.Fprintln(w, "|---|---|---|---|---|---|---|---|---|---|---|")
	for _, online := range []float64{10e3, 1e6, 10e6} {
		calls, joins, messages, connects := online*callsASecond, online*joinsASecond*2, online*messagesASecond, online*connectsASecond
		processors := online*f.restCPU + calls*f.callCPU.Seconds() + joins*f.joinCPU.Seconds() + messages*f.messageCPU.Seconds() + connects*f.connectCPU.Seconds()
		nodesByCPU := math.Ceil(processors / halfBusy / nodeProcessors)
		rooms := online * seated / perRoom
		perNode := rooms * float64(max(f.roomMemory, 0))
		nodes := max(2, nodesByCPU, math.Ceil(online*float64(f.onlineMemory)/(0.7*nodeMemory-min(perNode, 0.5*nodeMemory))))
		memory := online*float64(f.onlineMemory) + nodes*perNode
		redis := calls*f.callRedisCPU.Seconds() + messages*f.messageRedisCPU.Seconds() + joins*f.messageRedisCPU.Seconds()
		masters := max(1, math.Ceil(redis/redisBusy), math.Ceil(online*float64(f.onlineRedis)/(0.7*redisMemory)))
		tx := joins*f.joinTx + messages*f.messageTx
		wal := joins*float64(f.joinWAL) + messages*float64(f.messageWAL)
		fmt.Fprintf(w, "| %s | %s | %s | %.1f | %.1f GB | %.0f | %.2f | %.0f | %s | %.1f MB/s | %.1f GB |\n",
			grouped(online), grouped(calls), grouped(joins+messages), processors, memory/1e9, nodes, redis, masters, grouped(tx), wal/1e6,
			online*accountsEach*float64(f.accountDisk)/1e9)
	}
}

// grouped is a number with its thousands apart.
func grouped(n float64) string {
	text := fmt.Sprintf("%.0f", n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

package main

import (
	"fmt"
	"math"
	"os"
	"time"
)

// table is what was measured, in order.
type table struct{ rows [][3]string }

func (t *table) row(what, where, value string) {
	t.rows = append(t.rows, [3]string{what, where, value})
}

func (t *table) print() {
	fmt.Fprintln(os.Stdout, "| what | where | each |\n|---|---|---|")
	for _, row := range t.rows {
		fmt.Fprintf(os.Stdout, "| %s | %s | %s |\n", row[0], row[1], row[2])
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

// project prints what so many people online take.
func (s *stage) project() {
	f := s.figures
	fmt.Fprintln(os.Stdout, "| online | calls/s | writes/s | node processors | node memory | nodes (8 processors, 32 GB) | Redis processors | Redis masters | Postgres transactions/s | written ahead | accounts on disk |")
	fmt.Fprintln(os.Stdout, "|---|---|---|---|---|---|---|---|---|---|---|")
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
		fmt.Fprintf(os.Stdout, "| %s | %s | %s | %.1f | %.1f GB | %.0f | %.2f | %.0f | %s | %.1f MB/s | %.1f GB |\n",
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

// Command load subscribes many times to one room, has events published there,
// and tells how they came. It speaks to the shipped server and to a plain
// Connect handler (Connect's streams as JSON over HTTP/1.1), to centrifuge and
// to socket.io (websockets), and reads no more of what it gets than it must, so
// that the server is what is measured.
//
// It prints one line when all subscribers are there, waits for a line on its
// standard input, and prints what it measured, as JSON.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"
)

// options are the flags.
type options struct {
	kind        string
	address     string // HOST:PORT
	body        string // of the request that opens a stream
	tokens      string // file: one a line, of the subscribers in turn
	subscribers int

	publish     string // URL that is posted to; n says how many events that is
	publishBody string

	mode string
	rate int // events a second; of bursts, how many come at once each second
	last time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.kind, "kind", "connect", "connect, centrifuge or socketio")
	flag.StringVar(&o.address, "address", "", "of the server")
	flag.StringVar(&o.body, "body", "{}", "of the request that opens a Connect stream")
	flag.StringVar(&o.tokens, "tokens", "", "file of access tokens, one a line")
	flag.IntVar(&o.subscribers, "subscribers", 1000, "how many there are")
	flag.StringVar(&o.publish, "publish", "", "URL that publishes an event")
	flag.StringVar(&o.publishBody, "publish-body", "{}", "what is posted there")
	flag.StringVar(&o.mode, "mode", "steady", "steady, burst or full")
	flag.IntVar(&o.rate, "rate", 20, "events a second")
	flag.DurationVar(&o.last, "for", 3*time.Second, "how long")
	flag.Parse()
	if err := run(o); err != nil {
		log.Fatal(err)
	}
}

func run(o options) error {
	tokens, err := lines(o.tokens)
	if err != nil {
		return err
	}
	all, err := subscribe(o, tokens)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	result, err := publish(o, all)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func lines(path string) ([]string, error) {
	if path == "" {
		return []string{""}, nil
	}
	text, err := os.ReadFile(path)
	return strings.Fields(string(text)), err
}

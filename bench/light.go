package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// lightly drives a server with requests that were made beforehand, each caller
// on a connection of their own, and returns the replies a second. It reads of a
// reply no more than where it ends: where the load shares the machine with what
// is measured, what the load takes is taken from both sides of a ratio, and so
// must be little.
func lightly(ctx context.Context, url string, requests [][]byte, d time.Duration) (float64, error) {
	_, address, _ := strings.Cut(url, "://")
	var next, done atomic.Int64
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	all, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for range connections {
		all.Go(func() error {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				return err
			}
			defer conn.Close()
			in := bufio.NewReaderSize(conn, 8<<10)
			for ctx.Err() == nil {
				if _, err := conn.Write(requests[next.Add(1)%int64(len(requests))]); err != nil {
					return err
				}
				if err := skipReply(in); err != nil {
					return err
				}
				done.Add(1)
			}
			return nil
		})
	}
	err := all.Wait()
	return float64(done.Load()) / time.Since(began).Seconds(), err
}

// spelled is a request as it goes over the wire.
func spelled(url, method, body, token string) ([]byte, error) {
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	var out bytes.Buffer
	err = request.Write(&out)
	return out.Bytes(), err
}

var contentLength = []byte("content-length:")

// skipReply reads a reply of a known length to its end.
func skipReply(in *bufio.Reader) error {
	status, err := in.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.Contains(status, []byte(" 200 ")) {
		rest := make([]byte, min(in.Buffered(), 1000))
		_, _ = io.ReadFull(in, rest)
		return fmt.Errorf("%s%s", status, rest)
	}
	size := -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			if size, err = strconv.Atoi(textproto.TrimString(string(line[len(contentLength):]))); err != nil {
				return err
			}
		}
	}
	if size < 0 {
		return errors.New("a reply does not say how long it is")
	}
	_, err = in.Discard(size)
	return err
}

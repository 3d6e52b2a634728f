package server

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cutAfter is how long sent bytes may go unacknowledged.
const cutAfter = 10 * time.Second

// noticeCutLines sets TCP_USER_TIMEOUT, which accepted connections inherit.
// Heartbeats, write deadlines and keep-alives together need over a minute.
func noticeCutLines(_, _ string, c syscall.RawConn) error {
	var set error
	err := c.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(cutAfter/time.Millisecond))
	})
	if err != nil {
		return err
	}
	return set
}

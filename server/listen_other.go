//go:build !linux

package server

import "syscall"

// noticeCutLines does nothing: only Linux has TCP_USER_TIMEOUT.
func noticeCutLines(_, _ string, _ syscall.RawConn) error { return nil }

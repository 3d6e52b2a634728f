//go:build unix && !linux

package service

import (
	"bytes"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
)

// Attributes puts a child in a process group of its own, so that Ctrl-C in a
// terminal reaches it through its owner only.
func Attributes(cred *syscall.Credential, _ syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: cred}
}

// Children returns the living children of process pid, without zombies.
func Children(pid int) ([]int, error) {
	table, err := exec.Command("ps", "-axo", "pid=,ppid=,stat=").Output()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}

	var children []int

	for line := range bytes.Lines(table) {
		fields := bytes.Fields(line)
		if len(fields) < 3 || string(fields[1]) != strconv.Itoa(pid) || fields[2][0] == 'Z' {
			continue
		}
		child, err := strconv.Atoi(string(fields[0]))
		if err == nil {
			children = append(children, child)
		}
	}
	return children, nil
}

// alive tells whether process pid exists.
func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

// stopped tells whether process pid is stopped by a signal.
func stopped(pid int) bool {
	state, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(pid)).Output()
	return err == nil && bytes.HasPrefix(bytes.TrimSpace(state), []byte("T"))
}

// Adopt does nothing here: adopting orphans is Linux's.
func Adopt() error { return nil }

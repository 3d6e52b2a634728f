package service

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Attributes puts a child in a process group of its own, so that Ctrl-C in a
// terminal reaches it through its owner only, and ties its life to ours.
func Attributes(cred *syscall.Credential, dies syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: cred, Pdeathsig: dies}
}

// Children returns the living children of process pid. Zombies do not count:
// they hold nothing, and only their parent can end them.
func Children(pid int) ([]int, error) {
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}

	var children []int

	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue // it ended since it was listed
		}

		// pid (name, which may hold anything) state ppid …
		fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		if len(fields) < 2 || string(fields[0]) == "Z" || string(fields[1]) != strconv.Itoa(pid) {
			continue
		}
		child, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		if err == nil {
			children = append(children, child)
		}
	}
	return children, nil
}

// alive tells whether process pid exists and is no zombie.
func alive(pid int) bool {
	state := stateOf(pid)
	return state != "" && state != "Z"
}

// stopped tells whether process pid is stopped by a signal.
func stopped(pid int) bool { return stateOf(pid) == "T" }

// stateOf is the letter of proc(5) for what process pid does, or "".
func stateOf(pid int) string {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}

	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) == 0 {
		return ""
	}
	return string(fields[0])
}

// Adopt makes this process the parent of orphans among its descendants, so
// that [Children] finds what a test that died left behind.
func Adopt() error {
	const setChildSubreaper = 36 // PR_SET_CHILD_SUBREAPER of prctl(2)

	_, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setChildSubreaper, 1, 0)
	if errno != 0 {
		return fmt.Errorf("adopt orphans: %w", errno)
	}
	return nil
}

package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain makes the test binary the runner itself where a test asks for it.
func TestMain(m *testing.M) {
	if os.Getenv("FREE2TALK_TEST_AS_RUNNER") != "" {
		main()
	}
	os.Exit(m.Run())
}

// script reports to its test, leaves a process behind that nobody waits for,
// and goes on until it is ended.
const script = `
	set -m # a group of its own for what is left behind
	sleep 100 >/dev/null 2>&1 &
	echo "$TMPDIR $! $FREE2TALK_TEST_REDIS_URL [$DATABASE_URL$FREE2TALK_SECRET]"
	read -r line && echo "standard input is open"
	[ "$1" = fail ] && exit 7
	wait`

func TestRun(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name string
		arg  string
		end  syscall.Signal
		code int
	}{
		{"a failing command's code is passed on", "fail", 0, 7},
		{"a signal is passed on", "wait", syscall.SIGTERM, 128 + 15},
		{"killed, the runner takes its servers along", "wait", syscall.SIGKILL, -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			r := startRunner(t, "bash", "-c", script, "bash", c.arg)
			if r.foreign != "[]" {
				t.Errorf("a developer's settings reach the tests: %s", r.foreign)
			}
			if err := r.ping(); err != nil && c.arg == "wait" {
				t.Errorf("redis: %v", err)
			}
			if c.end != 0 {
				if err := r.cmd.Process.Signal(c.end); err != nil {
					t.Fatal(err)
				}
			}
			rest, _ := io.ReadAll(r.out)
			if len(rest) > 0 {
				t.Errorf("more was printed: %s", rest)
			}
			_ = r.cmd.Wait()
			if got := r.cmd.ProcessState.ExitCode(); got != c.code {
				t.Errorf("exit code = %d, want %d", got, c.code)
			}
			if c.end != syscall.SIGKILL {
				r.gone(t)
			}
			until(t, "redis ends", func() bool { return r.ping() != nil })
		})
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()

	for _, args := range [][]string{nil, {"--"}} {
		if got := run(args); got != usageFault {
			t.Errorf("run(%q) = %d, want %d", args, got, usageFault)
		}
	}
}

// runner is a started runner and what its command reported.
type runner struct {
	cmd     *exec.Cmd
	out     *bufio.Reader
	tmp     string // the directory of all temporary files
	orphan  string // process id of what the command left behind
	url     string // of the shared Redis
	foreign string // what came through of the developer's settings
}

func startRunner(t *testing.T, command ...string) *runner {
	t.Helper()

	cmd := exec.Command(os.Args[0], append([]string{"--"}, command...)...)
	cmd.Env = append(os.Environ(), "FREE2TALK_TEST_AS_RUNNER=1", "DATABASE_URL=mine", "FREE2TALK_SECRET=mine")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })

	r := &runner{cmd: cmd, out: bufio.NewReader(out)}
	line, err := r.out.ReadString('\n')
	report := strings.Fields(line)
	if err != nil || len(report) != 4 {
		t.Fatalf("report = %q, %v", line, err)
	}
	r.tmp, r.orphan, r.url, r.foreign = report[0], report[1], report[2], report[3]
	t.Cleanup(func() { os.RemoveAll(r.tmp) }) // which a killed runner could not
	return r
}

// gone fails the test where the run left a directory or a process behind.
func (r *runner) gone(t *testing.T) {
	t.Helper()

	if _, err := os.Stat(r.tmp); !errors.Is(err, os.ErrNotExist) {
		left, _ := filepath.Glob(r.tmp + "/*/*")
		t.Errorf("%s is still there: %q", r.tmp, left)
	}
	pid, err := strconv.Atoi(r.orphan)
	if err != nil || !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		t.Errorf("process %q is still there: %v", r.orphan, err)
	}
}

// ping asks whether the shared Redis takes connections.
func (r *runner) ping() error {
	address, err := url.Parse(r.url)
	if err != nil {
		return err
	}
	conn, err := net.Dial("tcp", address.Host)
	if err == nil {
		conn.Close()
	}
	return err
}

// until waits for what is to come by itself.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()

	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

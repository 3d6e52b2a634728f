// Run starts the servers that the tests need, runs a command with their
// addresses in its environment, and stops them again:
//
//	go run ./internal/testenv/run -- go test ./...
//
// The command's exit code becomes its own. Nothing is left running and no
// directory is left behind, whether the command succeeds, fails or is
// interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/internal/testenv/service"
)

const (
	// usageFault is the exit code of a command line that makes no sense.
	usageFault = 2

	// startFault is the exit code where a server or the command did not start.
	startFault = 125

	// grace is how long an interrupted command may take to end.
	grace = 10 * time.Second
)

func main() {
	runtime.LockOSThread() // the command dies with the thread that starts it
	os.Exit(run(os.Args[1:]))
}

// run returns the exit code, so that every deferred clean-up has run before
// the process ends.
func run(args []string) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: run -- COMMAND [ARGUMENT…]")
		return usageFault
	}

	signals := make(chan os.Signal, 8) // a person who presses Ctrl-C again and again
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)

	dir, err := tempDir()
	if err != nil {
		return fault(err)
	}
	defer os.RemoveAll(dir)

	servers, code := start(signals)
	defer stop(servers)

	if code != 0 {
		return code
	}
	return command(args, servers.Env(), signals)
}

// tempDir makes a directory and sends everything there that is put into a
// temporary directory from now on, so that one removal cleans up after all:
// tests that died included.
func tempDir() (string, error) {
	dir, err := os.MkdirTemp("", "free2talk-test-")
	if err != nil {
		return "", fmt.Errorf("temporary directory: %w", err)
	}

	// Postgres, which may run as somebody else, must be able to pass.
	err = os.Chmod(dir, 0o711)
	if err != nil {
		return "", fmt.Errorf("temporary directory: %w", err)
	}
	return dir, os.Setenv("TMPDIR", dir)
}

// start starts the servers. Where that fails, or a signal comes first, it
// returns the exit code instead, and has stopped what ran.
func start(signals <-chan os.Signal) (*testenv.Servers, int) {
	err := service.Adopt()
	if err != nil {
		return nil, fault(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()

	var servers *testenv.Servers
	began := time.Now()
	started := make(chan struct{})
	go func() {
		defer close(started)
		servers, err = testenv.StartServers(ctx)
	}()

	select {
	case caught := <-signals:
		cancel()
		<-started
		return servers, signalled(caught)
	case <-started:
		if err != nil {
			return nil, fault(err)
		}
	}
	fmt.Fprintf(os.Stderr, "testenv: Postgres, Redis, Cluster and Sentinel up in %.1fs\n", time.Since(began).Seconds())
	return servers, 0
}

// stop ends the servers, and what a test that died may have left running.
func stop(servers *testenv.Servers) {
	if servers != nil {
		err := servers.Close()
		if err != nil {
			fault(err)
		}
	}
	for {
		orphans, err := service.Children(os.Getpid())
		if err != nil || len(orphans) == 0 {
			break
		}
		for _, orphan := range orphans {
			_ = syscall.Kill(orphan, syscall.SIGKILL) // or it has ended, which is as good
		}

		time.Sleep(time.Millisecond) // its own children become ours next
	}

	reap()
}

// reap buries the orphans: not every machine's first process does.
func reap() {
	for {
		pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil)
		if pid <= 0 && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

// command runs the command to its end and passes signals on to it.
func command(args, env []string, signals <-chan os.Signal) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(environ(), env...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = service.Attributes(nil, syscall.SIGKILL)

	err := cmd.Start()
	if err != nil {
		return fault(err)
	}
	group := -cmd.Process.Pid
	ended := make(chan error, 1)

	go func() { ended <- cmd.Wait() }()

	var late <-chan time.Time

	for {
		select {
		case caught := <-signals:
			_ = syscall.Kill(group, number(caught)) // gone already is as good
			late = time.After(grace)
		case <-late:
			_ = syscall.Kill(group, syscall.SIGKILL)
		case err := <-ended:
			_ = syscall.Kill(group, syscall.SIGKILL) // what it left in its group
			return exitCode(err)
		}
	}
}

// environ is our environment without what a developer set for a server of
// their own: it must not steer the tests.
func environ() []string {
	var env []string

	for _, pair := range os.Environ() {
		name, _, _ := strings.Cut(pair, "=")
		own := name == "DATABASE_URL" || strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "REDIS_") ||
			strings.HasPrefix(name, "FREE2TALK_") && !strings.HasPrefix(name, "FREE2TALK_TEST_")

		if !own {
			env = append(env, pair)
		}
	}
	return env
}

// exitCode is what a shell would say of the end of a command.
func exitCode(err error) int {
	var exit *exec.ExitError

	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		return fault(err)
	}

	status, ok := exit.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return signalled(status.Signal())
	}
	return exit.ExitCode()
}

// signalled is what a shell says of a command that a signal ended.
func signalled(sig os.Signal) int { return 128 + int(number(sig)) }

// number is the signal as the system knows it: on Unix all are of this type.
func number(sig os.Signal) syscall.Signal {
	n, ok := sig.(syscall.Signal)
	if !ok {
		return syscall.SIGTERM
	}
	return n
}

// fault says what went wrong in the runner itself.

func fault(err error) int {
	fmt.Fprintln(os.Stderr, "testenv:", err)
	return startFault
}

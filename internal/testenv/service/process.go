package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// patience bounds each wait for a server to start or to end: far above
	// what a busy machine needs, far below a test's own time limit.
	patience = 30 * time.Second

	// often is how long a poll waits before it looks again.
	often = 10 * time.Millisecond
)

// errEnded: the program ended instead of getting ready.
var errEnded = errors.New("ended at its start")

// process is one server program: started, frozen, killed and started again
// with the same arguments.
type process struct {
	name string              // of the server, for errors and its log
	path string              // of the program
	args []string            // after the program's name
	dir  string              // working directory, and where the log lies
	cred *syscall.Credential // whom to run as; nil is ourselves
	dies syscall.Signal      // what it hears when we die (Linux)

	mu   sync.Mutex
	cmd  *exec.Cmd
	gone chan struct{} // closed once the program was waited for
}

// launcher starts every child from one thread that never ends: Linux tells a
// child of its parent's death when the thread that forked it ends.
var launcher = sync.OnceValue(func() chan<- func() {
	work := make(chan func())

	go func() {
		runtime.LockOSThread()

		for start := range work {
			start()
		}
	}()
	return work
})

// start runs the program; its output is added to the log.
func (p *process) start() error {
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of %s: %w", p.name, err)
	}
	defer log.Close()

	cmd := exec.Command(p.path, p.args...)
	cmd.Dir = p.dir
	cmd.Env = cleanEnv()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = Attributes(p.cred, p.dies)

	started := make(chan error)
	launcher() <- func() { started <- cmd.Start() }

	err = <-started
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	gone := make(chan struct{})

	go func() {
		defer close(gone)

		_ = cmd.Wait() // how it ended is in its log
	}()

	p.mu.Lock()
	defer p.mu.Unlock()

	p.cmd, p.gone = cmd, gone
	return nil
}

// ready polls answers until it succeeds; it fails when the program ends
// first, when ctx ends, or when patience does.
func (p *process) ready(ctx context.Context, answers func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()

	for {
		err := answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended():
			return fmt.Errorf("%s %w:\n%s", p.name, errEnded, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("%s did not get ready (%w): %w\n%s", p.name, ctx.Err(), err, p.tail())
		case <-time.After(often):
		}
	}
}

// pid is the process id of the latest start.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// ended is closed once the latest start has ended.
func (p *process) ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gone
}

// signal sends sig, and is content when the program has already ended.
func (p *process) signal(sig os.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()

	err := p.cmd.Process.Signal(sig)
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %v to %s: %w", sig, p.name, err)
	}
	return nil
}

// kill ends the program as a power cut would, and waits until it is gone.
func (p *process) kill() error {
	err := p.signal(syscall.SIGKILL)
	if err != nil {
		return err
	}
	select {
	case <-p.ended():
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s outlived SIGKILL for %v", p.name, patience)
	}
}

// log is the file that holds what the program printed.
func (p *process) log() string { return filepath.Join(p.dir, p.name+".log") }

// tail returns the last lines of the log.
func (p *process) tail() string {
	const lines = 20

	text, err := os.ReadFile(p.log())
	if err != nil {
		return err.Error()
	}

	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// cleanEnv is our environment without what would steer a server or a tool of
// Postgres somewhere else.
func cleanEnv() []string {
	var env []string

	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "PG") && !strings.HasPrefix(pair, "LC_") {
			env = append(env, pair)
		}
	}
	return env
}

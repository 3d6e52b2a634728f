package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// The processors: what is measured has one, everything else the other.
const (
	serverCPU = "0"
	othersCPU = "1"
)

// process is a server that is measured.
type process struct {
	cmd  *exec.Cmd
	url  string
	log  bytes.Buffer
	gone chan error // what Wait said, once

	metrics string        // URL of its metrics and profiles; or ""
	redis   *redis.Client // the Redis that serves it alone while it is measured; or nil
}

// start runs a program pinned to the server's processor, and returns once it
// answers on its port.
func start(ctx context.Context, program string, env []string, args ...string) (*process, error) {
	return startOn(ctx, serverCPU, []string{program}, env, args...)
}

// startOn is start for a program that has words of its own, on one of the
// processors.
func startOn(ctx context.Context, cpu string, program, env []string, args ...string) (*process, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	address := net.JoinHostPort("127.0.0.1", port)
	p := &process{url: "http://" + address}
	words := append(append([]string{"-c", cpu}, program...), append([]string{"--listen", address}, args...)...)
	p.cmd = exec.CommandContext(ctx, "taskset", words...)
	p.cmd.Env = append(append(os.Environ(), "GOMAXPROCS=1"), env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	p.gone = make(chan error, 1)
	go func() { p.gone <- p.cmd.Wait() }()
	return p, p.await(ctx, "/healthz")
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// await returns once the server answers a request for path, whatever it says.
func (p *process) await(ctx context.Context, path string) error {
	return p.until(ctx, path, func(int) bool { return true })
}

// ready returns once the server wants calls.
func (p *process) ready(ctx context.Context) error {
	return p.until(ctx, "/readyz", func(status int) bool { return status == http.StatusOK })
}

// until asks for path until the status of the answer is good.
func (p *process) until(ctx context.Context, path string, good func(status int) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
		if err != nil {
			return err
		}
		reply, err := http.DefaultClient.Do(request)
		if err == nil {
			if err := reply.Body.Close(); err != nil || good(reply.StatusCode) {
				return err
			}
		}
		select {
		case err := <-p.gone:
			return fmt.Errorf("%s ended: %w\n%s", p.cmd.Args[3], err, p.log.String())
		case <-ctx.Done():
			return fmt.Errorf("%s is not as it should be: %w", p.cmd.Args[3], ctx.Err())
		case <-tick.C:
		}
	}
}

// stop ends the server as an operator would, and returns when it has gone.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if err := <-p.gone; err != nil && p.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		return fmt.Errorf("%w\n%s", err, p.log.String())
	}
	return nil
}

// profile writes what the server spends its CPU time on for so long.
func (p *process) profile(ctx context.Context, d time.Duration, path string) error {
	return p.fetch(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(d.Seconds()))), path)
}

// fetch writes what the server's metrics listener answers.
func (p *process) fetch(ctx context.Context, from, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.metrics+from, nil)
	if err != nil {
		return err
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(path, body, 0o644)
}

// clockTick is how the kernel counts CPU time for /proc: USER_HZ, 100 on Linux.
const clockTick = 10 * time.Millisecond

// cpu is the CPU time that the server has spent, as proc(5) tells it.
func (p *process) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, after, _ := strings.Cut(string(stat), ") ") // the name may hold anything
	fields := strings.Fields(after)
	user, err := strconv.Atoi(fields[11])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[12])
	return time.Duration(user+system) * clockTick, err
}

// spent is what a server and its Redis have used up to now.
type spent struct {
	cpu, redis time.Duration
	mallocs    float64
}

func (p *process) spent(ctx context.Context) (s spent, err error) {
	if p.redis != nil {
		info, err := redisInfo(ctx, p.redis, "cpu")
		if err != nil {
			return s, err
		}
		s.redis = time.Duration((info["used_cpu_sys"] + info["used_cpu_user"]) * float64(time.Second))
	}
	if p.metrics != "" {
		if s.mallocs, err = p.mallocs(ctx); err != nil {
			return s, err
		}
	}
	s.cpu, err = p.cpu()
	return s, err
}

// mallocs is how many objects the server has ever made.
func (p *process) mallocs(ctx context.Context) (float64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.metrics+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, "go_memstats_mallocs_total "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("%s tells no mallocs", p.metrics)
}

// ownCPU is the CPU time that this process has spent.
func ownCPU() (time.Duration, error) {
	var usage syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()), err
}

// memory is what of the server is in memory now, in bytes.
func (p *process) memory() (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if kib, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.ParseInt(strings.Fields(kib)[0], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("no VmRSS for %d", p.cmd.Process.Pid)
}

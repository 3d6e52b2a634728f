package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// terminal is the program in a terminal of its own.
type terminal struct {
	t    testing.TB
	cmd  *exec.Cmd
	keys *os.File
	seen buffer
	done chan int
}

// terminal starts the program as a person does.
func (s *shell) terminal(env []string, args ...string) *terminal {
	s.t.Helper()
	p := &terminal{t: s.t, cmd: exec.Command(program(s.t, "f2t"), s.args(args)...), done: make(chan int, 1)}
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "TERM=xterm-256color"}, env...)
	keys, err := pty.StartWithSize(p.cmd, &pty.Winsize{Cols: 100, Rows: 30})
	if err != nil {
		s.t.Fatal(err)
	}
	p.keys = keys
	go func() {
		_, err := io.Copy(&p.seen, keys) // ends with EIO, when the program does
		if err != nil && !errors.Is(err, syscall.EIO) && !errors.Is(err, os.ErrClosed) {
			s.t.Error(err)
		}
		_ = p.cmd.Wait() // how it ended is in its state
		p.done <- p.cmd.ProcessState.ExitCode()
	}()
	s.t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // where it still runs
		_ = keys.Close()
	})
	return p
}

// types presses keys.
func (p *terminal) types(keys string) {
	p.t.Helper()
	if _, err := p.keys.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// hides waits until what is typed is not shown, which is so a moment after the
// question: nobody types as fast as a test.
func (p *terminal) hides() {
	p.t.Helper()
	for end := time.Now().Add(patient); ; {
		state, err := unix.IoctlGetTermios(int(p.keys.Fd()), unix.TCGETS)
		if err != nil {
			p.t.Fatal(err)
		}
		if state.Lflag&unix.ECHO == 0 {
			return
		}
		if time.Now().After(end) {
			p.t.Fatal("what is typed is shown")
		}
		runtime.Gosched()
	}
}

const ctrlC = "\x03"

// escapes are what steers a terminal.
var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")

// ended is the exit code.
func (p *terminal) ended() int {
	p.t.Helper()
	select {
	case code := <-p.done:
		return code
	case <-time.After(patient):
		p.t.Fatalf("it did not end:\n%s", p.seen.String())
		return -1
	}
}

// A person is asked for what was not said, and their password is not shown.
func TestTerminal_asks_for_the_password(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	s.register("ada")
	me := shellAt(t, s.url)
	p := me.terminal(nil, "login")
	p.seen.has(t, "Username: ")
	p.types("ada\r")
	p.seen.has(t, "Password of ada at "+s.url+": ")
	p.hides()
	p.types(password + "\r")
	p.seen.has(t, "logged in to "+s.url+" as ada")
	if code := p.ended(); code != exitDone || strings.Contains(p.seen.String(), password) {
		t.Errorf("exit %d: %s", code, p.seen.String())
	}
	p = me.terminal(nil, "login")
	p.seen.has(t, `Username \[ada\]: `)
	p.types("\r")
	p.seen.has(t, "Password of ada")
	p.types(ctrlC)
	if code := p.ended(); code != exitInterrupted {
		t.Errorf("Ctrl-C at the password: exit %d: %s", code, p.seen.String())
	}
	me.run("users", "sessions").ok(t) // the session before is still good
}

func TestTerminal_colours(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	s.room(s.register("ada"), "Tapas y charla")
	for _, c := range []struct {
		env     []string
		colours bool
	}{{nil, true}, {[]string{"NO_COLOR=1"}, false}, {[]string{"TERM=dumb"}, false}} {
		p := shellAt(t, s.url).terminal(c.env, "rooms", "list")
		if code := p.ended(); code != exitDone {
			t.Errorf("exit %d", code)
		}
		says(t, p.seen.String(), "Tapas y charla")
		if got := strings.Contains(p.seen.String(), "\x1b["); got != c.colours {
			t.Errorf("%v: colours %v:\n%q", c.env, got, p.seen.String())
		}
		for line := range strings.Lines(p.seen.String()) {
			if shown := escapes.ReplaceAllString(strings.TrimRight(line, "\r\n"), ""); len([]rune(shown)) > 100 {
				t.Errorf("a line of %d: %q", len([]rune(shown)), line)
			}
		}
	}
}

func TestTerminal_a_watch_ends_with_Ctrl_C(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	p := shellAt(t, s.url).terminal(nil, "rooms", "watch")
	p.seen.has(t, "0 rooms are open")
	s.room(s.register("ada"), "Tapas y charla")
	p.seen.has(t, "ada opened .*Tapas y charla")
	p.types(ctrlC)
	if code := p.ended(); code != exitDone || strings.Contains(p.seen.String(), "f2t:") {
		t.Errorf("exit %d: %s", code, p.seen.String())
	}
}

func TestTerminal_load_shows_how_far_it_is(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	p := shellAt(t, s.url).terminal(nil, "load", "--for", "1500ms")
	p.seen.has(t, `calls, [\d]+ a second.*%`)
	p.seen.has(t, `p99\.9`)
	if code := p.ended(); code != exitDone {
		t.Errorf("exit %d", code)
	}
}

// leaves are all commands, as they are typed.
func leaves(t *testing.T) [][]string {
	t.Helper()
	parser, err := kong.New(&CLI{}, kong.Name("f2t"))
	if err != nil {
		t.Fatal(err)
	}
	var all [][]string
	for _, leaf := range parser.Model.Leaves(true) {
		all = append(all, strings.Fields(leaf.FullPath())[1:])
	}
	if len(all) < 30 {
		t.Fatalf("only %d commands", len(all))
	}
	return all
}

// Each command says what it does, with an example that begins with it.
func TestHelp(t *testing.T) {
	t.Parallel()
	me := shellAt(t, "http://127.0.0.1:1")
	for _, words := range leaves(t) {
		r := me.run(append(words, "--help")...)
		text := r.ok(t)
		if r.log != "" {
			t.Errorf("%v --help writes %q where errors go", words, r.log)
		}
		if words[0] == "completion" { // the library's own
			continue
		}
		example := strings.Index(text, "Example:")
		if example < 0 || !strings.Contains(text[example:], "f2t "+strings.Join(words, " ")) &&
			!strings.Contains(text[example:], words[len(words)-1]) {
			t.Errorf("%v --help has no example:\n%s", words, text)
		}
	}
	whole := me.run("--help").ok(t)
	for code, meaning := range map[int]string{
		exitDone: "done", exitFailed: "refused", exitUsage: "command line is wrong", exitNoSession: "logged in",
		exitForbidden: "not allowed", exitNotFound: "no such thing", exitNotNow: "not now", exitInterrupted: "interrupted",
	} {
		said := strings.Join(strings.Fields(whole), " ")
		if !strings.Contains(said, fmt.Sprintf("%d %s", code, strings.Fields(meaning)[0])) && !strings.Contains(said, fmt.Sprintf("%d ", code)) || !strings.Contains(said, meaning) {
			t.Errorf("the help does not say what %d means (%s)", code, meaning)
		}
	}
}

func TestWrongCommandLines(t *testing.T) {
	t.Parallel()
	me := shellAt(t, "http://127.0.0.1:1")
	me.run().fails(t, exitUsage)
	me.run("romos").fails(t, exitUsage, "rooms", "f2t --help")
	me.run("rooms", "lst").fails(t, exitUsage, "list")
	me.run("rooms", "show").fails(t, exitUsage, "room", "f2t rooms show --help")
	me.run("rooms", "list", "--colour").fails(t, exitUsage, "--colour")
	me.run("-o", "yaml", "rooms", "list").fails(t, exitUsage, "table", "json")
	me.run("rooms", "list").fails(t, exitNotNow, "nothing answers at http://127.0.0.1:1", "--server")
	me.run("version").ok(t)
	me.server = "ftp://x"
	me.run("rooms", "list").fails(t, exitUsage, "http://")
}

// Completion as the three shells ask for it.
func TestCompletion(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish"} {
		out, err := exec.Command(program(t, "f2t"), "completion", "-c", shell).Output()
		if err != nil {
			t.Fatal(err)
		}
		says(t, string(out), "complete", program(t, "f2t"))
	}
	for line, want := range map[string][]string{
		"f2t ":                         {"rooms", "users", "stats", "why", "call"},
		"f2t rooms ":                   {"list", "show", "close", "kick", "watch"},
		"f2t call ListR":               {"ListRooms"},
		"f2t users role ada ":          {"admin", "user"},
		"f2t rooms list --level upper": {"upper-beginner", "upper-advanced"},
		"f2t limits reset r":           {"room_create"},
	} {
		cmd := exec.Command(program(t, "f2t"))
		cmd.Env = append(os.Environ(), "COMP_LINE="+line, fmt.Sprintf("COMP_POINT=%d", len(line)))
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range want {
			if !strings.Contains("\n"+string(out), "\n"+word+"\n") {
				t.Errorf("%q does not offer %s but\n%s", line, word, out)
			}
		}
	}
}

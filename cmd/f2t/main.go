// Command f2t is the command line of a free2talk server: what goes on there,
// who is there, and what an administrator does about it. It speaks to the
// server as every client does, and so needs an account and no access to the
// machine.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/alecthomas/kong"
	kongcompletion "github.com/jotaen/kong-completion"
	"golang.org/x/term"
)

// Flags are what every command takes.
type Flags struct {
	Server    string        `placeholder:"URL" env:"F2T_SERVER" help:"The server. Unset: the profile's, or else http://127.0.0.1:8080."`
	Profile   string        `placeholder:"NAME" default:"default" env:"F2T_PROFILE" predictor:"profile" help:"Which log-in to use (${default})."`
	ConfigDir string        `placeholder:"DIR" env:"F2T_CONFIG_DIR" predictor:"dir" help:"Where profiles are kept. Unset: f2t in the user's directory of settings."`
	Output    string        `short:"o" placeholder:"FORMAT" default:"table" enum:"table,json" env:"F2T_OUTPUT" predictor:"output" help:"table for people, or json for programs (${default})."`
	Timeout   time.Duration `placeholder:"TIME" default:"30s" help:"How long one call may take (${default})."`
}

// CLI is the command line.
type CLI struct {
	Flags

	Login    loginCmd    `cmd:"" group:"Account" help:"Log in, and remember it as a profile."`
	Logout   logoutCmd   `cmd:"" group:"Account" help:"End the session, and forget the profile."`
	Profiles profilesCmd `cmd:"" group:"Account" help:"List the profiles on this machine."`

	Rooms  roomsCmd  `cmd:"" group:"What goes on" help:"Find rooms, look into them, follow them, close them."`
	Users  usersCmd  `cmd:"" group:"What goes on" help:"Find people, ban them, change their role, end their sessions."`
	Online onlineCmd `cmd:"" group:"What goes on" help:"Who is there now."`

	Stats     statsCmd     `cmd:"" group:"The server" help:"How the server does: people, cache, limits, stores."`
	Analytics analyticsCmd `cmd:"" group:"The server" help:"How the community does: plots over days and hours."`
	Cache     cacheCmd     `cmd:"" group:"The server" help:"Look at the cache, empty it, warm it."`
	Limits    limitsCmd    `cmd:"" group:"The server" help:"Look at the rate limits, give somebody their places back."`
	Audit     auditCmd     `cmd:"" group:"The server" help:"What administrators did, and whether the log is whole."`
	Why       whyCmd       `cmd:"" group:"The server" help:"Find out why something is as it is."`

	Call       callCmd                   `cmd:"" group:"Tools" help:"Call any RPC with JSON, by the server's reflection."`
	Load       loadCmd                   `cmd:"" group:"Tools" help:"Call an RPC many times, and see how long it takes."`
	Completion kongcompletion.Completion `cmd:"" group:"Tools" help:"Completion of commands by bash, zsh or fish."`
	Version    versionCmd                `cmd:"" group:"Tools" help:"Say which version this is."`
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(a *app) error {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return errors.New("this program does not know its version")
	}
	return a.say("f2t %s %s\n", info.Main.Version, info.GoVersion)
}

// Help shows how it is used.
func (versionCmd) Help() string { return examples("f2t version") }

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

const description = `Administer a free2talk server from a shell.

Log in once; after that every command knows who you are:

	f2t login ada

Most commands need an administrator. On the server's machine, "free2talk user promote NAME" makes one.

Exit codes: 0 done · 1 the server refused, or something failed · 2 the command line is wrong · 3 nobody is logged in, or the session has ended · 4 not allowed · 5 there is no such thing · 6 not now: too many calls, or the server is away · 130 interrupted. Ctrl-C is how a watch ends: 0.`

// run is main with a code to exit with.
func run(ctx context.Context, args []string, in io.Reader, out, log io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for anybody
	var cli CLI
	a := newApp(&cli.Flags, in, out, log)
	code := -1
	parser, err := kong.New(&cli,
		kong.Name("f2t"),
		kong.Description(description),
		kong.Writers(out, log),
		kong.Exit(func(exit int) { code = exit }),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.Bind(a),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
	if err != nil {
		a.notef("%v", err)
		return exitUsage
	}
	kongcompletion.Register(parser, kongcompletion.WithPredictors(predictors()))
	if code >= 0 {
		return code
	}
	command, err := parser.Parse(args)
	switch {
	case code >= 0: // --help
		return code
	case err != nil:
		a.notef("%v (see f2t %s--help)", err, upTo(err))
		return exitUsage
	}
	err = command.Run()
	if code >= 0 && err == nil {
		return code
	}
	return a.exit(ctx, err)
}

// upTo is how far a wrong command line was right, for the hint.
func upTo(err error) string {
	wrong, ok := errors.AsType[*kong.ParseError](err)
	if !ok || wrong.Context.Selected() == nil {
		return ""
	}
	return wrong.Context.Selected().Path() + " "
}

// newApp looks at what it writes to: a terminal gets colours, unless NO_COLOR
// is set, and lines that fit.
func newApp(flags *Flags, in io.Reader, out, log io.Writer) *app {
	a := &app{Flags: flags, in: in, out: out, log: log}
	if fd, ok := descriptor(out); ok && term.IsTerminal(fd) {
		a.terminal = true
		a.color = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	}
	return a
}

// descriptor is the file behind a reader or writer.
func descriptor(of any) (int, bool) {
	f, ok := of.(interface{ Fd() uintptr })
	if !ok {
		return 0, false
	}
	return int(f.Fd()), true
}

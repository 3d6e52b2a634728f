// Command free2talk is the server of a community that practises languages in
// voice rooms, and the few things that its operator does from a shell.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// CLI is the command line.
type CLI struct {
	Config `embed:"" group:"Settings"`

	Serve   serveCmd   `cmd:"" default:"withargs" help:"Run a node (this is what happens without a command)."`
	Migrate migrateCmd `cmd:"" help:"Change the shape of the database."`
	User    userCmd    `cmd:"" help:"Act on an account."`
	Keys    keysCmd    `cmd:"" help:"Act on the signing keys."`
	Version versionCmd `cmd:"" help:"Say which version this is."`
}

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run() error {
	_, err := fmt.Println(version())
	return err
}

// version is the one that the build was tagged with, or the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "free2talk (unknown)"
	}
	words := []string{"free2talk", info.Main.Version, info.GoVersion}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			words = append(words, setting.Value)
		}
	}
	return strings.Join(words, " ")
}

func main() { os.Exit(run(context.Background(), os.Args[1:])) }

// run is main with a code to exit with: 0 done, 1 failed, 2 the command line or
// the configuration is wrong.
func run(ctx context.Context, args []string) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	cli := CLI{Config: Config{Secret: os.Getenv("FREE2TALK_SECRET")}}
	parser, err := kong.New(&cli,
		kong.Name("free2talk"),
		kong.Description("Voice rooms for people who learn languages. Without flags it serves on 127.0.0.1:8080 and keeps everything in ./free2talk-data."),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, "free2talk:", err)
		return 2
	}
	command, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(os.Stderr, "free2talk: %v\nRun free2talk --help to see what there is.\n", err)
		return 2
	}
	if err := command.Run(&cli.Config); err != nil {
		fmt.Fprintln(os.Stderr, "free2talk:", err)
		return exitCode(err)
	}
	return 0
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

type loginCmd struct {
	Name          string `arg:"" optional:"" help:"The username or e-mail address. Asked for where it is missing."`
	PasswordStdin bool   `help:"Read the password from standard input, for scripts."`
}

// Help shows how it is used.
func (loginCmd) Help() string {
	return "Asks for the password. The session is kept in a file that only you can read, and renewed by itself; each profile has one of its own.\n\n" +
		examples("f2t login ada", "f2t --profile live --server https://talk.example login ada", "f2t login ada --password-stdin < password.txt")
}

// Run logs in.
func (l loginCmd) Run(ctx context.Context, a *app) error {
	file, err := a.file()
	if err != nil {
		return err
	}
	old, err := a.profile()
	if err != nil {
		return err
	}
	name, password, err := l.credentials(ctx, a, old.Username)
	if err != nil {
		return err
	}
	c, err := client.New(a.address(), client.WithUserAgent("f2t"))
	if err != nil {
		return failf(exitUsage, "%q is no server: it begins with http:// or https://", a.address())
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	account, err := c.Login(ctx, name, password)
	if err != nil {
		return err
	}
	tokens, err := c.Tokens(ctx)
	if err != nil {
		return err
	}
	made := profile{Server: a.address(), Username: account.GetUser().GetUsername(), Tokens: tokens}
	if err := file.write(made); err != nil {
		return errors.Join(err, c.Logout(ctx))
	}
	a.endOld(ctx, *old)
	if account.GetUser().GetRole() != free2talkv1.Role_ROLE_ADMIN {
		defer a.notef("%s is no administrator, which most commands need: on the server's machine, `free2talk user promote %s` makes one", made.Username, made.Username)
	}
	return a.done("logged in to %s as %s", made.Server, made.Username)
}

// endOld ends the session that a profile held before: nobody holds its tokens
// any more. That it cannot be ended now keeps nobody from logging in.
func (a *app) endOld(ctx context.Context, old profile) {
	if old.Tokens.Refresh == "" {
		return
	}
	c, err := client.New(old.Server, client.WithTokens(old.Tokens))
	if err == nil {
		err = c.Logout(ctx)
	}
	if err != nil && ctx.Err() == nil {
		line, _ := a.explain(err)
		a.notef("the session before goes on at %s until it runs out: %s", old.Server, line)
	}
}

// credentials asks for what it was not told.
func (l loginCmd) credentials(ctx context.Context, a *app, last string) (name, password string, err error) {
	in := bufio.NewReader(a.in)
	name = or(l.Name, "")
	fd, terminal := descriptor(a.in)
	terminal = terminal && term.IsTerminal(fd)
	switch {
	case name == "" && !terminal:
		return "", "", failf(exitUsage, "who logs in? `f2t login NAME`")
	case !l.PasswordStdin && !terminal:
		return "", "", failf(exitUsage, "there is no terminal to ask for the password: give it by --password-stdin")
	case name == "":
		fmt.Fprintf(a.log, "Username%s: ", strings.TrimSuffix(" ["+last+"]", " []"))
		if name, err = answer(ctx, in); err != nil {
			return "", "", err
		}
		name = or(name, last)
	}
	if l.PasswordStdin {
		password, err = answer(ctx, in)
		return name, password, err
	}
	fmt.Fprintf(a.log, "Password of %s at %s: ", name, a.address())
	defer fmt.Fprintln(a.log)
	password, err = secret(ctx, fd)
	return name, password, err
}

// answer reads one line, or gives up with ctx.
func answer(ctx context.Context, in *bufio.Reader) (string, error) {
	return waitFor(ctx, func() (string, error) {
		line, err := in.ReadString('\n')
		if errors.Is(err, io.EOF) && line != "" {
			err = nil
		}
		return strings.TrimRight(line, "\r\n"), err
	})
}

// secret reads one line that is not shown, and leaves the terminal as it was.
func secret(ctx context.Context, fd int) (string, error) {
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	read, err := waitFor(ctx, func() (string, error) {
		line, err := term.ReadPassword(fd)
		return string(line), err
	})
	return read, errors.Join(err, term.Restore(fd, before))
}

// waitFor returns what read returns. A terminal cannot be told to stop
// reading, so where ctx ends first the reader is left behind, with the process.
func waitFor(ctx context.Context, read func() (string, error)) (string, error) {
	type result struct {
		line string
		err  error
	}
	done := make(chan result, 1)
	go func() {
		line, err := read()
		done <- result{line, err}
	}()
	select {
	case r := <-done:
		return r.line, r.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

type logoutCmd struct{}

// Help shows how it is used.
func (logoutCmd) Help() string { return examples("f2t logout", "f2t --profile live logout") }

// Run ends the session and forgets the profile.
func (logoutCmd) Run(ctx context.Context, a *app) error {
	file, err := a.file()
	if err != nil {
		return err
	}
	who, err := a.profile()
	if err != nil {
		return err
	}
	if *who == (profile{}) {
		return a.done("nobody was logged in")
	}
	a.Server = who.Server
	c, err := a.client()
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	if err := c.Logout(ctx); err != nil {
		return err
	}
	if err := file.remove(); err != nil {
		return err
	}
	return a.done("logged out of %s; the profile %q is forgotten", who.Server, a.Profile)
}

type profilesCmd struct{}

// Help shows how it is used.
func (profilesCmd) Help() string { return examples("f2t profiles") }

// Run lists the profiles.
func (profilesCmd) Run(a *app) error {
	names, err := a.profiles()
	if err != nil {
		return err
	}
	type known struct {
		Name     string `json:"name"`
		Server   string `json:"server"`
		Username string `json:"username"`
		LoggedIn bool   `json:"loggedIn"`
		Current  bool   `json:"current"`
	}
	all := []known{}
	for _, name := range names {
		flags := *a.Flags
		flags.Profile = name
		file, err := flags.file()
		if err != nil {
			return err
		}
		read, err := file.read()
		if err != nil {
			return err
		}
		all = append(all, known{name, read.Server, read.Username, read.Tokens.Refresh != "", name == a.Profile})
	}
	if a.json() {
		return a.value(all)
	}
	g := a.grid("profile", "server", "user", "session")
	for _, p := range all {
		session := "ended"
		if p.LoggedIn {
			session = "logged in"
		}
		g.row(p.Name+map[bool]string{true: " *"}[p.Current], p.Server, p.Username, session)
	}
	return g.print("There are no profiles. `f2t login NAME` makes one.")
}

// predictProfiles is for the completion.
func predictProfiles() []string {
	var f Flags
	names, err := f.profiles()
	if err != nil {
		return nil
	}
	return slices.Clip(names)
}

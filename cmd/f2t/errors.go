package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/client"
)

// What the program exits with. They are part of its contract: see the help.
const (
	exitDone        = 0
	exitFailed      = 1   // the server refused, or something failed
	exitUsage       = 2   // the command line is wrong
	exitNoSession   = 3   // nobody is logged in, or the session has ended
	exitForbidden   = 4   // not allowed: no administrator, banned, kicked
	exitNotFound    = 5   // there is no such user, room, session, profile
	exitNotNow      = 6   // a rate limit, or the server is away: the same again, later, may work
	exitInterrupted = 130 // Ctrl-C before it was done
)

// failure is an error of this program's own, with its exit code.
type failure struct {
	code int
	text string
}

// Error is the line that a person reads.
func (f failure) Error() string { return f.text }

func failf(code int, format string, args ...any) error {
	return failure{code, fmt.Sprintf(format, args...)}
}

// exit says what went wrong, in one line, and returns the code.
func (a *app) exit(ctx context.Context, err error) int {
	if err == nil {
		return exitDone
	}
	if ctx.Err() != nil {
		a.notef("interrupted")
		return exitInterrupted
	}
	line, code := a.explain(err)
	a.notef("%s", line)
	return code
}

// explain is the reason of an error, what to do about it, and the exit code.
func (a *app) explain(err error) (line string, code int) {
	if own, ok := errors.AsType[failure](err); ok {
		return own.text, own.code
	}
	wire, ok := errors.AsType[*connect.Error](err)
	if !ok || wire == nil {
		return oneLine(err.Error()), exitFailed
	}
	code = codeOf(wire)
	hint := a.hint(wire)
	line = oneLine(wire.Message())
	switch {
	case code == exitNotNow && client.Reason(wire) == "" && connect.CodeOf(wire) == connect.CodeUnavailable:
		line = "nothing answers at " + a.address() + " (" + line + ")"
	case connect.CodeOf(wire) == connect.CodeUnimplemented:
		line = "the server has no such call"
	}
	for _, v := range client.Violations(wire) {
		if !strings.Contains(line, v.Message) {
			hint = strings.TrimPrefix(hint+"; "+strings.TrimSpace(v.Field+" "+v.Message), "; ")
		}
	}
	if reason := client.Reason(wire); reason != "" {
		line += " (" + reason + ")"
	}
	if hint != "" {
		line += ": " + hint
	}
	return line, code
}

// codeOf is the exit code of what the server said.
func codeOf(err error) int {
	switch connect.CodeOf(err) {
	case connect.CodeUnauthenticated:
		return exitNoSession
	case connect.CodePermissionDenied:
		return exitForbidden
	case connect.CodeNotFound:
		return exitNotFound
	case connect.CodeUnavailable, connect.CodeDeadlineExceeded, connect.CodeResourceExhausted:
		return exitNotNow
	case connect.CodeInvalidArgument:
		return exitUsage
	}
	return exitFailed
}

// hint is what a person can do about it, or "".
func (a *app) hint(err error) string {
	if after, told := client.RetryAfter(err); told {
		return "try again in " + duration(after)
	}
	switch client.Reason(err) {
	case client.ReasonBadCredentials:
		return "is it this server, " + a.address() + "?"
	case client.ReasonNotAdmin:
		return "on the server's machine, `free2talk user promote " + or(a.username(), "NAME") + "` makes this account an administrator"
	case client.ReasonTokenMissing, client.ReasonTokenExpired, client.ReasonTokenInvalid, client.ReasonSessionRevoked,
		client.ReasonRefreshInvalid, client.ReasonRefreshReused:
		return "log in with `" + a.loginCommand() + "`"
	}
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable:
		if client.Reason(err) == "" {
			return "`free2talk` starts a server; --server names another"
		}
	case connect.CodeDeadlineExceeded:
		return "--timeout gives it longer than " + duration(a.Timeout)
	case connect.CodeUnimplemented:
		return "the server at " + a.address() + " is older than this program, or no free2talk"
	}
	return ""
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// duration is a time as people say it: 4m10s, not 4m9.873s.
func duration(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < time.Minute:
		return d.Round(time.Second / 10).String()
	}
	text := d.Round(time.Second).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

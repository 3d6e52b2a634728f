package main

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"github.com/free2talk/free2talk/client"
	"github.com/free2talk/free2talk/gen/free2talk/admin/v1/adminv1connect"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

const defaultServer = "http://127.0.0.1:8080"

// app is one run of the program: what it was told, and where it reads and
// writes. Results go to out, everything else to log.
type app struct {
	*Flags

	in       io.Reader
	out, log io.Writer
	terminal bool // out is one
	color    bool // out takes colours
	wide     int  // columns, where out is not the terminal itself; 0: ask

	who *profile // of the flags, once it was read
}

// profile reads the profile of the flags.
func (a *app) profile() (*profile, error) {
	if a.who != nil {
		return a.who, nil
	}
	file, err := a.file()
	if err != nil {
		return nil, err
	}
	read, err := file.read()
	if err != nil {
		return nil, err
	}
	a.who = &read
	return a.who, nil
}

// address is the server that the flags and the profile name.
func (a *app) address() string {
	if a.Server != "" {
		return strings.TrimRight(a.Server, "/")
	}
	if a.who != nil && a.who.Server != "" {
		return a.who.Server
	}
	return defaultServer
}

func (a *app) username() string {
	if a.who == nil {
		return ""
	}
	return a.who.Username
}

// loginCommand is what logs in again, to be copied from an error.
func (a *app) loginCommand() string {
	words := []string{"f2t"}
	if a.Profile != "default" {
		words = append(words, "--profile", a.Profile)
	}
	if a.address() != defaultServer {
		words = append(words, "--server", a.address())
	}
	return strings.Join(append(words, "login", or(a.username(), "NAME")), " ")
}

// client speaks as the profile, or as nobody where there is none. A session is
// shown to no server but its own.
func (a *app) client(opts ...client.Option) (*client.Client, error) {
	who, err := a.profile()
	if err != nil {
		return nil, err
	}
	if who.Tokens.Refresh != "" && who.Server == a.address() {
		file, err := a.file()
		if err != nil {
			return nil, err
		}
		file.about = *who
		opts = append(opts, client.WithTokenStore(file))
	}
	c, err := client.New(a.address(), append(opts, client.WithUserAgent("f2t"))...)
	if err != nil {
		return nil, failf(exitUsage, "%q is no server: it begins with http:// or https://", a.address())
	}
	return c, nil
}

// user is a client for what needs somebody to be logged in.
func (a *app) user(opts ...client.Option) (*client.Client, error) {
	who, err := a.profile()
	switch {
	case err != nil:
		return nil, err
	case who.Server != "" && who.Server != a.address():
		return nil, failf(exitNoSession, "the profile %q is logged in to %s: log in to %s with `f2t --profile NAME --server %s login NAME`",
			a.Profile, who.Server, a.address(), a.address())
	case who.Tokens.Refresh == "" && who.Username != "":
		return nil, failf(exitNoSession, "the session of %s has ended: log in with `%s`", who.Username, a.loginCommand())
	case who.Tokens.Refresh == "":
		return nil, failf(exitNoSession, "nobody is logged in: log in with `%s`", a.loginCommand())
	}
	return a.client(opts...)
}

// admin is the client of what only administrators may do.
func (a *app) admin(opts ...client.Option) (adminv1connect.AdminServiceClient, *client.Client, error) {
	c, err := a.user(opts...)
	if err != nil {
		return nil, nil, err
	}
	return adminv1connect.NewAdminServiceClient(c.Conn()), c, nil
}

// bounded gives one call its time.
func (a *app) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, a.Timeout)
}

func isID(name string) bool { return uuid.Validate(name) == nil }

// limitKey is whose places a rate limit counts: an address as it is, a user by
// their id.
func (a *app) limitKey(ctx context.Context, c *client.Client, name string) (string, error) {
	host, _, _ := strings.Cut(name, "/")
	if _, err := netip.ParseAddr(host); err == nil {
		return name, nil
	}
	return a.userID(ctx, c, name)
}

// userID is the id of who is named by id or username.
func (a *app) userID(ctx context.Context, c *client.Client, name string) (string, error) {
	if isID(name) {
		return strings.ToLower(name), nil
	}
	reply, err := c.Users.GetUser(ctx, &free2talkv1.GetUserRequest{Key: userKey(name)})
	return reply.GetUser().GetId(), err
}

func userKey(name string) *free2talkv1.GetUserRequest_Username {
	return &free2talkv1.GetUserRequest_Username{Username: strings.TrimPrefix(name, "@")}
}

// findRoom is the room that is named by id or slug.
func (a *app) findRoom(ctx context.Context, c *client.Client, name string) (*free2talkv1.GetRoomResponse, error) {
	request := &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Slug{Slug: name}}
	if isID(name) {
		request.Key = &free2talkv1.GetRoomRequest_Id{Id: strings.ToLower(name)}
	}
	return c.Rooms.GetRoom(ctx, request)
}

// http2 speaks HTTP/2 also without TLS, which reflection needs: both sides of
// it talk at once.
func (a *app) http2() client.Option {
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, Protocols: new(http.Protocols)}
	if u, err := url.Parse(a.address()); err == nil && u.Scheme == "http" {
		transport.Protocols.SetUnencryptedHTTP2(true)
	} else {
		transport.Protocols.SetHTTP2(true)
	}
	return client.WithHTTPClient(&http.Client{Transport: transport})
}

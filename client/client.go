package client

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
)

// Client is a typed client of every service, over one transport, with the
// session of at most one account.
type Client struct { //nolint:recvcheck // printed, a copy must be as silent as a pointer
	Auth     free2talkv1connect.AuthServiceClient     // accounts and sessions
	Users    free2talkv1connect.UserServiceClient     // profiles
	Rooms    free2talkv1connect.RoomServiceClient     // rooms and who sits in them
	Presence free2talkv1connect.PresenceServiceClient // who is online

	url     string
	conn    *connect.Client
	session *session
}

// New makes a client of the server at rawURL, such as http://127.0.0.1:8080.
// It does not call the server. It fails where rawURL is no http or https URL.
func New(rawURL string, opts ...Option) (*Client, error) {
	base, err := url.Parse(rawURL)
	if err != nil || base.Host == "" || (base.Scheme != "http" && base.Scheme != "https") {
		return nil, errors.New("client: the server's address must be a URL that begins with http:// or https://")
	}
	if base.User != nil || base.RawQuery != "" || base.Fragment != "" {
		return nil, errors.New("client: the server's address has no user, query or fragment")
	}
	o := newOptions(opts)
	httpClient := o.httpClient
	if httpClient == nil {
		httpClient = newHTTPClient(o.grpc && base.Scheme == "http")
	}
	transport := connecthttp.NewTransport(httpClient, strings.TrimRight(rawURL, "/"), o.transport...)
	return newClient(transport, base.Redacted(), o), nil
}

func newClient(transport connect.Transport, address string, o options) *Client {
	// The refresh goes over a connection of its own: over the other it would wait for itself.
	bare := connect.NewClient(transport, agent(o.userAgent))
	s := &session{
		auth:    free2talkv1connect.NewAuthServiceClient(bare),
		store:   o.store,
		clock:   o.clock,
		retries: o.retries,
	}
	chain := &chain{session: s, clock: o.clock, retries: o.retries}
	conn := connect.NewClient(transport,
		chain.intercept,    // tokens, retries: sees a call as the caller does
		agent(o.userAgent), // sees each attempt
	)
	return &Client{
		Auth:     free2talkv1connect.NewAuthServiceClient(conn),
		Users:    free2talkv1connect.NewUserServiceClient(conn),
		Rooms:    free2talkv1connect.NewRoomServiceClient(conn),
		Presence: free2talkv1connect.NewPresenceServiceClient(conn),
		url:      address,
		conn:     conn,
		session:  s,
	}
}

// Conn is what the typed clients of this Client are made on. Make those of
// other packages on it, and they share its session:
//
//	admin := adminv1connect.NewAdminServiceClient(c.Conn())
func (c *Client) Conn() *connect.Client { return c.conn }

// String says which server it is a client of, and never a token.
func (c Client) String() string { return "free2talk client of " + c.url }

// Format prints a client as [Client.String] does, whatever the verb: what it
// holds is not for logs.
func (c Client) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// newHTTPClient is the default: the standard library's own settings, and for
// gRPC over plain HTTP, HTTP/2 without an upgrade (h2c), which it needs.
func newHTTPClient(h2c bool) *http.Client {
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultClient // somebody replaced it: theirs
	}
	transport = transport.Clone()
	if h2c {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	return &http.Client{Transport: transport}
}

package client

import (
	"context"
	"strings"

	"connectrpc.com/connect/v2"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// Register opens an account and logs this client in to it. It fails with
// EMAIL_TAKEN, USERNAME_TAKEN, USERNAME_RESERVED or PASSWORD_WEAK.
func (c *Client) Register(ctx context.Context, email, username, password string) (*free2talkv1.Account, error) {
	res, err := c.Auth.Register(ctx, &free2talkv1.RegisterRequest{
		Email: email, Username: username, Password: password,
	})
	return res.GetAccount(), err
}

// Login logs this client in, by e-mail address or username; whoever was logged
// in before keeps their session at the server. It fails with BAD_CREDENTIALS or
// BANNED.
func (c *Client) Login(ctx context.Context, login, password string) (*free2talkv1.Account, error) {
	req := &free2talkv1.LoginRequest{Password: password}
	if strings.Contains(login, "@") { // which no username does
		req.Login = &free2talkv1.LoginRequest_Email{Email: login}
	} else {
		req.Login = &free2talkv1.LoginRequest_Username{Username: login}
	}
	res, err := c.Auth.Login(ctx, req)
	return res.GetAccount(), err
}

// Logout ends the session at the server and forgets its tokens. It is no error
// where nobody is logged in, or where the session has ended already. Where the
// server cannot be reached, the tokens are kept, so that it can be tried again.
func (c *Client) Logout(ctx context.Context) error {
	tokens, err := c.session.current(ctx)
	if err != nil || tokens == (Tokens{}) {
		return err
	}
	_, err = c.Auth.Logout(ctx, &free2talkv1.LogoutRequest{})
	if err != nil && connect.CodeOf(err) == connect.CodeUnauthenticated {
		return c.session.forget(ctx, tokens)
	}
	return err
}

// Tokens returns the session that the client holds, zero where nobody is
// logged in. It fails only where the [TokenStore] does.
func (c *Client) Tokens(ctx context.Context) (Tokens, error) { return c.session.current(ctx) }

package server

import (
	"context"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
	"github.com/free2talk/free2talk/server/talk"
)

// authHandler is AuthService: [talk.Accounts] on the wire.
type authHandler struct {
	accounts *talk.Accounts
}

var _ free2talkv1connect.AuthServiceHandler = authHandler{}

// Register opens an account and signs its first device in.
func (h authHandler) Register(ctx context.Context, req *freev1.RegisterRequest) (*freev1.RegisterResponse, error) {
	if err := sameSite(ctx, req.GetCookie()); err != nil {
		return nil, err
	}
	account, grant, err := h.accounts.Register(ctx, registration(req), deviceFrom(ctx))
	if err != nil {
		return nil, err
	}
	tokens, err := h.deliver(ctx, grant)
	return &freev1.RegisterResponse{Account: wireAccount(account), Tokens: tokens}, err
}

// Login signs a device in.
func (h authHandler) Login(ctx context.Context, req *freev1.LoginRequest) (*freev1.LoginResponse, error) {
	if err := sameSite(ctx, req.GetCookie()); err != nil {
		return nil, err
	}
	login := talk.Login{Email: req.GetEmail(), Username: req.GetUsername()}
	view, grant, err := h.accounts.Login(ctx, login, req.GetPassword(), req.GetCookie(), deviceFrom(ctx))
	if err != nil {
		return nil, err
	}
	tokens, err := h.deliver(ctx, grant)
	return &freev1.LoginResponse{Account: wireAccount(view.Account), Tokens: tokens}, err
}

// Refresh changes a refresh token into the next one.
func (h authHandler) Refresh(ctx context.Context, req *freev1.RefreshRequest) (*freev1.RefreshResponse, error) {
	token, err := refreshTokenFrom(ctx, req.GetRefreshToken(), talk.ErrRefreshInvalid)
	if err != nil {
		return nil, err
	}
	grant, err := h.accounts.Refresh(ctx, token)
	if err != nil {
		return nil, err
	}
	tokens, err := h.deliver(ctx, grant)
	return &freev1.RefreshResponse{Tokens: tokens}, err
}

// Logout ends this session.
func (h authHandler) Logout(ctx context.Context, _ *freev1.LogoutRequest) (*freev1.LogoutResponse, error) {
	if err := h.logout(ctx); err != nil {
		return nil, err
	}
	clearRefreshCookie(ctx)
	return &freev1.LogoutResponse{}, nil
}

// logout goes by the access token, and by the cookie where none was shown.
func (h authHandler) logout(ctx context.Context) error {
	if caller, ok := callerFrom(ctx); ok {
		return h.accounts.Logout(ctx, caller)
	}
	token, err := refreshTokenFrom(ctx, "", talk.ErrTokenMissing)
	if err != nil {
		return err
	}
	return h.accounts.LogoutToken(ctx, token)
}

// LogoutAll ends all sessions of the caller.
func (h authHandler) LogoutAll(ctx context.Context, _ *freev1.LogoutAllRequest) (*freev1.LogoutAllResponse, error) {
	ended, err := h.accounts.LogoutAll(ctx, accountFrom(ctx))
	if err != nil {
		return nil, err
	}
	clearRefreshCookie(ctx)
	return &freev1.LogoutAllResponse{RevokedSessions: int32(ended)}, nil
}

// ListSessions shows the caller's devices.
func (h authHandler) ListSessions(ctx context.Context, _ *freev1.ListSessionsRequest) (*freev1.ListSessionsResponse, error) {
	caller := accountFrom(ctx)
	sessions, err := h.accounts.Sessions(ctx, caller)
	if err != nil {
		return nil, err
	}
	return &freev1.ListSessionsResponse{Sessions: each(sessions, wireSession(caller))}, nil
}

// RevokeSession ends one session of the caller.
func (h authHandler) RevokeSession(ctx context.Context, req *freev1.RevokeSessionRequest) (*freev1.RevokeSessionResponse, error) {
	err := h.accounts.RevokeSession(ctx, accountFrom(ctx), id[talk.SessionID](req.GetSessionId()))
	return &freev1.RevokeSessionResponse{}, err
}

// GetMe shows the caller their account.
func (h authHandler) GetMe(ctx context.Context, _ *freev1.GetMeRequest) (*freev1.GetMeResponse, error) {
	view, err := h.accounts.Me(ctx, accountFrom(ctx))
	if err != nil {
		return nil, err
	}
	return &freev1.GetMeResponse{
		Account:       wireAccount(view.Account),
		CurrentRoomId: string(view.CurrentRoomID),
		OwnedRoomId:   string(view.OwnedRoomID),
	}, nil
}

// ChangePassword replaces the password and ends all other sessions.
func (h authHandler) ChangePassword(ctx context.Context, req *freev1.ChangePasswordRequest) (*freev1.ChangePasswordResponse, error) {
	grant, err := h.accounts.ChangePassword(ctx, accountFrom(ctx), req.GetCurrentPassword(), req.GetNewPassword())
	if err != nil {
		return nil, err
	}
	tokens, err := h.deliver(ctx, grant)
	return &freev1.ChangePasswordResponse{Tokens: tokens}, err
}

// DeleteAccount erases the caller.
func (h authHandler) DeleteAccount(ctx context.Context, req *freev1.DeleteAccountRequest) (*freev1.DeleteAccountResponse, error) {
	if err := h.accounts.DeleteAccount(ctx, accountFrom(ctx), req.GetPassword()); err != nil {
		return nil, err
	}
	clearRefreshCookie(ctx)
	return &freev1.DeleteAccountResponse{}, nil
}

// deliver puts a grant where it belongs: in cookie mode the refresh token
// travels in the cookie and in no body.
func (h authHandler) deliver(ctx context.Context, grant talk.Grant) (*freev1.Tokens, error) {
	if !grant.Cookie {
		return wireTokens(grant), nil
	}
	if err := sendRefreshCookie(ctx, grant, h.accounts.Clock()); err != nil {
		return nil, err
	}
	grant.RefreshToken = ""
	return wireTokens(grant), nil
}

func registration(req *freev1.RegisterRequest) talk.Registration {
	return talk.Registration{
		Email: req.GetEmail(), Username: req.GetUsername(), Password: req.GetPassword(),
		DisplayName: req.GetDisplayName(), Cookie: req.GetCookie(),
	}
}

func wireAccount(a talk.Account) *freev1.Account {
	return &freev1.Account{User: wireUser(a.User), Email: a.Email}
}

func wireTokens(g talk.Grant) *freev1.Tokens {
	return &freev1.Tokens{
		AccessToken:      g.AccessToken,
		AccessExpiresAt:  wireTime(g.AccessExpiresAt),
		RefreshToken:     g.RefreshToken,
		RefreshExpiresAt: wireTime(g.RefreshExpiresAt),
		SessionId:        string(g.SessionID),
	}
}

// wireSession also marks the session of the caller.
func wireSession(caller talk.Caller) func(talk.Session) *freev1.Session {
	return func(s talk.Session) *freev1.Session {
		return &freev1.Session{
			Id:         string(s.ID),
			CreatedAt:  wireTime(s.CreatedAt),
			LastUsedAt: wireTime(s.LastUsedAt),
			ExpiresAt:  wireTime(s.ExpiresAt()),
			UserAgent:  s.UserAgent,
			Ip:         s.IP,
			Current:    s.ID == caller.SessionID,
		}
	}
}

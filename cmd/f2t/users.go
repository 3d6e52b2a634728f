package main

import (
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/free2talk/free2talk/client"
	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	"github.com/free2talk/free2talk/gen/free2talk/admin/v1/adminv1connect"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

type usersCmd struct {
	List     usersList     `cmd:"" help:"Find accounts by name or e-mail address."`
	Show     usersShow     `cmd:"" help:"Show an account."`
	Ban      usersBan      `cmd:"" help:"Keep somebody out: it ends their sessions, and they leave their room."`
	Unban    usersUnban    `cmd:"" help:"Let somebody in again."`
	Role     usersRole     `cmd:"" help:"Make somebody an administrator, or an ordinary user."`
	Sessions usersSessions `cmd:"" help:"On which devices somebody is logged in."`
	Revoke   usersRevoke   `cmd:"" help:"End all sessions of somebody, on all devices."`
}

type usersList struct {
	Query string `arg:"" optional:"" help:"How a username or an e-mail address begins."`
	Limit int    `short:"n" default:"50" help:"At most so many; 0 for all (${default})."`
}

// Help shows how it is used.
func (usersList) Help() string { return examples("f2t users list ada", "f2t users list -n 0 -o json") }

// Run lists accounts, page by page.
func (l usersList) Run(ctx context.Context, a *app) error {
	admin, _, err := a.admin()
	if err != nil {
		return err
	}
	users, err := a.accounts(ctx, admin, l.Query, l.Limit)
	if err != nil {
		return err
	}
	return list(a, users, func() error {
		g := a.grid("user", "name", "e-mail", "role", ">sessions", "banned until", "registered")
		for _, u := range users {
			g.row(u.GetUser().GetUsername(), u.GetUser().GetDisplayName(), u.GetEmail(), named(u.GetUser().GetRole(), "ROLE_"),
				u.GetSessions(), banEnd(u), ago(u.GetUser().GetCreatedAt()))
		}
		return g.print("There is nobody like that.")
	})
}

func (a *app) accounts(ctx context.Context, admin adminv1connect.AdminServiceClient, query string, limit int) ([]*adminv1.ManagedUser, error) {
	return pages(ctx, a, limit, func(ctx context.Context, size int32, token string) ([]*adminv1.ManagedUser, string, error) {
		reply, err := admin.ListUsers(ctx, &adminv1.ListUsersRequest{Query: query, PageSize: size, PageToken: token})
		return reply.GetUsers(), reply.GetNextPageToken(), err
	})
}

// forGood is from when on the end of a ban is none.
const forGood = 50 * 365 * 24 * time.Hour

func banEnd(u *adminv1.ManagedUser) string {
	switch until := u.GetBannedUntil(); {
	case until == nil:
		return ""
	case time.Until(until.AsTime()) > forGood:
		return "for good"
	default:
		return at(until)
	}
}

// user is what the commands about one person take.
type oneUser struct {
	User string `arg:"" help:"Who: a username or an id."`
}

// find is who is meant, by their whole name.
func (u oneUser) find(ctx context.Context, a *app) (adminv1connect.AdminServiceClient, *free2talkv1.GetUserResponse, error) {
	admin, c, err := a.admin()
	if err != nil {
		return nil, nil, err
	}
	found, err := a.findUser(ctx, c, u.User)
	return admin, found, err
}

func (a *app) findUser(ctx context.Context, c *client.Client, name string) (*free2talkv1.GetUserResponse, error) {
	request := &free2talkv1.GetUserRequest{Key: userKey(name)}
	if isID(name) {
		request.Key = &free2talkv1.GetUserRequest_Id{Id: strings.ToLower(name)}
	}
	return c.Users.GetUser(ctx, request)
}

type usersShow struct{ oneUser }

// Help shows how it is used.
func (usersShow) Help() string { return examples("f2t users show ada") }

// Run shows an account.
func (u usersShow) Run(ctx context.Context, a *app) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	admin, found, err := u.find(ctx, a)
	if err != nil {
		return err
	}
	account, err := a.account(ctx, admin, found.GetUser())
	if err != nil {
		return err
	}
	return a.print(account, func() error {
		user, presence := found.GetUser(), found.GetPresence()
		online := "no, last seen " + or(ago(presence.GetLastSeenAt()), "never")
		if presence.GetOnline() {
			online = "yes"
		}
		if presence.GetStale() {
			online += " (as last known: Redis is away)"
		}
		return a.facts(
			pair{"User", user.GetUsername()}, pair{"Id", user.GetId()}, pair{"Name", user.GetDisplayName()},
			pair{"E-mail", account.GetEmail()}, pair{"Role", named(user.GetRole(), "ROLE_")},
			pair{"Online", online}, pair{"Room", account.GetCurrentRoomId()},
			pair{"Sessions", account.GetSessions()}, pair{"Banned until", banEnd(account)}, pair{"Banned for", account.GetBanReason()},
			pair{"Speaks", strings.Join(user.GetNativeLanguages(), " ")}, pair{"Learns", strings.Join(user.GetLearningLanguages(), " ")},
			pair{"Country", user.GetCountry()}, pair{"Bio", user.GetBio()}, pair{"Registered", at(user.GetCreatedAt())},
		)
	})
}

// account is what administrators see of somebody.
func (a *app) account(ctx context.Context, admin adminv1connect.AdminServiceClient, user *free2talkv1.User) (*adminv1.ManagedUser, error) {
	all, err := a.accounts(ctx, admin, user.GetId(), 1)
	switch {
	case err != nil:
		return nil, err
	case len(all) == 0:
		return nil, failf(exitNotFound, "%s has no account any more", user.GetUsername())
	}
	return all[0], nil
}

type usersBan struct {
	oneUser

	Reason string        `short:"r" required:"" placeholder:"TEXT" help:"Why; the one who is banned reads it, and so does the audit log."`
	For    time.Duration `placeholder:"TIME" help:"For how long, such as 24h. Unset: for good."`
}

// Help shows how it is used.
func (usersBan) Help() string {
	return examples("f2t users ban mallory --reason 'insults' --for 168h")
}

// Run bans.
func (u usersBan) Run(ctx context.Context, a *app) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	admin, found, err := u.find(ctx, a)
	if err != nil {
		return err
	}
	request := &adminv1.BanUserRequest{UserId: found.GetUser().GetId(), Reason: u.Reason}
	until := "for good"
	if u.For > 0 {
		request.Duration = durationpb.New(u.For)
		until = "for " + duration(u.For)
	}
	if _, err := admin.BanUser(ctx, request); err != nil {
		return err
	}
	return a.done("%s is banned %s", found.GetUser().GetUsername(), until)
}

type usersUnban struct{ oneUser }

// Help shows how it is used.
func (usersUnban) Help() string { return examples("f2t users unban mallory") }

// Run lifts a ban.
func (u usersUnban) Run(ctx context.Context, a *app) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	admin, found, err := u.find(ctx, a)
	if err != nil {
		return err
	}
	if _, err := admin.UnbanUser(ctx, &adminv1.UnbanUserRequest{UserId: found.GetUser().GetId()}); err != nil {
		return err
	}
	return a.done("%s may come in again", found.GetUser().GetUsername())
}

type usersRole struct {
	oneUser

	Role string `arg:"" enum:"admin,user" predictor:"role" help:"admin or user."`
}

// Help shows how it is used.
func (usersRole) Help() string { return examples("f2t users role ada admin") }

// Run sets a role.
func (u usersRole) Run(ctx context.Context, a *app) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	admin, found, err := u.find(ctx, a)
	if err != nil {
		return err
	}
	role, title := free2talkv1.Role_ROLE_USER, "an ordinary user"
	if u.Role == "admin" {
		role, title = free2talkv1.Role_ROLE_ADMIN, "an administrator"
	}
	reply, err := admin.SetRole(ctx, &adminv1.SetRoleRequest{UserId: found.GetUser().GetId(), Role: role})
	if err != nil {
		return err
	}
	return a.print(reply.GetUser(), func() error {
		return a.done("%s is %s now", found.GetUser().GetUsername(), title)
	})
}

type usersSessions struct {
	User string `arg:"" optional:"" help:"Who: a username or an id. Without: yourself, which needs no administrator."`
}

// Help shows how it is used.
func (usersSessions) Help() string { return examples("f2t users sessions ada", "f2t users sessions") }

// Run shows sessions.
func (u usersSessions) Run(ctx context.Context, a *app) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	if u.User == "" {
		return a.ownSessions(ctx)
	}
	admin, found, err := oneUser(u).find(ctx, a)
	if err != nil {
		return err
	}
	reply, err := admin.ListSessions(ctx, &adminv1.ListSessionsRequest{UserId: found.GetUser().GetId()})
	if err != nil {
		return err
	}
	return a.sessions(reply.GetSessions())
}

func (a *app) ownSessions(ctx context.Context) error {
	c, err := a.user()
	if err != nil {
		return err
	}
	reply, err := c.Auth.ListSessions(ctx, &free2talkv1.ListSessionsRequest{})
	if err != nil {
		return err
	}
	return a.sessions(reply.GetSessions())
}

func (a *app) sessions(all []*free2talkv1.Session) error {
	return list(a, all, func() error {
		g := a.grid("session", "device", "address", "last used", "ends")
		for _, s := range all {
			g.row(s.GetId()+map[bool]string{true: " *"}[s.GetCurrent()], s.GetUserAgent(), s.GetIp(), ago(s.GetLastUsedAt()), at(s.GetExpiresAt()))
		}
		return g.print("There are none.")
	})
}

type usersRevoke struct{ oneUser }

// Help shows how it is used.
func (usersRevoke) Help() string { return examples("f2t users revoke ada") }

// Run ends sessions.
func (u usersRevoke) Run(ctx context.Context, a *app) error {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	admin, found, err := u.find(ctx, a)
	if err != nil {
		return err
	}
	reply, err := admin.RevokeSessions(ctx, &adminv1.RevokeSessionsRequest{UserId: found.GetUser().GetId()})
	if err != nil {
		return err
	}
	return a.print(reply, func() error {
		return a.done("%s of %s ended", count(reply.GetRevokedSessions(), "session", "sessions"), found.GetUser().GetUsername())
	})
}

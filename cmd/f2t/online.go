package main

import (
	"context"

	"google.golang.org/protobuf/proto"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

type onlineCmd struct {
	Limit int  `short:"n" default:"50" help:"At most so many; 0 for all (${default})."`
	Count bool `help:"Only how many."`
}

// Help shows how it is used.
func (onlineCmd) Help() string {
	return "With --count nobody needs to be logged in.\n\n" + examples("f2t online --count", "f2t online -o json | jq -r '.[].username'")
}

// Run lists who is online.
func (o onlineCmd) Run(ctx context.Context, a *app) error {
	if o.Count {
		return o.count(ctx, a)
	}
	c, err := a.user()
	if err != nil {
		return err
	}
	people, err := pages(ctx, a, o.Limit, func(ctx context.Context, size int32, token string) ([]*free2talkv1.UserSummary, string, error) {
		reply, err := c.Presence.ListOnlineUsers(ctx, &free2talkv1.ListOnlineUsersRequest{PageSize: size, PageToken: token})
		return reply.GetUsers(), reply.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	return list(a, people, func() error {
		g := a.grid("user", "name", "id")
		for _, u := range people {
			g.row(u.GetUsername(), u.GetDisplayName(), u.GetId())
		}
		return g.print("Nobody is online.")
	})
}

func (onlineCmd) count(ctx context.Context, a *app) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	reply, err := c.Presence.CountOnline(ctx, &free2talkv1.CountOnlineRequest{})
	if err != nil {
		return err
	}
	return a.print(proto.Message(reply), func() error { return a.say("%d\n", reply.GetCount()) })
}

package main

import (
	"context"
	"fmt"
	"strings"

	"connectrpc.com/connect/v2"

	"github.com/free2talk/free2talk/client"
	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

type roomsCmd struct {
	List  roomsList  `cmd:"" help:"List the open rooms."`
	Show  roomsShow  `cmd:"" help:"Show a room and who sits in it."`
	Close roomsClose `cmd:"" help:"Close a room; everybody in it is told."`
	Kick  roomsKick  `cmd:"" help:"Take somebody out of a room."`
	Watch roomsWatch `cmd:"" help:"Follow the lobby, or what happens in one room."`
}

type roomsList struct {
	Language string `short:"l" placeholder:"TAG" help:"Only rooms in that language, such as es."`
	Level    string `predictor:"level" placeholder:"LEVEL" help:"Only rooms of that level, such as beginner or upper-intermediate."`
	Query    string `short:"q" placeholder:"WORDS" help:"Only rooms whose name or topic has these words."`
	Newest   bool   `help:"The newest first, instead of the fullest."`
	Limit    int    `short:"n" default:"50" help:"At most so many; 0 for all (${default})."`
}

// Help shows how it is used.
func (roomsList) Help() string {
	return examples("f2t rooms list --language es --newest", "f2t rooms list -o json | jq -r '.[].id'")
}

// Run lists rooms, page by page.
func (l roomsList) Run(ctx context.Context, a *app) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	level, err := levelOf(l.Level)
	if err != nil {
		return err
	}
	request := &free2talkv1.ListRoomsRequest{
		Language: l.Language, Level: level, Query: l.Query, OrderBy: free2talkv1.OrderBy_ORDER_BY_POPULAR,
	}
	if l.Newest {
		request.OrderBy = free2talkv1.OrderBy_ORDER_BY_NEWEST
	}
	var total int32
	rooms, err := pages(ctx, a, l.Limit, func(ctx context.Context, size int32, token string) ([]*free2talkv1.Room, string, error) {
		request.PageSize, request.PageToken = size, token
		reply, err := c.Rooms.ListRooms(ctx, request)
		total = reply.GetTotalSize()
		return reply.GetRooms(), reply.GetNextPageToken(), err
	})
	if err != nil {
		return err
	}
	return list(a, rooms, func() error {
		g := a.grid("room", "name", "languages", "level", ">seats", "owner", "opened")
		for _, r := range rooms {
			g.row(r.GetSlug(), r.GetName(), strings.Join(r.GetLanguages(), " "), levelName(r.GetLevel()),
				seats(r), r.GetOwner().GetUsername(), ago(r.GetCreatedAt()))
		}
		if err := g.print("No room is open that fits."); err != nil {
			return err
		}
		return a.more(len(rooms), int(total))
	})
}

// more says that there are more than were shown.
func (a *app) more(shown, total int) error {
	if shown == 0 || shown >= total {
		return nil
	}
	return a.say("%s\n", a.dim(fmt.Sprintf("%d of %d; --limit shows more", shown, total)))
}

// mostOfAPage is what the server gives at once.
const mostOfAPage = 100

// pages gets pages until there are enough, each within the time of one call.
func pages[T any](ctx context.Context, a *app, limit int, page func(ctx context.Context, size int32, token string) ([]T, string, error)) ([]T, error) {
	var all []T
	for token := ""; ; {
		size := mostOfAPage
		if limit > 0 {
			size = min(size, limit-len(all))
		}
		bounded, cancel := a.bounded(ctx)
		some, next, err := page(bounded, int32(size), token)
		cancel()
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if next == "" || limit > 0 && len(all) >= limit {
			return all, nil
		}
		token = next
	}
}

func seats(r *free2talkv1.Room) string {
	return fmt.Sprintf("%d/%d", r.GetParticipantCount(), r.GetCapacity())
}

func levelName(l free2talkv1.Level) string { return named(l, "LEVEL_") }

// levels are the levels as people say them.
func levels() []string {
	var names []string
	for number := range len(free2talkv1.Level_name) - 1 {
		names = append(names, strings.ReplaceAll(levelName(free2talkv1.Level(number+1)), " ", "-"))
	}
	return names
}

func levelOf(name string) (free2talkv1.Level, error) {
	if name == "" {
		return free2talkv1.Level_LEVEL_UNSPECIFIED, nil
	}
	for i, known := range levels() {
		if strings.EqualFold(strings.NewReplacer("_", "-", " ", "-").Replace(name), known) {
			return free2talkv1.Level(i + 1), nil
		}
	}
	return 0, failf(exitUsage, "%q is no level: they are %s", name, strings.Join(levels(), ", "))
}

type roomsShow struct {
	Room string `arg:"" help:"Its id, or the short name in its address."`
}

// Help shows how it is used.
func (roomsShow) Help() string { return examples("f2t rooms show tapas-y-charla-k3x9") }

// Run shows a room.
func (s roomsShow) Run(ctx context.Context, a *app) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	reply, err := a.findRoom(ctx, c, s.Room)
	if err != nil {
		return err
	}
	return a.print(reply, func() error {
		r := reply.GetRoom()
		err := a.facts(
			pair{"Room", r.GetSlug()}, pair{"Id", r.GetId()}, pair{"Name", r.GetName()}, pair{"Topic", r.GetTopic()},
			pair{"Languages", strings.Join(r.GetLanguages(), " ")}, pair{"Level", levelName(r.GetLevel())},
			pair{"Status", named(r.GetStatus(), "ROOM_STATUS_")}, pair{"Seats", seats(r)},
			pair{"Owner", r.GetOwner().GetUsername()}, pair{"Version", r.GetVersion()},
			pair{"Opened", at(r.GetCreatedAt())}, pair{"Closed", at(r.GetClosedAt())},
		)
		if err != nil {
			return err
		}
		if err := a.say("\n"); err != nil {
			return err
		}
		g := a.grid("user", "name", "role", "state", "joined")
		for _, p := range reply.GetParticipants() {
			g.row(p.GetUser().GetUsername(), p.GetUser().GetDisplayName(), named(p.GetRole(), "PARTICIPANT_ROLE_"),
				named(p.GetState(), "PARTICIPANT_STATE_"), ago(p.GetJoinedAt()))
		}
		return g.print("Nobody sits in it.")
	})
}

type roomsClose struct {
	Room   string `arg:"" help:"Its id, or the short name in its address."`
	Reason string `short:"r" required:"" placeholder:"TEXT" help:"Why, for the audit log."`
}

// Help shows how it is used.
func (roomsClose) Help() string {
	return examples("f2t rooms close tapas-y-charla-k3x9 --reason 'spam'")
}

// Run closes a room.
func (r roomsClose) Run(ctx context.Context, a *app) error {
	admin, c, err := a.admin()
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	found, err := a.findRoom(ctx, c, r.Room)
	if err != nil {
		return err
	}
	room := found.GetRoom()
	if _, err := admin.CloseRoom(ctx, &adminv1.CloseRoomRequest{RoomId: room.GetId(), Reason: r.Reason}); err != nil {
		return err
	}
	if room.GetStatus() == free2talkv1.RoomStatus_ROOM_STATUS_CLOSED {
		return a.done("%s was closed already", room.GetSlug())
	}
	return a.done("%s is closed; %d sat in it", room.GetSlug(), room.GetParticipantCount())
}

type roomsKick struct {
	Room   string `arg:"" help:"Its id, or the short name in its address."`
	User   string `arg:"" help:"Who: a username or an id."`
	Reason string `short:"r" required:"" placeholder:"TEXT" help:"Why; the one who is kicked reads it, and so does the audit log."`
}

// Help shows how it is used.
func (roomsKick) Help() string {
	return examples("f2t rooms kick tapas-y-charla-k3x9 mallory --reason 'shouting'")
}

// Run kicks somebody.
func (k roomsKick) Run(ctx context.Context, a *app) error {
	admin, c, err := a.admin()
	if err != nil {
		return err
	}
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	found, err := a.findRoom(ctx, c, k.Room)
	if err != nil {
		return err
	}
	who, err := a.userID(ctx, c, k.User)
	if err != nil {
		return err
	}
	_, err = admin.KickUser(ctx, &adminv1.KickUserRequest{RoomId: found.GetRoom().GetId(), UserId: who, Reason: k.Reason})
	if err != nil {
		return err
	}
	return a.done("%s is out of %s", k.User, found.GetRoom().GetSlug())
}

type roomsWatch struct {
	Room     string `arg:"" optional:"" help:"Its id, or the short name in its address. Without: the lobby."`
	Language string `short:"l" placeholder:"TAG" help:"Of the lobby, only rooms in that language."`
	Level    string `predictor:"level" placeholder:"LEVEL" help:"Of the lobby, only rooms of that level."`
}

// Help shows how it is used.
func (roomsWatch) Help() string {
	return "Goes on until Ctrl-C, which is no error; where the connection breaks it comes back and misses nothing. Following a room needs a log-in.\n\n" +
		examples("f2t rooms watch --language es", "f2t rooms watch tapas-y-charla-k3x9", "f2t rooms watch -o json | jq .roomCreated.room.name")
}

// Run follows.
func (w roomsWatch) Run(ctx context.Context, a *app) error {
	if w.Room != "" {
		return w.one(ctx, a)
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	level, err := levelOf(w.Level)
	if err != nil {
		return err
	}
	lobby := newLobby(a)
	for event, err := range c.WatchRooms(ctx, &free2talkv1.WatchRoomsRequest{Language: w.Language, Level: level}) {
		if err != nil {
			return untilInterrupted(ctx, err)
		}
		if err := a.event(event, func() []string { return lobby.lines(event) }); err != nil {
			return err
		}
	}
	return nil
}

func (w roomsWatch) one(ctx context.Context, a *app) error {
	c, err := a.user()
	if err != nil {
		return err
	}
	bounded, cancel := a.bounded(ctx)
	found, err := a.findRoom(bounded, c, w.Room)
	cancel()
	if err != nil {
		return err
	}
	if found.GetRoom().GetStatus() == free2talkv1.RoomStatus_ROOM_STATUS_CLOSED {
		return failf(exitFailed, "the room was closed %s: there is nothing to follow", ago(found.GetRoom().GetClosedAt()))
	}
	room := &roomLines{a: a}
	for event, err := range c.WatchRoom(ctx, found.GetRoom().GetId()) {
		if err != nil {
			return untilInterrupted(ctx, err)
		}
		if err := a.event(event, func() []string { return room.lines(event) }); err != nil {
			return err
		}
	}
	return nil
}

// untilInterrupted is the end of a watch: Ctrl-C is how one is meant to end.
func untilInterrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil && (connect.CodeOf(err) == connect.CodeCanceled || client.Reason(err) == "") {
		return nil
	}
	return err
}

// Command join sits down in a room and says who is there. It logs in, or
// registers where there is no such account yet, and leaves when it is
// interrupted, if it was told to stay until then.
//
//	go run ./client/examples/join -username bob -password 'seven blue kettles' -language es
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// wish is what the command line asks for.
type wish struct {
	url, username, email, password string
	room, language                 string
	stay                           bool
}

func main() {
	var w wish
	flag.StringVar(&w.url, "url", "http://127.0.0.1:8080", "where the server is")
	flag.StringVar(&w.username, "username", "", "who joins")
	flag.StringVar(&w.email, "email", "", "their e-mail address, to register; empty: one at example.org")
	flag.StringVar(&w.password, "password", "", "their password")
	flag.StringVar(&w.room, "room", "", "the room's slug; empty: the most popular one that has a free seat")
	flag.StringVar(&w.language, "language", "", "where -room is empty: only rooms of this language")
	flag.BoolVar(&w.stay, "stay", false, "stay until interrupted, and leave then; otherwise the seat stays taken")
	flag.Parse()

	if err := run(w, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "join:", err)
		os.Exit(1)
	}
}

func run(w wish, out io.Writer) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	c, err := client.New(w.url, client.WithUserAgent("free2talk join example"))
	if err != nil {
		return err
	}
	if err := enter(ctx, c, w); err != nil {
		return err
	}
	room, err := find(ctx, c, w)
	if err != nil {
		return err
	}
	joined, err := c.Rooms.JoinRoom(ctx, &free2talkv1.JoinRoomRequest{RoomId: room.GetId(), LeaveCurrent: true})
	if err != nil {
		return explain(err)
	}
	if _, err := io.WriteString(out, describe(joined)); err != nil || !w.stay {
		return err
	}
	<-ctx.Done()
	return leave(ctx, c, room)
}

// enter logs in, or registers whom the server does not know.
func enter(ctx context.Context, c *client.Client, w wish) error {
	_, err := c.Login(ctx, w.username, w.password)
	if client.Reason(err) != client.ReasonBadCredentials {
		return explain(err)
	}
	if w.email == "" {
		w.email = w.username + "@example.org"
	}
	_, err = c.Register(ctx, w.email, w.username, w.password)
	switch client.Reason(err) {
	case client.ReasonUsernameTaken, client.ReasonEmailTaken:
		return errors.New("the password is wrong") // the account exists, and does not open with it
	}
	return explain(err)
}

func find(ctx context.Context, c *client.Client, w wish) (*free2talkv1.Room, error) {
	if w.room != "" {
		res, err := c.Rooms.GetRoom(ctx, &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Slug{Slug: w.room}})
		return res.GetRoom(), explain(err)
	}
	page, err := c.Rooms.ListRooms(ctx, &free2talkv1.ListRoomsRequest{Language: w.language})
	if err != nil {
		return nil, explain(err)
	}
	for _, room := range page.GetRooms() {
		if room.GetParticipantCount() < room.GetCapacity() {
			return room, nil
		}
	}
	return nil, errors.New("no room has a free seat")
}

// describe says who sits where.
func describe(joined *free2talkv1.JoinRoomResponse) string {
	var b strings.Builder
	fmt.Fprintf(&b, "You are in %s:\n", joined.GetRoom().GetName())
	for _, p := range joined.GetParticipants() {
		role := ""
		if p.GetRole() == free2talkv1.ParticipantRole_PARTICIPANT_ROLE_OWNER {
			role = ", the owner"
		}
		fmt.Fprintf(&b, "  %s%s\n", p.GetUser().GetDisplayName(), role)
	}
	return b.String()
}

// leave stands up, though ctx has ended.
func leave(ctx context.Context, c *client.Client, room *free2talkv1.Room) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, err := c.Rooms.LeaveRoom(ctx, &free2talkv1.LeaveRoomRequest{RoomId: room.GetId()})
	return errors.Join(explain(err), c.Logout(ctx))
}

// explain says in words what a program may switch on.
func explain(err error) error {
	switch client.Reason(err) {
	case client.ReasonRoomFull:
		return errors.New("no seat is free")
	case client.ReasonKicked:
		return fmt.Errorf("the owner does not want to see you before %s", client.Metadata(err)["until"])
	case client.ReasonRateLimited:
		wait, _ := client.RetryAfter(err)
		return fmt.Errorf("too many tries; the next one in %v", wait)
	}
	for _, v := range client.Violations(err) {
		return fmt.Errorf("%s %s", v.Field, v.Message)
	}
	return err
}

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

func TestRooms(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	me := shellAt(t, s.url)
	says(t, me.run("rooms", "list").ok(t), "No room is open")
	ada := s.register("ada")
	room := s.room(ada, "Tapas y charla")
	for i := range 3 {
		s.room(s.register(fmt.Sprint("person-", i)), fmt.Sprint("Another ", i))
	}
	shown := me.run("rooms", "list").ok(t)
	says(t, shown, "ROOM", "SEATS", room.GetSlug(), "Tapas y charla", "1/4", "ada", "es")
	if strings.Contains(shown, "\x1b") {
		t.Error("colours where nobody sees them")
	}
	says(t, me.run("rooms", "list", "-n", "2").ok(t), "2 of 4", "--limit")
	says(t, me.run("rooms", "list", "--language", "fr").ok(t), "No room is open that fits")
	says(t, me.run("rooms", "list", "--query", "tapas").ok(t), room.GetSlug())
	listed := parsed[[]map[string]any](t, me.run("rooms", "list", "-n", "0", "-o", "json").ok(t))
	if len(listed) != 4 || listed[0]["id"] == "" || listed[0]["participantCount"] != 1.0 {
		t.Errorf("%v", listed)
	}
	me.run("rooms", "list", "--level", "expert").fails(t, exitUsage, "expert", "upper-intermediate")
	for _, name := range []string{room.GetSlug(), room.GetId(), strings.ToUpper(room.GetId())} {
		says(t, me.run("rooms", "show", name).ok(t), "Tapas y charla", room.GetId(), "open", "1/4", "ada", "owner")
	}
	if got := parsed[map[string]any](t, me.run("rooms", "show", room.GetSlug(), "-o", "json").ok(t)); got["room"].(map[string]any)["version"] != "1" {
		t.Errorf("%v", got)
	}
	me.run("rooms", "show", "nowhere").fails(t, exitNotFound, "ROOM_NOT_FOUND")
}

// What people write cannot steer the terminal of who reads it.
func TestNamesCannotSteerTheTerminal(t *testing.T) {
	t.Parallel()
	if got := clean("a\x1b[31mb\u202ec\nd\te"); got != "a[31mbc d e" {
		t.Errorf("%q", got)
	}
}

func TestWatchRoom(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	ada, bob := s.register("ada"), s.register("bob")
	room := s.room(ada, "Tapas y charla")
	me := shellAt(t, s.url)
	me.run("rooms", "watch", room.GetSlug()).fails(t, exitNoSession, "nobody is logged in")
	me.login("ada")
	out, log, stop := me.begin("rooms", "watch", room.GetSlug())
	out.has(t, `Tapas y charla, 1/4\n.*ada, owner`)
	ctx := context.Background()
	if _, err := bob.Rooms.JoinRoom(ctx, &free2talkv1.JoinRoomRequest{RoomId: room.GetId()}); err != nil {
		t.Fatal(err)
	}
	out.has(t, `bob joined, 2/4`)
	if _, err := bob.Rooms.SendMessage(ctx, &free2talkv1.SendMessageRequest{RoomId: room.GetId(), Text: "hola"}); err != nil {
		t.Fatal(err)
	}
	out.has(t, `bob: hola`)
	if _, err := ada.Rooms.TransferOwnership(ctx, &free2talkv1.TransferOwnershipRequest{RoomId: room.GetId(), UserId: idOf(t, bob)}); err != nil {
		t.Fatal(err)
	}
	out.has(t, `bob owns the room now`)
	if _, err := bob.Rooms.LeaveRoom(ctx, &free2talkv1.LeaveRoomRequest{RoomId: room.GetId()}); err != nil {
		t.Fatal(err)
	}
	out.has(t, `bob left, 1/4`)
	if code := stop(); code != exitDone || log.String() != "" {
		t.Errorf("Ctrl-C: exit %d: %s", code, log)
	}
	out, _, _ = me.begin("rooms", "watch", room.GetId(), "-o", "json")
	out.has(t, `"snapshot":`)
	if _, err := ada.Rooms.CloseRoom(ctx, &free2talkv1.CloseRoomRequest{RoomId: room.GetId()}); err != nil {
		t.Fatal(err)
	}
	out.has(t, `"roomClosed":`)
	for line := range strings.Lines(out.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not a line of JSON: %s", line)
		}
	}
	me.run("rooms", "watch", room.GetId()).fails(t, exitFailed, "was closed")
	says(t, me.run("rooms", "show", room.GetId()).ok(t), "closed", "Nobody sits in it")
}

func idOf(t *testing.T, c *client.Client) string {
	t.Helper()
	me, err := c.Auth.GetMe(context.Background(), &free2talkv1.GetMeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return me.GetAccount().GetUser().GetId()
}

// A watch goes on by itself after its server was killed, and tells what it missed.
func TestWatchLobbyComesBack(t *testing.T) {
	t.Parallel()
	nodes := three(t)
	s := nodes[0]
	ada, bob := nodes[1].register("ada"), nodes[1].register("bob")
	out, log, stop := shellAt(t, s.url).begin("rooms", "watch")
	out.has(t, `0 rooms are open`)
	room := nodes[1].room(ada, "Tapas y charla")
	out.has(t, `ada opened `+room.GetSlug()+`: Tapas y charla`)
	s.kill()
	if _, err := bob.Rooms.JoinRoom(context.Background(), &free2talkv1.JoinRoomRequest{RoomId: room.GetId()}); err != nil {
		t.Fatal(err)
	}
	s.again()
	// A cursor that is a little behind has the room opened once more, with who sits in it by then.
	out.has(t, `(?s)connected again; .*(has 2/4 seats taken|ada opened `+room.GetSlug()+`)`)
	if _, err := ada.Rooms.CloseRoom(context.Background(), &free2talkv1.CloseRoomRequest{RoomId: room.GetId()}); err != nil {
		t.Fatal(err)
	}
	out.has(t, room.GetSlug()+` closed, by its owner`)
	if code := stop(); code != exitDone || log.String() != "" {
		t.Errorf("Ctrl-C: exit %d: %s", code, log)
	}
}

func TestOnline(t *testing.T) {
	t.Parallel()
	s := embedded(t)
	ada := s.register("ada")
	me := shellAt(t, s.url)
	if got := me.run("online", "--count").ok(t); got != "0\n" {
		t.Errorf("%q", got)
	}
	me.run("online").fails(t, exitNoSession)
	me.login("ada")
	says(t, me.run("online").ok(t), "Nobody is online")
	for _, err := range ada.Connect(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		adaIsOnline(t, me)
		break
	}
}

// adaIsOnline looks while somebody is online.
func adaIsOnline(t *testing.T, me *shell) {
	t.Helper()
	says(t, me.run("online").ok(t), "ada")
	if got := parsed[[]map[string]any](t, me.run("online", "-o", "json").ok(t)); len(got) != 1 || got[0]["username"] != "ada" {
		t.Errorf("%v", got)
	}
	if got := parsed[map[string]any](t, me.run("online", "--count", "-o", "json").ok(t)); got["count"] != 1.0 {
		t.Errorf("%v", got)
	}
}

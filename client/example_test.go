package client_test

import (
	"context"
	"fmt"
	"time"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// check is what a program does with an error that it cannot do anything about.
func check(err error) {
	if err != nil {
		panic(err)
	}
}

// Log in, find a room by its language, and join it.
func Example() {
	server := start()
	defer server.Close()
	ctx := context.Background()

	c, err := client.New(server.url)
	check(err)
	account, err := c.Login(ctx, "ada", "five green umbrellas")
	check(err)
	page, err := c.Rooms.ListRooms(ctx, &free2talkv1.ListRoomsRequest{Language: "es"})
	check(err)
	joined, err := c.Rooms.JoinRoom(ctx, &free2talkv1.JoinRoomRequest{RoomId: page.GetRooms()[0].GetId()})
	check(err)
	fmt.Println(account.GetUser().GetUsername(), "sits in", joined.GetRoom().GetName())
	// Output: ada sits in Tapas y charla
}

// An error says why in words that a program can switch on.
func ExampleReason() {
	server := start()
	defer server.Close()
	ctx := context.Background()
	c, err := client.New(server.url)
	check(err)
	_, err = c.Login(ctx, "ada", "five green umbrellas")
	check(err)
	server.fail("JoinRoom", 1, full)

	_, err = c.Rooms.JoinRoom(ctx, &free2talkv1.JoinRoomRequest{RoomId: room().GetId()})
	switch client.Reason(err) {
	case client.ReasonRoomFull:
		fmt.Println("no seat is free")
	case client.ReasonInAnotherRoom:
		fmt.Println("you sit in", client.Metadata(err)["room_id"])
	}
	// Output: no seat is free
}

// A store keeps a session for longer than the process lives.
func ExampleWithTokenStore() {
	server := start()
	defer server.Close()
	ctx, keyring := context.Background(), new(store)

	first, err := client.New(server.url, client.WithTokenStore(keyring))
	check(err)
	_, err = first.Login(ctx, "ada@example.org", "five green umbrellas")
	check(err)

	later, err := client.New(server.url, client.WithTokenStore(keyring))
	check(err)
	me, err := later.Auth.GetMe(ctx, &free2talkv1.GetMeRequest{})
	check(err)
	tokens, err := later.Tokens(ctx)
	check(err)
	fmt.Println(me.GetAccount().GetUser().GetUsername(), "is still logged in:", tokens)
	// Output: ada is still logged in: session 0198 [redacted]
}

// A program that works in the background may wait for a rate limit to pass.
func ExampleWithRetries() {
	c, err := client.New("https://talk.example", client.WithRetries(client.Retries{
		Tries:       5,
		RateLimited: time.Minute,
	}))
	check(err)
	fmt.Println(c)
	// Output: free2talk client of https://talk.example
}

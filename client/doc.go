// Package client speaks to a free2talk server.
//
// A [Client] holds one typed client for each service of the contract and the
// session of at most one account. Whatever answer brings tokens (a log-in, a
// registration, a changed password), the client keeps them, puts the access
// token on every call, and refreshes it: a little before it runs out, and where
// a server says TOKEN_EXPIRED. However many calls want it at once, one refresh
// is made for all of them, and none of them fails because another gave up.
//
// A call is made again by itself only where that is safe: where it never
// reached the account (TOKEN_EXPIRED, once), and where the server is
// unavailable and the method reads or is idempotent. See [Retries].
//
// An error says what went wrong in words that a program can switch on:
//
//	_, err := c.Rooms.JoinRoom(ctx, &free2talkv1.JoinRoomRequest{RoomId: id})
//	switch client.Reason(err) {
//	case client.ReasonRoomFull:
//		fmt.Println("no seat is free")
//	case client.ReasonInAnotherRoom:
//		fmt.Println("you sit in", client.Metadata(err)["room_id"])
//	}
//
// [RetryAfter], [Violations] and connect.CodeOf tell the rest. All of them see
// through wrapped errors.
//
// The clients of this package are safe for use by many goroutines.
package client

package client

import (
	"context"
	"iter"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// WatchRoom follows a room, over as many connections as it takes:
//
//	for event, err := range c.WatchRoom(ctx, roomID) {
//		if err != nil {
//			return err
//		}
//		…
//	}
//
// It begins with a snapshot (or, from a cursor, with resumed), and then yields
// each event once and in order. Where a connection breaks it opens another from
// the last cursor, after a random time that grows, or after the time that the
// server asks for: then resumed is yielded, and what was missed; or a snapshot,
// with the reason, which replaces everything before it. So there is no gap and
// no repeat that is not told.
//
// It ends without an error after room_closed, or a snapshot of a closed room;
// with an error where coming back would not help, such as ROOM_NOT_FOUND, KICKED
// or SESSION_REVOKED; and with the context's where that ends. Leaving the loop
// closes the stream.
func (c *Client) WatchRoom(ctx context.Context, roomID string, opts ...StreamOption) iter.Seq2[*free2talkv1.WatchRoomResponse, error] {
	over := func(e *free2talkv1.WatchRoomResponse) bool {
		return e.GetRoomClosed() != nil || e.GetSnapshot().GetRoom().GetStatus() == free2talkv1.RoomStatus_ROOM_STATUS_CLOSED
	}
	open := func(ctx context.Context, cursor string) (receiver[*free2talkv1.WatchRoomResponse], error) {
		return c.Rooms.WatchRoom(ctx, &free2talkv1.WatchRoomRequest{RoomId: roomID, Cursor: cursor})
	}
	return follow(ctx, c, opts, follower[*free2talkv1.WatchRoomResponse]{open: open, last: over, part: never[*free2talkv1.WatchRoomResponse]})
}

// WatchRooms follows the lobby: the open rooms that filter finds; see
// [Client.WatchRoom]. The cursor of filter is not looked at: see [FromCursor].
// A snapshot of many rooms takes several messages; where the connection breaks
// between them, another snapshot follows, from its beginning.
func (c *Client) WatchRooms(ctx context.Context, filter *free2talkv1.WatchRoomsRequest, opts ...StreamOption) iter.Seq2[*free2talkv1.WatchRoomsResponse, error] {
	open := func(ctx context.Context, cursor string) (receiver[*free2talkv1.WatchRoomsResponse], error) {
		return c.Rooms.WatchRooms(ctx, &free2talkv1.WatchRoomsRequest{
			Language: filter.GetLanguage(), Level: filter.GetLevel(), Cursor: cursor,
		})
	}
	part := func(e *free2talkv1.WatchRoomsResponse) bool {
		return e.GetSnapshot() != nil && !e.GetSnapshot().GetLast()
	}
	return follow(ctx, c, opts, follower[*free2talkv1.WatchRoomsResponse]{open: open, last: never[*free2talkv1.WatchRoomsResponse], part: part})
}

// Connect makes the client's user online for as long as it is followed, and
// yields what concerns them; see [Client.WatchRoom].
func (c *Client) Connect(ctx context.Context, opts ...StreamOption) iter.Seq2[*free2talkv1.ConnectResponse, error] {
	never := never[*free2talkv1.ConnectResponse]
	open := func(ctx context.Context, cursor string) (receiver[*free2talkv1.ConnectResponse], error) {
		return c.Presence.Connect(ctx, &free2talkv1.ConnectRequest{Cursor: cursor})
	}
	return follow(ctx, c, opts, follower[*free2talkv1.ConnectResponse]{open: open, last: never, part: never})
}

// WatchPresence follows whether up to a hundred users are there. It is state:
// each new connection begins with a snapshot, and there is no cursor.
func (c *Client) WatchPresence(ctx context.Context, userIDs []string, opts ...StreamOption) iter.Seq2[*free2talkv1.WatchPresenceResponse, error] {
	never := never[*free2talkv1.WatchPresenceResponse]
	open := func(ctx context.Context, _ string) (receiver[*free2talkv1.WatchPresenceResponse], error) {
		return c.Presence.WatchPresence(ctx, &free2talkv1.WatchPresenceRequest{UserIds: userIDs})
	}
	return follow(ctx, c, opts, follower[*free2talkv1.WatchPresenceResponse]{open: open, last: never, part: never})
}

func never[E any](E) bool { return false }

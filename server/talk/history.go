package talk

import (
	"context"
	"fmt"
)

// Mark is a place in the order of all events, as the table of events has it:
// transactions in the order in which they began, and the rows of one as they
// were written. On SQLite, which has one writer, Tx is always zero.
type Mark struct {
	Tx uint64
	ID int64
}

// Before reports whether m comes before other.
func (m Mark) Before(other Mark) bool {
	return m.Tx < other.Tx || m.Tx == other.Tx && m.ID < other.ID
}

// place is the mark as a text, which parsePlace reads.
func (m Mark) place() string { return fmt.Sprintf("%d:%d", m.Tx, m.ID) }

func parsePlace(text string) (m Mark, ok bool) {
	n, err := fmt.Sscanf(text, "%d:%d", &m.Tx, &m.ID)
	return m, err == nil && n == 2
}

// Logged is an event as the readers of the table find it.
type Logged struct {
	Event
	Mark Mark
	// Settled says that nothing that commits later comes before it: a reader that
	// has it may go on after it. One that is not settled will be found again.
	Settled bool
}

// LiveRoom is a room with the seq of its topic, both of one moment.
type LiveRoom struct {
	RoomView
	Seq int64
}

// LiveUser is where somebody sits, with the seqs of both topics, all of one
// moment.
type LiveUser struct {
	Seq  int64     // of the user's topic
	Room *LiveRoom // where they sit, or nil
}

// History is what happened in the last ten minutes, and the state that it led
// to: what live streams are made of. It is read from the database itself.
type History interface {
	// HistoryID names the history that cursors belong to. It is another one where
	// the database was replaced or restored.
	HistoryID(ctx context.Context) (string, error)
	// Head is a mark that everything comes after that is not committed yet.
	Head(ctx context.Context) (Mark, error)
	// EventsAfter lists what comes after a mark, in order, at most limit. It
	// returns ErrHistoryGone where events after the mark were deleted.
	EventsAfter(ctx context.Context, after Mark, limit int) ([]Logged, error)
	// TopicEvents lists the events of one topic with a seq above after, in order,
	// at most limit. Where the first is not after+1 history has been deleted.
	TopicEvents(ctx context.Context, topic Topic, after int64, limit int) ([]Event, error)
	// TopicSeqs is the seq of the last event of each topic. Topics of rooms and
	// users that do not exist are left out.
	TopicSeqs(ctx context.Context, topics []Topic) (map[Topic]int64, error)
	// LiveRoom returns an open or closed room, or ErrRoomNotFound.
	LiveRoom(ctx context.Context, id RoomID) (LiveRoom, error)
	// LiveUser returns a living user, or ErrUserNotFound.
	LiveUser(ctx context.Context, id UserID) (LiveUser, error)
	// OpenRooms lists every open room, in no order that matters.
	OpenRooms(ctx context.Context) ([]Room, error)
	// RoomsByID lists those of ids that exist, open or closed, in no order that
	// matters.
	RoomsByID(ctx context.Context, ids []RoomID) ([]Room, error)
}

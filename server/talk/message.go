package talk

import (
	"context"
	"errors"
	"slices"
	"time"
)

// MessagePosted: somebody wrote to those who sit in the room. It changes
// nothing of the room, and so has no version.
type MessagePosted struct {
	RoomID    RoomID      `json:"room_id"`
	MessageID string      `json:"message_id"`
	Sender    UserSummary `json:"sender"`
	Text      string      `json:"text"`
	// Audience is who sat there when it was posted: nobody else receives it,
	// whenever they ask.
	Audience []UserID `json:"audience"`
}

// Kind is the name under which the fact is stored.
func (MessagePosted) Kind() string { return "message_posted" }

// For reports whether who may receive the message.
func (m MessagePosted) For(who UserID) bool { return slices.Contains(m.Audience, who) }

// Say posts a message from somebody who sits in the room. The same id by the
// same sender is refused by the store while the first is part of the history.
func (r *RoomState) Say(by UserID, messageID, text string, now time.Time) error {
	if !r.Open() {
		return ErrRoomClosed
	}
	i := r.index(by)
	if i < 0 {
		return ErrNotInRoom
	}
	said := MessagePosted{RoomID: r.ID, MessageID: messageID, Sender: r.Participants[i].User, Text: text}
	for _, p := range r.Participants {
		said.Audience = append(said.Audience, p.User.ID)
	}
	r.Seq++
	r.log.add(Event{
		Topic: RoomTopic(r.ID), Seq: r.Seq, At: now, Fact: said,
		Once: "message:" + string(r.ID) + ":" + string(by) + ":" + messageID,
	})
	return nil
}

// Say posts a text to those who sit in the room, and returns the message's id:
// the caller's own, or a new one where that is "". The same id by the same
// sender in that room within ten minutes is not posted twice, and no error.
func (s *Rooms) Say(ctx context.Context, by UserID, room RoomID, messageID, text string) (string, error) {
	if messageID == "" {
		messageID = NewID()
	}
	err := s.change(ctx, Scope{Rooms: []RoomID{room}}, room, func(r *RoomState, now time.Time) error {
		return r.Say(by, messageID, text, now)
	})
	if errors.Is(err, ErrRepeated) {
		err = nil
	}
	return messageID, err
}

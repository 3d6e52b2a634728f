package server

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

// mover is a history whose only person sits where read says.
type mover struct {
	talk.History

	read func() (talk.LiveUser, error)
}

// LiveUser is talk.History's.
func (m mover) LiveUser(context.Context, talk.UserID) (talk.LiveUser, error) { return m.read() }

// TopicSeqs is talk.History's.
func (m mover) TopicSeqs(context.Context, []talk.Topic) (map[talk.Topic]int64, error) {
	return map[talk.Topic]int64{}, nil
}

const (
	bobsID   = talk.UserID("01a21c85-bb80-7cd0-894b-183ebf901603")
	firstOne = talk.RoomID("01a21c85-bb80-7cd0-894b-183ebf901604")
	nextOne  = talk.RoomID("01a21c85-bb80-7cd0-894b-183ebf901605")
)

// E1: a stream that is sent away while it looks for where its person has moved
// to comes back to before that: with a later cursor nobody would tell them.
func TestE1_a_stream_that_is_sent_away_in_between_has_told_nothing(t *testing.T) {
	t.Parallel()
	away := errors.New("sent away")
	inNext := talk.LiveUser{Seq: 8, Room: &talk.LiveRoom{Seq: 40}}
	inNext.Room.ID = nextOne
	for name, reads := range map[string][]error{
		"before it is known": {away},
		"and then":           {nil, away},
	} {
		history := mover{read: func() (talk.LiveUser, error) {
			err := reads[0]
			reads = reads[1:]
			return inNext, err
		}}
		hub, err := live.NewHub(history, slog.New(slog.DiscardHandler), nil)
		if err != nil {
			t.Fatal(err)
		}
		s := &personalSource{
			liveParts: &liveParts{Live: Live{History: history, Hub: hub, Now: time.Now}, cursors: newCursors("history")},
			caller:    talk.Caller{UserID: bobsID}, queue: newQueue(),
			at: personalPlace{seq: 7, room: firstOne, roomSeq: 20}, moved: 7,
		}
		before := s.place()
		moved := &live.Told{Event: talk.Event{Topic: talk.UserTopic(bobsID), Seq: 8, Fact: talk.Moved{}}}
		batch, err := s.handle(t.Context(), []*live.Told{moved})
		if len(batch) > 0 || !errors.Is(err, away) {
			t.Errorf("%s: %v, %v", name, batch, err)
		}
		if last := s.goAway(0).(*freev1.ConnectResponse); last.GetCursor() != before {
			t.Errorf("%s: the cursor has moved on to %+v", name, s.at)
		}
		if s.inner != nil {
			s.inner.Close()
		}
	}
}

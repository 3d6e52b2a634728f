package server

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

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
	bobsID      = talk.UserID("01a21c85-bb80-7cd0-894b-183ebf901603")
	bobsSession = talk.SessionID("01a21c85-bb80-7cd0-894b-183ebf901606")
	firstOne    = talk.RoomID("01a21c85-bb80-7cd0-894b-183ebf901604")
	nextOne     = talk.RoomID("01a21c85-bb80-7cd0-894b-183ebf901605")
)

// seated is the stream of somebody who sits in the first room, as history said.
func seated(t *testing.T, history mover) *personalSource {
	t.Helper()
	hub, err := live.NewHub(history, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &personalSource{
		liveParts: &liveParts{Live: Live{History: history, Hub: hub, Now: time.Now}, cursors: newCursors("history")},
		caller:    talk.Caller{UserID: bobsID, SessionID: bobsSession}, queue: newQueue(),
		at: personalPlace{seq: 7, room: firstOne, roomSeq: 20}, moved: 7,
	}
}

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
		s := seated(t, history)
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

// Who sits somewhere hears why their session ends, also where the place that
// they have left it for cannot be read: they are erased, or the end of the
// session interrupts the reading. Whoever comes back is told where they are.
func TestWhoSitsSomewhereHearsWhyTheirSessionEnds(t *testing.T) {
	t.Parallel()
	ctx, revoked := context.WithCancelCause(t.Context())
	for name, c := range map[string]struct {
		ctx  context.Context
		read func() (talk.LiveUser, error)
	}{
		"erased": {t.Context(), func() (talk.LiveUser, error) { return talk.LiveUser{}, talk.ErrUserNotFound }},
		"banned": {ctx, func() (talk.LiveUser, error) {
			revoked(talk.ErrSessionRevoked)
			return talk.LiveUser{}, ctx.Err()
		}},
	} {
		s := seated(t, mover{read: c.read})
		_, err := s.handle(c.ctx, []*live.Told{
			{Event: talk.Event{Topic: talk.UserTopic(bobsID), Seq: 8, Fact: talk.Moved{Gone: true}}},
			{Event: talk.Event{Topic: talk.UserTopic(bobsID), Seq: 9, Fact: talk.SessionRevoked{SessionID: bobsSession, Reason: talk.RevokedByBan}}},
		})
		if err == nil {
			t.Errorf("%s: the stream goes on", name)
		}
		last, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		said := s.farewell(last)
		cancel()
		if len(said) != 1 {
			t.Errorf("%s: the farewell is %v", name, said)
			continue
		}
		var told freev1.ConnectResponse
		if err := proto.Unmarshal(said[0].(*frame).body, &told); err != nil || told.GetSessionRevoked().GetReason() != freev1.RevokeReason_REVOKE_REASON_BANNED {
			t.Errorf("%s: it says %v, %v", name, &told, err)
		}
		back, _, err := s.cursors.openPerson(said[0].(*frame).cursor, bobsID)
		if err != nil || back.seq != 9 || back.room != "" {
			t.Errorf("%s: its cursor is %+v, %v", name, back, err)
		}
	}
}

// What is lost may be the reason itself, or more: the farewell ends before it.
func TestAFarewellDoesNotPassWhatIsLost(t *testing.T) {
	t.Parallel()
	s := seated(t, mover{read: func() (talk.LiveUser, error) { return talk.LiveUser{}, talk.ErrUserNotFound }})
	if _, err := s.handle(t.Context(), []*live.Told{
		{Event: talk.Event{Topic: talk.UserTopic(bobsID), Seq: 9}},
		{Event: talk.Event{Topic: talk.UserTopic(bobsID), Seq: 10, Fact: talk.SessionRevoked{SessionID: bobsSession}}},
	}); !errors.Is(err, talk.ErrSessionRevoked) {
		t.Errorf("got %v", err)
	}
	last, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if said := s.farewell(last); len(said) > 0 || s.at.seq != 7 {
		t.Errorf("it says %v, and stands at %+v", said, s.at)
	}
}

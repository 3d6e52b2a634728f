package client

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// RoomState is a room as the events of its stream have told it: after each
// event it is what GetRoom answers at the same version. It is for one goroutine.
type RoomState struct {
	Room         *free2talkv1.Room          // nil before the first snapshot
	Participants []*free2talkv1.Participant // longest seated first
}

// Apply takes the next event of [Client.WatchRoom]. It returns an error, and
// changes nothing, where the event does not follow on what is known: then
// something was missed, which the stream promises not to happen.
func (s *RoomState) Apply(event *free2talkv1.WatchRoomResponse) error {
	if snapshot := event.GetSnapshot(); snapshot != nil {
		s.Room = proto.CloneOf(snapshot.GetRoom())
		s.Participants = slices.Clone(snapshot.GetParticipants())
		return nil
	}
	change, version := s.change(event)
	if change == nil {
		return nil // nothing of the room's state
	}
	if s.Room == nil || version != s.Room.GetVersion()+1 {
		return fmt.Errorf("client: version %d of the room follows %d", version, s.Room.GetVersion())
	}
	change()
	s.Room.Version, s.Room.ParticipantCount = version, int32(len(s.Participants))
	return nil
}

// change is what an event does to the state, or nil, and the version after it.
func (s *RoomState) change(event *free2talkv1.WatchRoomResponse) (change func(), version int64) {
	switch e := event.GetEvent().(type) {
	case *free2talkv1.WatchRoomResponse_ParticipantJoined:
		return func() { s.Participants = append(s.Participants, e.ParticipantJoined.GetParticipant()) }, e.ParticipantJoined.GetRoomVersion()
	case *free2talkv1.WatchRoomResponse_ParticipantLeft:
		return func() { s.leave(e.ParticipantLeft.GetUserId()) }, e.ParticipantLeft.GetRoomVersion()
	case *free2talkv1.WatchRoomResponse_ParticipantUpdated:
		return func() { s.update(e.ParticipantUpdated.GetParticipant()) }, e.ParticipantUpdated.GetRoomVersion()
	case *free2talkv1.WatchRoomResponse_OwnerChanged:
		return func() { s.hand(e.OwnerChanged.GetUserId(), event.GetTime()) }, e.OwnerChanged.GetRoomVersion()
	case *free2talkv1.WatchRoomResponse_RoomUpdated:
		return func() { s.Room = proto.CloneOf(e.RoomUpdated.GetRoom()) }, e.RoomUpdated.GetRoom().GetVersion()
	case *free2talkv1.WatchRoomResponse_RoomClosed:
		return func() { s.close(event.GetTime()) }, e.RoomClosed.GetRoomVersion()
	}
	return nil, 0
}

func (s *RoomState) leave(user string) {
	s.Participants = slices.DeleteFunc(slices.Clone(s.Participants), func(p *free2talkv1.Participant) bool {
		return p.GetUser().GetId() == user
	})
}

func (s *RoomState) update(fresh *free2talkv1.Participant) {
	s.Participants = slices.Clone(s.Participants)
	for i, p := range s.Participants {
		if p.GetUser().GetId() == fresh.GetUser().GetId() {
			s.Participants[i] = fresh
		}
	}
	if s.Room.GetOwner().GetId() == fresh.GetUser().GetId() {
		s.Room.Owner = fresh.GetUser()
	}
}

// hand gives the room to another participant, which counts as an update of it.
func (s *RoomState) hand(owner string, when *timestamppb.Timestamp) {
	s.Participants = slices.Clone(s.Participants)
	for i, p := range s.Participants {
		role := free2talkv1.ParticipantRole_PARTICIPANT_ROLE_MEMBER
		if p.GetUser().GetId() == owner {
			role, s.Room.Owner = free2talkv1.ParticipantRole_PARTICIPANT_ROLE_OWNER, p.GetUser()
		}
		if p.GetRole() != role {
			s.Participants[i] = proto.CloneOf(p)
			s.Participants[i].Role = role
		}
	}
	s.Room.UpdatedAt = when
}

func (s *RoomState) close(when *timestamppb.Timestamp) {
	s.Room.Status = free2talkv1.RoomStatus_ROOM_STATUS_CLOSED
	s.Room.ClosedAt, s.Room.UpdatedAt = when, when
}

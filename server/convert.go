package server

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// Conversions that more than one noun needs. Those that make wire messages
// begin with wire, those that go back with talk's word for the thing.
//
// Validation ran before any of them: ids are UUIDs, enums are known, lengths
// are right.

// id brings a UUID to the one spelling that ids have here.
func id[ID ~string](s string) ID { return ID(strings.ToLower(s)) }

func ids[ID ~string](all []string) []ID {
	list := make([]ID, len(all))
	for i, s := range all {
		list[i] = id[ID](s)
	}
	return list
}

// wireTime leaves out what has not happened.
func wireTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// each converts a list. An empty one becomes nil: on the wire they are the same.
func each[A, B any](list []A, convert func(A) B) []B {
	if len(list) == 0 {
		return nil
	}
	all := make([]B, len(list))
	for i, a := range list {
		all[i] = convert(a)
	}
	return all
}

func wireUser(u talk.User) *freev1.User {
	return &freev1.User{
		Id:                string(u.ID),
		Username:          u.Username,
		DisplayName:       u.DisplayName,
		AvatarUrl:         u.AvatarURL,
		Bio:               u.Bio,
		NativeLanguages:   u.NativeLanguages,
		LearningLanguages: u.LearningLanguages,
		Country:           u.Country,
		Role:              freev1.Role(u.Role),
		CreatedAt:         wireTime(u.CreatedAt),
		UpdatedAt:         wireTime(u.UpdatedAt),
	}
}

func wireSummary(u talk.UserSummary) *freev1.UserSummary {
	return &freev1.UserSummary{
		Id: string(u.ID), Username: u.Username, DisplayName: u.DisplayName, AvatarUrl: u.AvatarURL,
	}
}

func wireRoom(r talk.Room) *freev1.Room {
	return &freev1.Room{
		Id:               string(r.ID),
		Slug:             r.Slug,
		Name:             r.Name,
		Topic:            r.Topic,
		Languages:        r.Languages,
		Level:            freev1.Level(r.Level),
		Capacity:         int32(r.Capacity),
		ParticipantCount: int32(r.ParticipantCount),
		Owner:            wireSummary(r.Owner),
		Status:           wireStatus(r),
		Version:          r.Version,
		CreatedAt:        wireTime(r.CreatedAt),
		UpdatedAt:        wireTime(r.UpdatedAt),
		ClosedAt:         wireTime(r.ClosedAt),
	}
}

func wireStatus(r talk.Room) freev1.RoomStatus {
	if r.Open() {
		return freev1.RoomStatus_ROOM_STATUS_OPEN
	}
	return freev1.RoomStatus_ROOM_STATUS_CLOSED
}

func wireParticipant(p talk.Participant) *freev1.Participant {
	return &freev1.Participant{
		User: wireSummary(p.User), Role: wireSeat(p.Owner), State: wireState[p.State], JoinedAt: wireTime(p.JoinedAt),
	}
}

func wireSeat(owner bool) freev1.ParticipantRole {
	if owner {
		return freev1.ParticipantRole_PARTICIPANT_ROLE_OWNER
	}
	return freev1.ParticipantRole_PARTICIPANT_ROLE_MEMBER
}

var wireState = map[talk.ParticipantState]freev1.ParticipantState{
	talk.Connected:    freev1.ParticipantState_PARTICIPANT_STATE_CONNECTED,
	talk.Reconnecting: freev1.ParticipantState_PARTICIPANT_STATE_RECONNECTING,
}

var stateOf = inverse(wireState)

func inverse[A, B comparable](m map[A]B) map[B]A {
	back := make(map[B]A, len(m))
	for a, b := range m {
		back[b] = a
	}
	return back
}

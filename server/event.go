package server

import (
	"google.golang.org/protobuf/proto"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

var wireLeave = map[talk.LeaveReason]freev1.LeaveReason{
	talk.LeftByThemselves: freev1.LeaveReason_LEAVE_REASON_LEFT,
	talk.LeftByKick:       freev1.LeaveReason_LEAVE_REASON_KICKED,
	talk.LeftDisconnected: freev1.LeaveReason_LEAVE_REASON_DISCONNECTED,
	talk.LeftRoomClosed:   freev1.LeaveReason_LEAVE_REASON_ROOM_CLOSED,
	talk.LeftByBan:        freev1.LeaveReason_LEAVE_REASON_BANNED,
}

var wireClose = map[talk.CloseReason]freev1.CloseReason{
	talk.ClosedByOwner: freev1.CloseReason_CLOSE_REASON_BY_OWNER,
	talk.ClosedEmpty:   freev1.CloseReason_CLOSE_REASON_EMPTY,
	talk.ClosedByAdmin: freev1.CloseReason_CLOSE_REASON_BY_ADMIN,
}

var wireRevoke = map[talk.RevokeReason]freev1.RevokeReason{
	talk.RevokedByLogout:   freev1.RevokeReason_REVOKE_REASON_LOGOUT,
	talk.RevokedByReuse:    freev1.RevokeReason_REVOKE_REASON_REUSE,
	talk.RevokedByPassword: freev1.RevokeReason_REVOKE_REASON_PASSWORD,
	talk.RevokedByBan:      freev1.RevokeReason_REVOKE_REASON_BANNED,
	talk.RevokedByAdmin:    freev1.RevokeReason_REVOKE_REASON_ADMIN,
	talk.RevokedByLimit:    freev1.RevokeReason_REVOKE_REASON_LIMIT,
}

func wireJoined(f talk.ParticipantJoined) *freev1.ParticipantJoined {
	return &freev1.ParticipantJoined{RoomId: string(f.RoomID), Participant: wireParticipant(f.Participant), RoomVersion: f.Version}
}

func wireLeft(f talk.ParticipantLeft) *freev1.ParticipantLeft {
	return &freev1.ParticipantLeft{
		RoomId: string(f.RoomID), UserId: string(f.UserID), Reason: wireLeave[f.Reason], RoomVersion: f.Version,
	}
}

func wireUpdated(f talk.ParticipantUpdated) *freev1.ParticipantUpdated {
	return &freev1.ParticipantUpdated{RoomId: string(f.RoomID), Participant: wireParticipant(f.Participant), RoomVersion: f.Version}
}

func wireOwner(f talk.OwnerChanged) *freev1.OwnerChanged {
	return &freev1.OwnerChanged{
		RoomId: string(f.RoomID), UserId: string(f.UserID), PreviousUserId: string(f.PreviousUserID), RoomVersion: f.Version,
	}
}

func wireClosed(f talk.RoomClosed) *freev1.RoomClosed {
	return &freev1.RoomClosed{RoomId: string(f.RoomID), Reason: wireClose[f.Reason], RoomVersion: f.Version}
}

func wireMessage(f talk.MessagePosted) *freev1.MessagePosted {
	return &freev1.MessagePosted{
		MessageId: f.MessageID, RoomId: string(f.RoomID), Sender: wireSummary(f.Sender), Text: f.Text,
	}
}

// roomEvent is what a room's stream says of an event, or nil where that is
// nothing: what opened the room is in every snapshot.
func roomEvent(e talk.Event) *freev1.WatchRoomResponse {
	res := &freev1.WatchRoomResponse{Time: wireTime(e.At)}
	switch f := e.Fact.(type) {
	case talk.ParticipantJoined:
		res.Event = &freev1.WatchRoomResponse_ParticipantJoined{ParticipantJoined: wireJoined(f)}
	case talk.ParticipantLeft:
		res.Event = &freev1.WatchRoomResponse_ParticipantLeft{ParticipantLeft: wireLeft(f)}
	case talk.ParticipantUpdated:
		res.Event = &freev1.WatchRoomResponse_ParticipantUpdated{ParticipantUpdated: wireUpdated(f)}
	case talk.OwnerChanged:
		res.Event = &freev1.WatchRoomResponse_OwnerChanged{OwnerChanged: wireOwner(f)}
	case talk.RoomUpdated:
		res.Event = &freev1.WatchRoomResponse_RoomUpdated{RoomUpdated: &freev1.RoomUpdated{Room: wireRoom(f.Room)}}
	case talk.RoomClosed:
		res.Event = &freev1.WatchRoomResponse_RoomClosed{RoomClosed: wireClosed(f)}
	case talk.MessagePosted:
		res.Event = &freev1.WatchRoomResponse_MessagePosted{MessagePosted: wireMessage(f)}
	default:
		return nil
	}
	return res
}

// personalEvent is what a personal stream says of an event, or nil.
func personalEvent(e talk.Event) *freev1.ConnectResponse {
	res := &freev1.ConnectResponse{Time: wireTime(e.At)}
	switch f := e.Fact.(type) {
	case talk.ParticipantJoined:
		res.Event = &freev1.ConnectResponse_ParticipantJoined{ParticipantJoined: wireJoined(f)}
	case talk.ParticipantLeft:
		res.Event = &freev1.ConnectResponse_ParticipantLeft{ParticipantLeft: wireLeft(f)}
	case talk.ParticipantUpdated:
		res.Event = &freev1.ConnectResponse_ParticipantUpdated{ParticipantUpdated: wireUpdated(f)}
	case talk.OwnerChanged:
		res.Event = &freev1.ConnectResponse_OwnerChanged{OwnerChanged: wireOwner(f)}
	case talk.RoomUpdated:
		res.Event = &freev1.ConnectResponse_RoomUpdated{RoomUpdated: &freev1.RoomUpdated{Room: wireRoom(f.Room)}}
	case talk.RoomClosed:
		res.Event = &freev1.ConnectResponse_RoomClosed{RoomClosed: wireClosed(f)}
	case talk.MessagePosted:
		res.Event = &freev1.ConnectResponse_MessagePosted{MessagePosted: wireMessage(f)}
	case talk.Kicked:
		res.Event = &freev1.ConnectResponse_Kicked{Kicked: &freev1.Kicked{
			RoomId: string(f.RoomID), Reason: f.Reason, Until: wireTime(f.Until),
		}}
	case talk.SessionRevoked:
		res.Event = &freev1.ConnectResponse_SessionRevoked{SessionRevoked: &freev1.SessionRevoked{
			SessionId: string(f.SessionID), Reason: wireRevoke[f.Reason],
		}}
	default:
		return nil
	}
	return res
}

// The ways in which events are spelled: see [live.Told.Spelled].
const (
	wayRoom     = iota * 2 // for a room's stream, with its cursor
	wayPersonal            // for a personal stream, without: it is that person's own
)

// spelled is an event in a codec, made once for all who hear it.
func spelled(told *live.Told, way int, json bool, message func(talk.Event) proto.Message) ([]byte, error) {
	if json {
		way++
	}
	return told.Spelled(way, func() ([]byte, error) { return spell(message(told.Event), json) })
}

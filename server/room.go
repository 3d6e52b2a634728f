package server

import (
	"context"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
	"github.com/free2talk/free2talk/server/talk"
)

// getRoomPlan is how what GetRoom answers is spelled.
var getRoomPlan = planFor((&freev1.GetRoomResponse{}).ProtoReflect().Descriptor())

// roomHandler is RoomService: [talk.Rooms] on the wire.
type roomHandler struct {
	rooms *talk.Rooms
	live  *liveParts
}

var _ free2talkv1connect.RoomServiceHandler = roomHandler{}

// ListRooms lists open rooms.
func (h roomHandler) ListRooms(ctx context.Context, req *freev1.ListRoomsRequest) (*freev1.ListRoomsResponse, error) {
	query, err := roomQuery(req)
	if err != nil {
		return nil, err
	}
	page, err := h.rooms.List(ctx, query)
	if err != nil {
		return nil, err
	}
	if speltPage(ctx, query, &page) {
		return noRooms, nil
	}
	return wirePage(query, page), nil
}

// noRooms stands for what is spelled out.
var noRooms = &freev1.ListRoomsResponse{}

// GetRoom shows one room, open or closed.
func (h roomHandler) GetRoom(ctx context.Context, req *freev1.GetRoomRequest) (*freev1.GetRoomResponse, error) {
	view, err := h.named(ctx, req)
	if err != nil {
		return nil, err
	}
	if spelt(ctx, view.Memo, getRoomPlan, func() proto.Message { return wireView(view) }) {
		return noRoom, nil
	}
	return wireView(view), nil
}

// noRoom stands for what is spelled out.
var noRoom = &freev1.GetRoomResponse{}

func (h roomHandler) named(ctx context.Context, req *freev1.GetRoomRequest) (talk.RoomView, error) {
	if slug := req.GetSlug(); slug != "" {
		return h.rooms.RoomBySlug(ctx, slug)
	}
	return h.rooms.Room(ctx, id[talk.RoomID](req.GetId()))
}

// ListParticipants shows who sits in a room.
func (h roomHandler) ListParticipants(ctx context.Context, req *freev1.ListParticipantsRequest) (*freev1.ListParticipantsResponse, error) {
	view, err := h.rooms.Room(ctx, id[talk.RoomID](req.GetRoomId()))
	if err != nil {
		return nil, err
	}
	return &freev1.ListParticipantsResponse{
		Participants: each(view.Participants, wireParticipant), Version: view.Version,
	}, nil
}

// CreateRoom opens a room with the caller in it.
func (h roomHandler) CreateRoom(ctx context.Context, req *freev1.CreateRoomRequest) (*freev1.CreateRoomResponse, error) {
	room, err := h.rooms.Create(ctx, whoFrom(ctx), newRoom(req))
	if err != nil {
		return nil, err
	}
	return &freev1.CreateRoomResponse{Room: wireRoom(room)}, nil
}

// UpdateRoom changes what a room says of itself.
func (h roomHandler) UpdateRoom(ctx context.Context, req *freev1.UpdateRoomRequest) (*freev1.UpdateRoomResponse, error) {
	edit, err := roomEdit(req)
	if err != nil {
		return nil, err
	}
	room, err := h.rooms.Edit(ctx, whoFrom(ctx), id[talk.RoomID](req.GetRoom().GetId()), edit)
	if err != nil {
		return nil, err
	}
	return &freev1.UpdateRoomResponse{Room: wireRoom(room)}, nil
}

// CloseRoom ends a room.
func (h roomHandler) CloseRoom(ctx context.Context, req *freev1.CloseRoomRequest) (*freev1.CloseRoomResponse, error) {
	err := h.rooms.Close(ctx, whoFrom(ctx), id[talk.RoomID](req.GetRoomId()))
	return &freev1.CloseRoomResponse{}, err
}

// JoinRoom seats the caller.
func (h roomHandler) JoinRoom(ctx context.Context, req *freev1.JoinRoomRequest) (*freev1.JoinRoomResponse, error) {
	view, err := h.rooms.Join(ctx, whoFrom(ctx), id[talk.RoomID](req.GetRoomId()), req.GetLeaveCurrent())
	if err != nil {
		return nil, err
	}
	return &freev1.JoinRoomResponse{
		Room: wireRoom(view.Room), Participants: each(view.Participants, wireParticipant),
	}, nil
}

// LeaveRoom frees the caller's seat.
func (h roomHandler) LeaveRoom(ctx context.Context, req *freev1.LeaveRoomRequest) (*freev1.LeaveRoomResponse, error) {
	err := h.rooms.Leave(ctx, whoFrom(ctx), id[talk.RoomID](req.GetRoomId()))
	return &freev1.LeaveRoomResponse{}, err
}

// KickUser removes somebody and keeps them out for a while.
func (h roomHandler) KickUser(ctx context.Context, req *freev1.KickUserRequest) (*freev1.KickUserResponse, error) {
	room, target := id[talk.RoomID](req.GetRoomId()), id[talk.UserID](req.GetUserId())
	err := h.rooms.Kick(ctx, whoFrom(ctx), room, target, req.GetReason(), banFor(req.GetBanFor()))
	return &freev1.KickUserResponse{}, err
}

// LiftBan lets somebody in again.
func (h roomHandler) LiftBan(ctx context.Context, req *freev1.LiftBanRequest) (*freev1.LiftBanResponse, error) {
	err := h.rooms.LiftBan(ctx, whoFrom(ctx), id[talk.RoomID](req.GetRoomId()), id[talk.UserID](req.GetUserId()))
	return &freev1.LiftBanResponse{}, err
}

// ListBans shows the owner who is kept out.
func (h roomHandler) ListBans(ctx context.Context, req *freev1.ListBansRequest) (*freev1.ListBansResponse, error) {
	bans, err := h.rooms.Bans(ctx, whoFrom(ctx), id[talk.RoomID](req.GetRoomId()))
	if err != nil {
		return nil, err
	}
	return &freev1.ListBansResponse{Bans: each(bans, wireBan)}, nil
}

// TransferOwnership hands a room to a member.
func (h roomHandler) TransferOwnership(ctx context.Context, req *freev1.TransferOwnershipRequest) (*freev1.TransferOwnershipResponse, error) {
	room, err := h.rooms.Transfer(ctx, whoFrom(ctx), id[talk.RoomID](req.GetRoomId()), id[talk.UserID](req.GetUserId()))
	if err != nil {
		return nil, err
	}
	return &freev1.TransferOwnershipResponse{Room: wireRoom(room)}, nil
}

// SendMessage posts a text to those who sit in the room.
func (h roomHandler) SendMessage(ctx context.Context, req *freev1.SendMessageRequest) (*freev1.SendMessageResponse, error) {
	message := strings.ToLower(req.GetMessageId())
	message, err := h.rooms.Say(ctx, whoFrom(ctx), id[talk.RoomID](req.GetRoomId()), message, req.GetText())
	if err != nil {
		return nil, err
	}
	return &freev1.SendMessageResponse{MessageId: message}, nil
}

func roomQuery(req *freev1.ListRoomsRequest) (talk.RoomQuery, error) {
	query := talk.RoomQuery{
		Language: strings.ToLower(req.GetLanguage()),
		Level:    talk.Level(req.GetLevel()),
		Text:     req.GetQuery(),
		Order:    orderOf[req.GetOrderBy()],
		Size:     pageSize(req.GetPageSize()),
	}
	after, err := roomMark(query, req.GetPageToken())
	query.After = after
	return query, err
}

var orderOf = map[freev1.OrderBy]talk.Order{
	freev1.OrderBy_ORDER_BY_UNSPECIFIED: talk.Popular,
	freev1.OrderBy_ORDER_BY_POPULAR:     talk.Popular,
	freev1.OrderBy_ORDER_BY_NEWEST:      talk.Newest,
}

func wirePage(query talk.RoomQuery, page talk.RoomPage) *freev1.ListRoomsResponse {
	return &freev1.ListRoomsResponse{
		Rooms: each(page.Rooms, wireRoom), NextPageToken: roomToken(query, page.Next), TotalSize: int32(page.Total),
	}
}

func wireView(view talk.RoomView) *freev1.GetRoomResponse {
	return &freev1.GetRoomResponse{
		Room: wireRoom(view.Room), Participants: each(view.Participants, wireParticipant),
	}
}

func newRoom(req *freev1.CreateRoomRequest) talk.NewRoom {
	return talk.NewRoom{
		Name: req.GetName(), Topic: req.GetTopic(), Languages: req.GetLanguages(),
		Level: talk.Level(req.GetLevel()), Capacity: int(req.GetCapacity()),
	}
}

func roomEdit(req *freev1.UpdateRoomRequest) (talk.RoomEdit, error) {
	room := req.GetRoom()
	m, err := readMask(room, req.GetUpdateMask(), "name", "topic", "languages", "level", "capacity")
	return talk.RoomEdit{
		Name:      named(m, "name", room.GetName()),
		Topic:     named(m, "topic", room.GetTopic()),
		Languages: named(m, "languages", room.GetLanguages()),
		Level:     named(m, "level", talk.Level(room.GetLevel())),
		Capacity:  named(m, "capacity", int(room.GetCapacity())),
		Version:   req.GetVersion(),
	}, err
}

// banFor tells "not said" from zero, which keeps nobody out.
func banFor(d *durationpb.Duration) time.Duration {
	if d == nil {
		return talk.DefaultBan
	}
	return d.AsDuration()
}

func wireBan(b talk.RoomBan) *freev1.Ban {
	return &freev1.Ban{User: wireSummary(b.User), Until: wireTime(b.Until), Reason: b.Reason}
}

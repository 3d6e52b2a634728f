package server

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"time"

	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	"github.com/free2talk/free2talk/gen/free2talk/admin/v1/adminv1connect"
	"github.com/free2talk/free2talk/server/talk"
)

// adminHandler is AdminService: [talk.Admin], [talk.Insight] and
// [talk.Analytics] on the wire.
type adminHandler struct {
	admin     *talk.Admin
	insight   *talk.Insight
	analytics *talk.Analytics
	live      *liveParts
	telemetry *Telemetry
	about     About
}

var _ adminv1connect.AdminServiceHandler = adminHandler{}

// ListUsers lists accounts.
func (h adminHandler) ListUsers(ctx context.Context, req *adminv1.ListUsersRequest) (*adminv1.ListUsersResponse, error) {
	query, err := userQuery(req)
	if err != nil {
		return nil, err
	}
	page, err := h.admin.Users(ctx, query)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListUsersResponse{Users: each(page.Users, wireManaged), NextPageToken: userToken(query, page.Next)}, nil
}

// ListSessions lists the living sessions of a user.
func (h adminHandler) ListSessions(ctx context.Context, req *adminv1.ListSessionsRequest) (*adminv1.ListSessionsResponse, error) {
	sessions, err := h.admin.Sessions(ctx, id[talk.UserID](req.GetUserId()))
	if err != nil {
		return nil, err
	}
	return &adminv1.ListSessionsResponse{Sessions: each(sessions, wireSession(talk.Caller{}))}, nil
}

// SetRole makes somebody an administrator, or takes that away.
func (h adminHandler) SetRole(ctx context.Context, req *adminv1.SetRoleRequest) (*adminv1.SetRoleResponse, error) {
	user, err := h.admin.SetRole(ctx, whoFrom(ctx), id[talk.UserID](req.GetUserId()), talk.Role(req.GetRole()))
	if err != nil {
		return nil, err
	}
	return &adminv1.SetRoleResponse{User: wireUser(user)}, nil
}

// BanUser keeps somebody out.
func (h adminHandler) BanUser(ctx context.Context, req *adminv1.BanUserRequest) (*adminv1.BanUserResponse, error) {
	target, length := id[talk.UserID](req.GetUserId()), req.GetDuration().AsDuration()
	return &adminv1.BanUserResponse{}, h.admin.Ban(ctx, whoFrom(ctx), target, req.GetReason(), length)
}

// UnbanUser lets somebody in again.
func (h adminHandler) UnbanUser(ctx context.Context, req *adminv1.UnbanUserRequest) (*adminv1.UnbanUserResponse, error) {
	return &adminv1.UnbanUserResponse{}, h.admin.Unban(ctx, whoFrom(ctx), id[talk.UserID](req.GetUserId()))
}

// RevokeSessions ends all sessions of a user.
func (h adminHandler) RevokeSessions(ctx context.Context, req *adminv1.RevokeSessionsRequest) (*adminv1.RevokeSessionsResponse, error) {
	ended, err := h.admin.RevokeSessions(ctx, whoFrom(ctx), id[talk.UserID](req.GetUserId()))
	if err != nil {
		return nil, err
	}
	return &adminv1.RevokeSessionsResponse{RevokedSessions: int32(ended)}, nil
}

// CloseRoom ends a room.
func (h adminHandler) CloseRoom(ctx context.Context, req *adminv1.CloseRoomRequest) (*adminv1.CloseRoomResponse, error) {
	err := h.admin.CloseRoom(ctx, whoFrom(ctx), id[talk.RoomID](req.GetRoomId()), req.GetReason())
	return &adminv1.CloseRoomResponse{}, err
}

// KickUser removes somebody from a room.
func (h adminHandler) KickUser(ctx context.Context, req *adminv1.KickUserRequest) (*adminv1.KickUserResponse, error) {
	room, target := id[talk.RoomID](req.GetRoomId()), id[talk.UserID](req.GetUserId())
	return &adminv1.KickUserResponse{}, h.admin.Kick(ctx, whoFrom(ctx), room, target, req.GetReason())
}

// FlushCache drops what is cached.
func (h adminHandler) FlushCache(ctx context.Context, req *adminv1.FlushCacheRequest) (*adminv1.FlushCacheResponse, error) {
	dropped, err := h.admin.FlushCache(ctx, whoFrom(ctx), req.GetPattern())
	if err != nil {
		return nil, err
	}
	return &adminv1.FlushCacheResponse{DeletedKeys: int64(dropped)}, nil
}

// WarmCache loads what people are likely to ask for.
func (h adminHandler) WarmCache(ctx context.Context, _ *adminv1.WarmCacheRequest) (*adminv1.WarmCacheResponse, error) {
	rooms, people, err := h.admin.WarmCache(ctx, whoFrom(ctx))
	if err != nil {
		return nil, err
	}
	return &adminv1.WarmCacheResponse{Rooms: int32(rooms), Users: int32(people)}, nil
}

// ListAuditLog lists what administrators did.
func (h adminHandler) ListAuditLog(ctx context.Context, req *adminv1.ListAuditLogRequest) (*adminv1.ListAuditLogResponse, error) {
	below, err := auditPlace(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	size := pageSize(req.GetPageSize())
	entries, err := h.admin.AuditLog(ctx, below, size)
	if err != nil {
		return nil, err
	}
	return &adminv1.ListAuditLogResponse{Entries: each(entries, wireAudit), NextPageToken: auditToken(entries)}, nil
}

// VerifyAuditLog follows the chain of the whole log.
func (h adminHandler) VerifyAuditLog(ctx context.Context, _ *adminv1.VerifyAuditLogRequest) (*adminv1.VerifyAuditLogResponse, error) {
	check, err := h.admin.VerifyAudit(ctx)
	if err != nil {
		return nil, err
	}
	return &adminv1.VerifyAuditLogResponse{Entries: check.Entries, FirstBroken: check.Broken}, nil
}

// forGood is when a ban ends that does not.
var forGood = time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)

func wireManaged(u talk.ManagedUser) *adminv1.ManagedUser {
	managed := &adminv1.ManagedUser{
		User: wireUser(u.User), Email: u.Email, Sessions: int32(u.Sessions), CurrentRoomId: string(u.RoomID),
	}
	if u.Ban != nil {
		until := u.Ban.Until
		if until.IsZero() {
			until = forGood
		}
		managed.BannedUntil, managed.BanReason = wireTime(until), u.Ban.Reason
	}
	return managed
}

func wireAudit(e talk.AuditEntry) *adminv1.AuditEntry {
	return &adminv1.AuditEntry{
		Id: e.ID, Time: wireTime(e.At), Actor: e.Actor, Action: e.Action, Target: e.Target, Detail: e.Detail,
		Hash: hex.EncodeToString(e.Hash),
	}
}

func userQuery(req *adminv1.ListUsersRequest) (talk.UserQuery, error) {
	query := talk.UserQuery{Text: req.GetQuery(), Size: pageSize(req.GetPageSize())}
	if req.GetPageToken() == "" {
		return query, nil
	}
	place, err := openPage(req.GetPageToken(), userList(query))
	if err != nil {
		return query, err
	}
	if query.After, err = talk.ParseUserID(string(place)); err != nil {
		return query, talk.ErrBadPageToken
	}
	return query, nil
}

func userList(q talk.UserQuery) []string { return []string{"users", strings.ToLower(q.Text)} }

func userToken(q talk.UserQuery, last talk.UserID) string {
	if last == "" {
		return ""
	}
	return sealPage(userList(q), []byte(last))
}

var auditList = []string{"audit"}

// auditToken is the token of what is older than these entries: the first of
// all entries is 1, and none is left out.
func auditToken(entries []talk.AuditEntry) string {
	if len(entries) == 0 || entries[len(entries)-1].ID <= 1 {
		return ""
	}
	return sealPage(auditList, binary.BigEndian.AppendUint64(nil, uint64(entries[len(entries)-1].ID)))
}

func auditPlace(token string) (int64, error) {
	if token == "" {
		return 0, nil
	}
	place, err := openPage(token, auditList)
	if err != nil || len(place) != 8 {
		return 0, talk.ErrBadPageToken
	}
	return int64(binary.BigEndian.Uint64(place)), nil
}

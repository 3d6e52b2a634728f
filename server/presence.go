package server

import (
	"context"
	"encoding/binary"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
	"github.com/free2talk/free2talk/server/live"
	"github.com/free2talk/free2talk/server/talk"
)

// presenceHandler is PresenceService: who is there, and the stream that being
// there means.
type presenceHandler struct {
	live   *liveParts
	people *talk.People
}

var _ free2talkv1connect.PresenceServiceHandler = presenceHandler{}

// Connect makes the caller online and streams what concerns them.
func (h presenceHandler) Connect(ctx context.Context, req *freev1.ConnectRequest, _ free2talkv1connect.PresenceServiceConnectServerStream) error {
	return h.live.streams.run(ctx, &personalSource{
		liveParts: h.live, caller: accountFrom(ctx), cursor: req.GetCursor(), json: codecOf(ctx),
	})
}

// GetPresence says who of some people is there.
func (h presenceHandler) GetPresence(ctx context.Context, req *freev1.GetPresenceRequest) (*freev1.GetPresenceResponse, error) {
	all, err := h.live.Presence.Of(ctx, ids[talk.UserID](req.GetUserIds()))
	if err != nil {
		return nil, err
	}
	return &freev1.GetPresenceResponse{Presences: each(all, wirePresence)}, nil
}

// ListOnlineUsers lists who is online.
func (h presenceHandler) ListOnlineUsers(ctx context.Context, req *freev1.ListOnlineUsersRequest) (*freev1.ListOnlineUsersResponse, error) {
	shard, after, err := onlineMark(req.GetPageToken())
	if err != nil {
		return nil, err
	}
	users, next, done := h.live.Presence.Page(ctx, shard, after, pageSize(req.GetPageSize()))
	views, err := h.people.Users(ctx, users)
	if err != nil {
		return nil, err
	}
	res := &freev1.ListOnlineUsersResponse{Users: each(views, func(v talk.UserView) *freev1.UserSummary { return wireSummary(v.Summary()) })}
	if !done {
		res.NextPageToken = onlineToken(next, users[len(users)-1])
	}
	return res, nil
}

// CountOnline says how many are online.
func (h presenceHandler) CountOnline(ctx context.Context, _ *freev1.CountOnlineRequest) (*freev1.CountOnlineResponse, error) {
	return &freev1.CountOnlineResponse{Count: int32(h.live.Presence.Count(ctx))}, nil
}

// WatchPresence streams who of some people comes, goes and moves.
func (h presenceHandler) WatchPresence(ctx context.Context, req *freev1.WatchPresenceRequest, _ free2talkv1connect.PresenceServiceWatchPresenceServerStream) error {
	return h.live.streams.run(ctx, &presenceSource{liveParts: h.live, users: ids[talk.UserID](req.GetUserIds())})
}

func wirePresence(p talk.Presence) *freev1.Presence {
	return &freev1.Presence{
		UserId: string(p.UserID), Online: p.Online, LastSeenAt: wireTime(p.LastSeenAt), RoomId: string(p.RoomID), Stale: p.Stale,
	}
}

// onlineList is what the page tokens of ListOnlineUsers are bound to.
var onlineList = []string{"online"}

// onlineToken is the token of the page after somebody in a shard.
func onlineToken(shard int, after talk.UserID) string {
	return sealPage(onlineList, append(binary.AppendUvarint(nil, uint64(shard)), after...))
}

func onlineMark(token string) (shard int, after talk.UserID, err error) {
	if token == "" {
		return 0, "", nil
	}
	place, err := openPage(token, onlineList)
	if err != nil {
		return 0, "", err
	}
	n, size := binary.Uvarint(place)
	if size <= 0 || n >= talk.PresenceShards {
		return 0, "", talk.ErrBadPageToken
	}
	after, err = talk.ParseUserID(string(place[size:]))
	if err != nil {
		return 0, "", talk.ErrBadPageToken
	}
	return int(n), after, nil
}

// presenceSource is the stream of the presence of some people. It is state:
// it has no cursor.
type presenceSource struct {
	*liveParts

	users []talk.UserID
	watch *live.PresenceWatch
}

func (s *presenceSource) first(ctx context.Context) ([]any, error) {
	presences, watch, err := s.Presence.Watch(ctx, s.users)
	if err != nil {
		return nil, err
	}
	s.watch = watch
	return []any{&freev1.WatchPresenceResponse{Time: s.now(), Event: &freev1.WatchPresenceResponse_Snapshot{
		Snapshot: &freev1.PresenceSnapshot{
			Reason: freev1.SnapshotReason_SNAPSHOT_REASON_STARTED, Presences: each(presences, wirePresence),
		},
	}}}, nil
}

func (s *presenceSource) next(_, quiet context.Context) ([]any, error) {
	for {
		if err := s.watch.Wait(quiet); err != nil {
			return nil, err
		}
		var batch []any
		for _, p := range s.watch.Take() {
			batch = append(batch, &freev1.WatchPresenceResponse{Time: s.now(), Event: &freev1.WatchPresenceResponse_PresenceChanged{
				PresenceChanged: &freev1.PresenceChanged{Presence: wirePresence(p)},
			}})
		}
		if len(batch) > 0 {
			return batch, nil
		}
	}
}

func (s *presenceSource) heartbeat() any {
	return &freev1.WatchPresenceResponse{Time: s.now(), Event: &freev1.WatchPresenceResponse_Heartbeat{Heartbeat: &freev1.Heartbeat{}}}
}

func (s *presenceSource) goAway(after time.Duration) any {
	return &freev1.WatchPresenceResponse{Time: s.now(), Event: &freev1.WatchPresenceResponse_GoAway{
		GoAway: &freev1.GoAway{ReconnectAfter: durationpb.New(after)},
	}}
}

func (s *presenceSource) farewell(context.Context) []any { return nil }

func (s *presenceSource) close() {
	if s.watch != nil {
		s.watch.Close()
	}
}

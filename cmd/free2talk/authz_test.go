package main

import (
	"context"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// actors are those who may try something; the columns of [permissions].
var actors = []string{"anonymous", "outsider", "member", "owner", "admin", "kicked", "banned", "revoked"}

// Rows that many RPCs share.
const (
	anybody  = "ok            ok           ok           ok           ok           ok           SESSION_REVOKED SESSION_REVOKED"
	signedIn = "TOKEN_MISSING ok           ok           ok           ok           ok           SESSION_REVOKED SESSION_REVOKED"
	theAdmin = "TOKEN_MISSING NOT_ADMIN    NOT_ADMIN    NOT_ADMIN    ok           NOT_ADMIN    SESSION_REVOKED SESSION_REVOKED"
	theOwner = "TOKEN_MISSING NOT_OWNER    NOT_OWNER    ok           NOT_OWNER    NOT_OWNER    SESSION_REVOKED SESSION_REVOKED"
)

// permissions say of every RPC what each actor hears: "ok", a reason, or the
// code where there is no reason. Site-wide administrators act by AdminService
// and are nobody special elsewhere.
var permissions = map[string]struct {
	request func(*scene) proto.Message
	want    string
}{
	"AuthService.Register": {registerRequest, "ok ok ok ok ok ok ok ok"}, // it looks at no token
	"AuthService.Login":    {loginRequest, "ok ok ok ok ok ok BANNED ok"},
	"AuthService.Refresh": {func(s *scene) proto.Message {
		return &free2talkv1.RefreshRequest{RefreshToken: s.refresh()}
	}, "REFRESH_INVALID ok ok ok ok ok SESSION_REVOKED SESSION_REVOKED"},
	"AuthService.Logout":       {empty[free2talkv1.LogoutRequest], "TOKEN_MISSING ok ok ok ok ok ok ok"},
	"AuthService.LogoutAll":    {empty[free2talkv1.LogoutAllRequest], signedIn},
	"AuthService.ListSessions": {empty[free2talkv1.ListSessionsRequest], signedIn},
	"AuthService.GetMe":        {empty[free2talkv1.GetMeRequest], signedIn},
	"AuthService.RevokeSession": {
		func(s *scene) proto.Message {
			return &free2talkv1.RevokeSessionRequest{SessionId: string(s.member.grant.SessionID)}
		},
		"TOKEN_MISSING SESSION_NOT_FOUND ok SESSION_NOT_FOUND SESSION_NOT_FOUND SESSION_NOT_FOUND SESSION_REVOKED SESSION_REVOKED",
	},
	"AuthService.ChangePassword": {func(*scene) proto.Message {
		return &free2talkv1.ChangePasswordRequest{CurrentPassword: password, NewPassword: "nine green kettles"}
	}, signedIn},
	"AuthService.DeleteAccount": {func(*scene) proto.Message {
		return &free2talkv1.DeleteAccountRequest{Password: password}
	}, signedIn},
	"UserService.GetUser": {func(s *scene) proto.Message {
		return &free2talkv1.GetUserRequest{Key: &free2talkv1.GetUserRequest_Id{Id: s.owner.id()}}
	}, anybody},
	"UserService.BatchGetUsers": {func(s *scene) proto.Message {
		return &free2talkv1.BatchGetUsersRequest{Ids: []string{s.owner.id(), s.member.id()}}
	}, anybody},
	"UserService.UpdateProfile": {func(*scene) proto.Message {
		return &free2talkv1.UpdateProfileRequest{Profile: &free2talkv1.User{Bio: "hello"}}
	}, signedIn},
	"RoomService.ListRooms": {empty[free2talkv1.ListRoomsRequest], anybody},
	"RoomService.GetRoom": {func(s *scene) proto.Message {
		return &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: s.room}}
	}, anybody},
	"RoomService.ListParticipants": {func(s *scene) proto.Message {
		return &free2talkv1.ListParticipantsRequest{RoomId: s.room}
	}, anybody},
	"RoomService.CreateRoom": {func(*scene) proto.Message {
		return &free2talkv1.CreateRoomRequest{Name: "Another", Languages: []string{"es"}}
	}, "TOKEN_MISSING ok IN_ANOTHER_ROOM OWNS_A_ROOM ok ok SESSION_REVOKED SESSION_REVOKED"},
	"RoomService.UpdateRoom": {func(s *scene) proto.Message {
		return &free2talkv1.UpdateRoomRequest{Room: &free2talkv1.Room{Id: s.room, Name: "Renamed"}}
	}, theOwner},
	"RoomService.CloseRoom": {func(s *scene) proto.Message { return &free2talkv1.CloseRoomRequest{RoomId: s.room} }, theOwner},
	"RoomService.JoinRoom": {
		func(s *scene) proto.Message { return &free2talkv1.JoinRoomRequest{RoomId: s.room} },
		"TOKEN_MISSING ok ok ok ok KICKED SESSION_REVOKED SESSION_REVOKED",
	},
	"RoomService.LeaveRoom": {func(s *scene) proto.Message { return &free2talkv1.LeaveRoomRequest{RoomId: s.room} }, signedIn},
	"RoomService.KickUser": {func(s *scene) proto.Message {
		return &free2talkv1.KickUserRequest{RoomId: s.room, UserId: s.member.id()}
	}, theOwner},
	"RoomService.LiftBan": {func(s *scene) proto.Message {
		return &free2talkv1.LiftBanRequest{RoomId: s.room, UserId: s.kicked.id()}
	}, theOwner},
	"RoomService.ListBans": {func(s *scene) proto.Message { return &free2talkv1.ListBansRequest{RoomId: s.room} }, theOwner},
	"RoomService.TransferOwnership": {func(s *scene) proto.Message {
		return &free2talkv1.TransferOwnershipRequest{RoomId: s.room, UserId: s.member.id()}
	}, theOwner},
	"RoomService.SendMessage": {func(s *scene) proto.Message {
		return &free2talkv1.SendMessageRequest{RoomId: s.room, Text: "hello"}
	}, "TOKEN_MISSING NOT_IN_ROOM ok ok NOT_IN_ROOM NOT_IN_ROOM SESSION_REVOKED SESSION_REVOKED"},
	"RoomService.WatchRoom":           {func(s *scene) proto.Message { return &free2talkv1.WatchRoomRequest{RoomId: s.room} }, "TOKEN_MISSING ok ok ok ok KICKED SESSION_REVOKED SESSION_REVOKED"},
	"RoomService.WatchRooms":          {empty[free2talkv1.WatchRoomsRequest], anybody},
	"PresenceService.Connect":         {empty[free2talkv1.ConnectRequest], signedIn},
	"PresenceService.CountOnline":     {empty[free2talkv1.CountOnlineRequest], anybody},
	"PresenceService.GetPresence":     {func(s *scene) proto.Message { return &free2talkv1.GetPresenceRequest{UserIds: []string{s.owner.id()}} }, signedIn},
	"PresenceService.ListOnlineUsers": {empty[free2talkv1.ListOnlineUsersRequest], signedIn},
	"PresenceService.WatchPresence": {func(s *scene) proto.Message {
		return &free2talkv1.WatchPresenceRequest{UserIds: []string{s.owner.id()}}
	}, signedIn},
	"AdminService.ListUsers": {empty[adminv1.ListUsersRequest], theAdmin},
	"AdminService.ListSessions": {func(s *scene) proto.Message {
		return &adminv1.ListSessionsRequest{UserId: s.member.id()}
	}, theAdmin},
	"AdminService.SetRole": {func(s *scene) proto.Message {
		return &adminv1.SetRoleRequest{UserId: s.member.id(), Role: free2talkv1.Role_ROLE_ADMIN}
	}, theAdmin},
	"AdminService.BanUser": {func(s *scene) proto.Message {
		return &adminv1.BanUserRequest{UserId: s.member.id(), Reason: "spam"}
	}, theAdmin},
	"AdminService.UnbanUser": {func(s *scene) proto.Message {
		return &adminv1.UnbanUserRequest{UserId: s.member.id()}
	}, theAdmin},
	"AdminService.RevokeSessions": {func(s *scene) proto.Message {
		return &adminv1.RevokeSessionsRequest{UserId: s.member.id()}
	}, theAdmin},
	"AdminService.CloseRoom": {func(s *scene) proto.Message { return &adminv1.CloseRoomRequest{RoomId: s.room} }, theAdmin},
	"AdminService.KickUser": {func(s *scene) proto.Message {
		return &adminv1.KickUserRequest{RoomId: s.room, UserId: s.owner.id()}
	}, theAdmin},
	"AdminService.ListAuditLog":   {empty[adminv1.ListAuditLogRequest], theAdmin},
	"AdminService.VerifyAuditLog": {empty[adminv1.VerifyAuditLogRequest], theAdmin},
	"AdminService.FlushCache":     {empty[adminv1.FlushCacheRequest], theAdmin},
	"AdminService.GetStats":       {empty[adminv1.GetStatsRequest], theAdmin},
	"AdminService.GetAnalytics":   {empty[adminv1.GetAnalyticsRequest], theAdmin},
	"AdminService.WarmCache":      {empty[adminv1.WarmCacheRequest], theAdmin},
	"AdminService.ListRateLimits": {empty[adminv1.ListRateLimitsRequest], theAdmin},
	"AdminService.ResetRateLimit": {func(*scene) proto.Message {
		return &adminv1.ResetRateLimitRequest{Policy: "api", Key: "10.0.0.1"}
	}, theAdmin},
	"AdminService.Explain": {func(s *scene) proto.Message {
		return &adminv1.ExplainRequest{Question: &adminv1.ExplainRequest_Closed{Closed: s.room}}
	}, theAdmin},
}

func empty[M any, P interface {
	*M
	proto.Message
}](*scene) proto.Message {
	return P(new(M))
}

func registerRequest(s *scene) proto.Message {
	name := "friend-of-" + s.owner.Username
	return &free2talkv1.RegisterRequest{Email: name + "@example.org", Username: name, Password: password}
}

// loginRequest is the actor's; a stranger tries the owner's name, and knows the password.
func loginRequest(s *scene) proto.Message {
	name := s.owner.Username
	if s.actor != nil {
		name = s.actor.Username
	}
	return &free2talkv1.LoginRequest{Login: &free2talkv1.LoginRequest_Username{Username: name}, Password: password}
}

// scene is a room with its people, in which one of them tries something.
type scene struct {
	*world

	owner, member, kicked *person
	actor                 *person // nil: nobody known
	room                  string
}

func newScene(w *world, actor string) *scene {
	w.Helper()
	s := &scene{world: w, owner: w.person(), member: w.person(), kicked: w.person()}
	s.room = w.room(s.owner, 5).GetId()
	for _, p := range []*person{s.member, s.kicked} {
		s.must(p.Rooms.JoinRoom(w.Context(), &free2talkv1.JoinRoomRequest{RoomId: s.room}))
	}
	s.must(s.owner.Rooms.KickUser(w.Context(), &free2talkv1.KickUserRequest{RoomId: s.room, UserId: s.kicked.id()}))
	switch actor {
	case "owner", "anonymous":
		s.actor = s.owner
	case "member":
		s.actor = s.member
	case "kicked":
		s.actor = s.kicked
	default:
		s.actor = w.person()
	}
	s.become(actor)
	if actor == "anonymous" {
		s.actor = nil
	}
	return s
}

func (s *scene) must(_ any, err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// become gives the actor a password, and what else makes them one.
func (s *scene) become(actor string) {
	s.Helper()
	n := s.nodes[0]
	err := n.outbox.Change(s.Context(), talk.Scope{Users: []talk.UserID{s.actor.ID}, Sessions: true}, func(state *talk.State) error {
		user, err := state.User(s.actor.ID)
		if err != nil {
			return err
		}
		user.SetPassword(passwordHash(), state.Now)
		if actor == "admin" {
			user.SetRole(talk.RoleAdmin, state.Now)
		}
		if actor == "banned" {
			user.Ban = &talk.Ban{Reason: "spam"}
		}
		if actor == "banned" || actor == "revoked" {
			n.revoked.Add(user.Revoke(talk.RevokedByBan, state.Now, func(*talk.Session) bool { return true })...)
		}
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
}

// passwordHash is that of [password], computed once.
var passwordHash = sync.OnceValue(func() string {
	hash, err := talk.NewPasswords(0).Hash(context.Background(), password)
	if err != nil {
		panic(err)
	}
	return hash
})

func (s *scene) refresh() string {
	if s.actor == nil {
		return "forged"
	}
	return s.actor.grant.RefreshToken
}

// verdict is what a call came to: "ok", a reason, or a code.
func (s *scene) verdict(method protoreflect.MethodDescriptor, request proto.Message) (verdict, body string) {
	s.Helper()
	message, err := protojson.Marshal(request)
	if err != nil {
		s.Fatal(err)
	}
	token := ""
	if s.actor != nil {
		token = s.actor.grant.AccessToken
	}
	return s.raw(s.nodes[0], method, "json", message, token)
}

// mayTellEmail are the RPCs whose caller is told e-mail addresses: their own,
// or everybody's.
var mayTellEmail = map[string]bool{
	"AuthService.Register": true, "AuthService.Login": true, "AuthService.GetMe": true, "AdminService.ListUsers": true,
}

// TestChecklist46_every_RPC_for_everybody walks the whole table, each cell in
// a scene of its own. An RPC without a row fails, and a row without an RPC.
func TestChecklist46_every_RPC_for_everybody(t *testing.T) {
	all := methods()
	for name := range permissions {
		if all[name] == nil {
			t.Errorf("there is no %s", name)
		}
	}
	for name, method := range all {
		t.Run(name, func(t *testing.T) {
			row, ok := permissions[name]
			want := strings.Fields(row.want)
			if !ok || len(want) != len(actors) {
				t.Fatalf("permissions say %q, want a word for each of %v", row.want, actors)
			}
			t.Parallel()
			w := newWorld(t, onEmbedded, 1)
			for i, actor := range actors {
				s := newScene(w, actor)
				got, said := s.verdict(method, row.request(s))
				if got != want[i] {
					t.Errorf("%s: %s, want %s: %s", actor, got, want[i], said)
				}
				if !mayTellEmail[name] && strings.Contains(said, "@example.org") {
					t.Errorf("%s was told an e-mail address (checklist 50): %s", actor, said)
				}
			}
		})
	}
}

// A ban that reached the account and not yet the session: what decides asks
// for the ban itself.
func TestChecklist46_a_ban_holds_before_the_session_ends(t *testing.T) {
	w := newWorld(t, onEmbedded, 1)
	s := newScene(w, "outsider")
	err := w.nodes[0].outbox.Change(t.Context(), talk.Scope{Users: []talk.UserID{s.actor.ID}}, func(state *talk.State) error {
		user, err := state.User(s.actor.ID)
		if err == nil {
			user.Ban = &talk.Ban{Reason: "spam"}
			user.SetPassword(passwordHash(), state.Now)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"AuthService.Login", "RoomService.CreateRoom", "RoomService.JoinRoom"} {
		if got, said := s.verdict(methods()[name], permissions[name].request(s)); got != "BANNED" {
			t.Errorf("%s: %s: %s", name, got, said)
		}
	}
}

// what asks for one thing and says what must come of it.
type attempt struct {
	name    string
	request proto.Message
	want    string
}

func (s *scene) attempts(actor *person, list ...attempt) {
	s.Helper()
	s.actor = actor
	for _, a := range list {
		if got, said := s.verdict(methods()["RoomService."+a.name], a.request); got != a.want {
			s.Errorf("%s %v: %s, want %s: %s", a.name, a.request, got, a.want, said)
		}
	}
}

func TestChecklist47_what_is_not_mine_and_what_is_not(t *testing.T) {
	s := newScene(newWorld(t, onEmbedded, 1), "outsider")
	on := func(room, want string) []attempt {
		return []attempt{
			{"UpdateRoom", &free2talkv1.UpdateRoomRequest{Room: &free2talkv1.Room{Id: room, Name: "Mine"}}, want},
			{"KickUser", &free2talkv1.KickUserRequest{RoomId: room, UserId: s.member.id()}, want},
			{"LiftBan", &free2talkv1.LiftBanRequest{RoomId: room, UserId: s.kicked.id()}, want},
			{"ListBans", &free2talkv1.ListBansRequest{RoomId: room}, want},
			{"TransferOwnership", &free2talkv1.TransferOwnershipRequest{RoomId: room, UserId: s.member.id()}, want},
			{"CloseRoom", &free2talkv1.CloseRoomRequest{RoomId: room}, want},
		}
	}
	for _, who := range []*person{s.member, s.actor} {
		s.attempts(who, on(s.room, "NOT_OWNER")...)
	}
	s.attempts(s.owner, on(talk.NewID(), "ROOM_NOT_FOUND")...)
	s.attempts(s.owner,
		attempt{"JoinRoom", &free2talkv1.JoinRoomRequest{RoomId: talk.NewID()}, "ROOM_NOT_FOUND"},
		attempt{"LeaveRoom", &free2talkv1.LeaveRoomRequest{RoomId: talk.NewID()}, "ROOM_NOT_FOUND"},
		attempt{"ListParticipants", &free2talkv1.ListParticipantsRequest{RoomId: talk.NewID()}, "ROOM_NOT_FOUND"})
	seen := s.seen()
	if seen.GetRoom().GetName() == "Mine" || seen.GetRoom().GetOwner().GetId() != s.owner.id() || len(seen.GetParticipants()) != 2 {
		t.Errorf("something was done all the same: %v", seen)
	}
}

func (s *scene) seen() *free2talkv1.GetRoomResponse {
	s.Helper()
	reply, err := s.owner.Rooms.GetRoom(s.Context(), &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: s.room}})
	if err != nil {
		s.Fatal(err)
	}
	return reply
}

func TestChecklist48_kicks_and_transfers_to_the_wrong_one(t *testing.T) {
	s := newScene(newWorld(t, onEmbedded, 1), "banned")
	banned, outsider := s.actor, s.person()
	kick := func(who *person) *free2talkv1.KickUserRequest {
		return &free2talkv1.KickUserRequest{RoomId: s.room, UserId: who.id(), BanFor: durationpb.New(3600e9)}
	}
	give := func(id string) *free2talkv1.TransferOwnershipRequest {
		return &free2talkv1.TransferOwnershipRequest{RoomId: s.room, UserId: id}
	}
	s.attempts(s.owner,
		attempt{"KickUser", kick(s.owner), "SELF"},
		attempt{"KickUser", kick(outsider), "NOT_IN_ROOM"},
		attempt{"TransferOwnership", give(s.owner.id()), "SELF"},
		attempt{"TransferOwnership", give(outsider.id()), "NOT_IN_ROOM"},
		attempt{"TransferOwnership", give(s.kicked.id()), "NOT_IN_ROOM"},
		attempt{"TransferOwnership", give(banned.id()), "NOT_IN_ROOM"},
		attempt{"TransferOwnership", give(talk.NewID()), "NOT_IN_ROOM"})
	s.attempts(s.member, attempt{"KickUser", kick(s.owner), "NOT_OWNER"})
	s.attempts(s.owner, attempt{"KickUser", kick(s.member), "ok"})
	join := &free2talkv1.JoinRoomRequest{RoomId: s.room}
	s.attempts(s.member, attempt{"JoinRoom", join, "KICKED"})
	s.attempts(s.owner, attempt{"LiftBan", &free2talkv1.LiftBanRequest{RoomId: s.room, UserId: s.member.id()}, "ok"})
	s.attempts(s.member, attempt{"JoinRoom", join, "ok"})
	s.attempts(s.owner, attempt{"TransferOwnership", give(s.member.id()), "ok"})
	s.attempts(s.owner, attempt{"KickUser", kick(s.member), "NOT_OWNER"})
}

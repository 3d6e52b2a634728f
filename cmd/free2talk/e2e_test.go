package main

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/free2talk/free2talk/client"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
)

// TestEndToEnd walks through the whole product as people would, on every
// backend and in every protocol, on two nodes where the backend has them.
func TestEndToEnd(t *testing.T) {
	t.Parallel()
	backends := []backend{onEmbedded, onPostgres, onCluster, onSentinel}
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			w := newWorld(t, b, 2)
			for _, p := range protocols {
				t.Run(p.name, func(t *testing.T) { tell(t, w, p, func(int) {}) })
			}
		})
	}
}

// TestEndToEndWithRedisStopped is the same story, with Redis frozen at its
// half: every unary call still answers rightly.
func TestEndToEndWithRedisStopped(t *testing.T) {
	t.Parallel()
	for _, p := range protocols {
		t.Run(p.name, func(t *testing.T) {
			redis := testenv.StartRedis(t)
			onOwnRedis := backend{"own redis", 2, func(t testing.TB, s *Settings) {
				s.DatabaseURL, s.RedisURL = testenv.Postgres(t), redis.URL()
			}}
			w := newWorld(t, onOwnRedis, 2)
			w.redisUsed()
			tell(t, w, p, func(chapter int) {
				if chapter == len(chapters)/2 {
					redis.Stop()
				}
			})
			redis.Cont()
			w.redisUsed()
		})
	}
}

// story is one telling: four people and a room, through the wire alone.
type story struct {
	*world
	t                    *testing.T
	by                   protocol
	ada, bob, carol, dan *client.Client
	adaID, bobID, carID  string
	phone                *client.Client // ada's second device
	room                 *free2talkv1.Room
}

// chapters in the order in which they are told.
var chapters = []struct {
	name string
	tell func(*story)
}{
	{"people register, and sign in on two devices", (*story).register},
	{"a room opens and is found by language and level", (*story).open},
	{"people join until it is full", (*story).join},
	{"a profile changes and the room sees it", (*story).profile},
	{"somebody is kicked, kept out and let in again", (*story).kick},
	{"the owner edits the room", (*story).edit},
	{"the room is handed over, inherited and closed", (*story).handOver},
	{"moving rooms happens whole or not at all", (*story).move},
	{"tokens are refreshed and devices signed out", (*story).sessions},
	{"a password is changed and an account deleted", (*story).account},
	{"people speak, and are heard", (*story).speak},
}

func tell(t *testing.T, w *world, p protocol, before func(chapter int)) {
	s := &story{world: w, t: t, by: p}
	for i, chapter := range chapters {
		before(i)
		if !t.Run(chapter.name, func(t *testing.T) {
			s.t = t
			chapter.tell(s)
		}) {
			return
		}
	}
}

func (s *story) ctx() context.Context { return s.t.Context() }

// answer is what a call came to.
type answer[T any] struct {
	reply T
	err   error
}

func try[T any](reply T, err error) answer[T] { return answer[T]{reply, err} }

// must is the reply; it stops the story where the call failed.
func (a answer[T]) must(s *story) T {
	s.t.Helper()
	s.done(a.err)
	return a.reply
}

// done stops the story where a call failed.
func (s *story) done(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%v (%s) %v", err, client.Reason(err), client.Violations(err))
	}
}

// refused says that a call must have failed with that code and reason.
func (s *story) refused(err error, code connect.Code, reason string) {
	s.t.Helper()
	if connect.CodeOf(err) != code || client.Reason(err) != reason {
		s.t.Fatalf("got %v (%s), want %s %s", err, client.Reason(err), code, reason)
	}
}

func (s *story) enter(name string) (string, *client.Client) {
	s.t.Helper()
	c := s.clientBy(s.node(), s.by)
	name += "-" + s.by.name
	account := try(c.Register(s.ctx(), name+"@example.org", name, password)).must(s)
	return account.GetUser().GetId(), c
}

func (s *story) register() {
	s.adaID, s.ada = s.enter("ada")
	s.bobID, s.bob = s.enter("bob")
	s.carID, s.carol = s.enter("carol")
	_, s.dan = s.enter("dan")
	s.phone = s.clientBy(s.node(), s.by)
	account, err := s.phone.Login(s.ctx(), "ADA-"+s.by.name+"@Example.ORG", password)
	if s.done(err); account.GetUser().GetId() != s.adaID {
		s.t.Fatalf("signed in as %v", account)
	}
	_, err = s.clientBy(s.node(), s.by).Register(s.ctx(), "new@example.org", "Ada-"+s.by.name, password)
	s.refused(err, connect.CodeAlreadyExists, client.ReasonUsernameTaken)
	_, err = s.clientBy(s.node(), s.by).Login(s.ctx(), "ada-"+s.by.name, "seven blue kettle")
	s.refused(err, connect.CodeUnauthenticated, client.ReasonBadCredentials)
	devices := try(s.ada.Auth.ListSessions(s.ctx(), &free2talkv1.ListSessionsRequest{})).must(s).GetSessions()
	if len(devices) != 2 {
		s.t.Fatalf("two devices signed in, got %v", devices)
	}
}

func (s *story) open() {
	name := "Café con leche " + s.by.name
	s.room = try(s.ada.Rooms.CreateRoom(s.ctx(), &free2talkv1.CreateRoomRequest{
		Name: name, Topic: "slow talk", Languages: []string{"es-MX", "en"}, Level: free2talkv1.Level_LEVEL_BEGINNER, Capacity: 3,
	})).must(s).GetRoom()
	if s.room.GetOwner().GetId() != s.adaID || s.room.GetParticipantCount() != 1 || s.room.GetLanguages()[0] != "es-mx" {
		s.t.Fatalf("created %v", s.room)
	}
	anybody := s.clientBy(s.node(), s.by, client.WithHTTPGet())
	for filter, found := range map[*free2talkv1.ListRoomsRequest]bool{
		{Language: "es"}: true, {Language: "en"}: true, {Language: "fr"}: false,
		{Level: free2talkv1.Level_LEVEL_BEGINNER}: true, {Level: free2talkv1.Level_LEVEL_ADVANCED}: false,
		{Query: "CON LECHE " + s.by.name}: true, {Query: "%"}: false,
	} {
		filter.PageSize, filter.OrderBy = 100, free2talkv1.OrderBy_ORDER_BY_NEWEST
		s.eventually(10*time.Second, fmt.Sprintf("%v finds it: %v", filter, found), func() bool { // on a node that did not open it
			return s.holds(try(anybody.Rooms.ListRooms(s.ctx(), filter)).must(s).GetRooms()) == found
		})
	}
	bySlug := try(anybody.Rooms.GetRoom(s.ctx(), &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Slug{Slug: s.room.GetSlug()}})).must(s)
	if bySlug.GetRoom().GetId() != s.room.GetId() || len(bySlug.GetParticipants()) != 1 {
		s.t.Fatalf("by slug: %v", bySlug)
	}
	_, err := anybody.Rooms.GetRoom(s.ctx(), &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: talk.NewID()}})
	s.refused(err, connect.CodeNotFound, client.ReasonRoomNotFound)
	_, err = s.ada.Rooms.CreateRoom(s.ctx(), &free2talkv1.CreateRoomRequest{Name: "Another", Languages: []string{"es"}})
	s.refused(err, connect.CodeFailedPrecondition, client.ReasonOwnsARoom)
}

func (s *story) holds(rooms []*free2talkv1.Room) bool {
	return slices.ContainsFunc(rooms, func(r *free2talkv1.Room) bool { return r.GetId() == s.room.GetId() })
}

func (s *story) sit(c *client.Client) error {
	_, err := c.Rooms.JoinRoom(s.ctx(), &free2talkv1.JoinRoomRequest{RoomId: s.room.GetId()})
	return err
}

// seen is the room as somebody signed in sees it now, on any node.
func (s *story) seen() *free2talkv1.GetRoomResponse {
	s.t.Helper()
	return try(s.dan.Rooms.GetRoom(s.ctx(), &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: s.room.GetId()}})).must(s)
}

// people checks who sits in the room, the longest seated first, and who owns it:
// as a node sees it that may hear of a write a moment later.
func (s *story) people(owner string, ids ...string) {
	s.t.Helper()
	s.eventually(10*time.Second, fmt.Sprintf("%v sit there, and %s owns it", ids, owner), func() bool {
		seen := s.seen()
		var seated []string
		for _, p := range seen.GetParticipants() {
			seated = append(seated, p.GetUser().GetId())
			if owns := p.GetRole() == free2talkv1.ParticipantRole_PARTICIPANT_ROLE_OWNER; owns != (p.GetUser().GetId() == seen.GetRoom().GetOwner().GetId()) {
				s.t.Errorf("role of %v, where %s owns the room", p, seen.GetRoom().GetOwner().GetId())
			}
		}
		return slices.Equal(seated, ids) && int(seen.GetRoom().GetParticipantCount()) == len(ids) && seen.GetRoom().GetOwner().GetId() == owner
	})
}

func (s *story) join() {
	for range 2 { // the second time is as if once
		s.done(s.sit(s.bob))
	}
	s.done(s.sit(s.carol))
	s.refused(s.sit(s.dan), connect.CodeFailedPrecondition, client.ReasonRoomFull)
	s.people(s.adaID, s.adaID, s.bobID, s.carID)
	list := try(s.bob.Rooms.ListParticipants(s.ctx(), &free2talkv1.ListParticipantsRequest{RoomId: s.room.GetId()})).must(s)
	if len(list.GetParticipants()) != 3 || list.GetVersion() != 3 {
		s.t.Errorf("participants %v", list)
	}
	me := try(s.bob.Auth.GetMe(s.ctx(), &free2talkv1.GetMeRequest{})).must(s)
	if me.GetCurrentRoomId() != s.room.GetId() || me.GetOwnedRoomId() != "" || me.GetAccount().GetEmail() == "" {
		s.t.Errorf("bob is %v", me)
	}
}

func (s *story) profile() {
	changed := try(s.bob.Users.UpdateProfile(s.ctx(), &free2talkv1.UpdateProfileRequest{
		Profile: &free2talkv1.User{DisplayName: "Bob 🐝", LearningLanguages: []string{"es", "PT-br"}, Bio: "one\ntwo"},
	})).must(s).GetUser()
	if changed.GetDisplayName() != "Bob 🐝" || !slices.Equal(changed.GetLearningLanguages(), []string{"es", "pt-br"}) {
		s.t.Fatalf("changed to %v", changed)
	}
	if got := s.seen().GetParticipants()[1].GetUser().GetDisplayName(); got != "Bob 🐝" {
		s.t.Errorf("the room shows %q", got)
	}
	by := &free2talkv1.GetUserRequest{Key: &free2talkv1.GetUserRequest_Username{Username: "BOB-" + s.by.name}}
	if got := try(s.dan.Users.GetUser(s.ctx(), by)).must(s).GetUser(); got.GetId() != s.bobID || got.GetBio() != "one\ntwo" {
		s.t.Errorf("by username: %v", got)
	}
	some := try(s.dan.Users.BatchGetUsers(s.ctx(), &free2talkv1.BatchGetUsersRequest{Ids: []string{s.carID, talk.NewID(), s.adaID}})).must(s).GetUsers()
	if len(some) != 2 || some[0].GetId() != s.carID || some[1].GetId() != s.adaID {
		s.t.Errorf("in a batch: %v", some)
	}
}

func (s *story) kick() {
	out := &free2talkv1.KickUserRequest{RoomId: s.room.GetId(), UserId: s.carID, Reason: "too loud", BanFor: durationpb.New(time.Hour)}
	_, err := s.bob.Rooms.KickUser(s.ctx(), out)
	s.refused(err, connect.CodePermissionDenied, client.ReasonNotOwner)
	try(s.ada.Rooms.KickUser(s.ctx(), out)).must(s)
	s.people(s.adaID, s.adaID, s.bobID)
	err = s.sit(s.carol)
	s.refused(err, connect.CodePermissionDenied, client.ReasonKicked)
	if until, e := time.Parse(time.RFC3339, client.Metadata(err)["until"]); e != nil || time.Until(until) < 50*time.Minute {
		s.t.Errorf("until %v", client.Metadata(err))
	}
	bans := try(s.ada.Rooms.ListBans(s.ctx(), &free2talkv1.ListBansRequest{RoomId: s.room.GetId()})).must(s).GetBans()
	if len(bans) != 1 || bans[0].GetUser().GetId() != s.carID || bans[0].GetReason() != "too loud" {
		s.t.Fatalf("bans %v", bans)
	}
	try(s.ada.Rooms.LiftBan(s.ctx(), &free2talkv1.LiftBanRequest{RoomId: s.room.GetId(), UserId: s.carID})).must(s)
	s.done(s.sit(s.carol))
	s.people(s.adaID, s.adaID, s.bobID, s.carID)
}

func (s *story) edit() {
	now := s.seen().GetRoom()
	change := &free2talkv1.UpdateRoomRequest{
		Room: &free2talkv1.Room{Id: s.room.GetId(), Topic: "", Name: "Té con leche"}, Version: now.GetVersion(),
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"name", "topic"}},
	}
	edited := try(s.ada.Rooms.UpdateRoom(s.ctx(), change)).must(s).GetRoom()
	if edited.GetName() != "Té con leche" || edited.GetTopic() != "" || edited.GetVersion() != now.GetVersion()+1 || edited.GetSlug() != now.GetSlug() {
		s.t.Errorf("edited %v", edited)
	}
	_, err := s.ada.Rooms.UpdateRoom(s.ctx(), change)
	s.refused(err, connect.CodeAborted, client.ReasonVersionMismatch)
	_, err = s.ada.Rooms.UpdateRoom(s.ctx(), &free2talkv1.UpdateRoomRequest{Room: &free2talkv1.Room{Id: s.room.GetId(), Capacity: 2}})
	s.refused(err, connect.CodeFailedPrecondition, client.ReasonCapacityTaken)
	s.eventually(10*time.Second, "the write is read", func() bool { return s.seen().GetRoom().GetName() == "Té con leche" })
}

func (s *story) handOver() {
	to := &free2talkv1.TransferOwnershipRequest{RoomId: s.room.GetId(), UserId: s.carID}
	try(s.ada.Rooms.TransferOwnership(s.ctx(), to)).must(s)
	s.people(s.carID, s.adaID, s.bobID, s.carID)
	leave := &free2talkv1.LeaveRoomRequest{RoomId: s.room.GetId()}
	for range 2 {
		try(s.carol.Rooms.LeaveRoom(s.ctx(), leave)).must(s)
	}
	s.people(s.adaID, s.adaID, s.bobID)
	_, err := s.bob.Rooms.CloseRoom(s.ctx(), &free2talkv1.CloseRoomRequest{RoomId: s.room.GetId()})
	s.refused(err, connect.CodePermissionDenied, client.ReasonNotOwner)
	for range 2 {
		try(s.ada.Rooms.CloseRoom(s.ctx(), &free2talkv1.CloseRoomRequest{RoomId: s.room.GetId()})).must(s)
	}
	s.eventually(10*time.Second, "it is seen to be closed", func() bool {
		closed := s.seen()
		return closed.GetRoom().GetStatus() == free2talkv1.RoomStatus_ROOM_STATUS_CLOSED && len(closed.GetParticipants()) == 0 && closed.GetRoom().GetClosedAt() != nil
	})
	s.refused(s.sit(s.bob), connect.CodeFailedPrecondition, client.ReasonRoomClosed)
	s.eventually(10*time.Second, "a closed room is not listed", func() bool {
		page := try(s.dan.Rooms.ListRooms(s.ctx(), &free2talkv1.ListRoomsRequest{PageSize: 100})).must(s)
		return !s.holds(page.GetRooms())
	})
}

func (s *story) move() {
	open := func(c *client.Client, name string, capacity int32) string {
		return try(c.Rooms.CreateRoom(s.ctx(), &free2talkv1.CreateRoomRequest{Name: name, Languages: []string{"de"}, Capacity: capacity})).must(s).GetRoom().GetId()
	}
	from, to := open(s.ada, "From here", 3), open(s.bob, "To there", 2)
	_, err := s.ada.Rooms.JoinRoom(s.ctx(), &free2talkv1.JoinRoomRequest{RoomId: to})
	s.refused(err, connect.CodeFailedPrecondition, client.ReasonInAnotherRoom)
	if client.Metadata(err)["room_id"] != from {
		s.t.Errorf("metadata %v", client.Metadata(err))
	}
	try(s.ada.Rooms.JoinRoom(s.ctx(), &free2talkv1.JoinRoomRequest{RoomId: to, LeaveCurrent: true})).must(s)
	third := open(s.carol, "Third", 3)
	_, err = s.carol.Rooms.JoinRoom(s.ctx(), &free2talkv1.JoinRoomRequest{RoomId: to, LeaveCurrent: true})
	s.refused(err, connect.CodeFailedPrecondition, client.ReasonRoomFull)
	me := try(s.carol.Auth.GetMe(s.ctx(), &free2talkv1.GetMeRequest{})).must(s)
	if me.GetCurrentRoomId() != third || me.GetOwnedRoomId() != third {
		s.t.Errorf("carol lost her seat for nothing: %v", me)
	}
	s.eventually(10*time.Second, "the room that its last member left is closed", func() bool {
		left := try(s.dan.Rooms.GetRoom(s.ctx(), &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: from}})).must(s)
		return left.GetRoom().GetStatus() == free2talkv1.RoomStatus_ROOM_STATUS_CLOSED
	})
}

func (s *story) sessions() {
	before := try(s.phone.Tokens(s.ctx())).must(s)
	renewed := try(s.clientBy(s.node(), s.by).Auth.Refresh(s.ctx(), &free2talkv1.RefreshRequest{RefreshToken: before.Refresh})).must(s).GetTokens()
	if renewed.GetRefreshToken() == before.Refresh || renewed.GetSessionId() != before.SessionID {
		s.t.Fatal("not rotated")
	}
	try(s.ada.Auth.RevokeSession(s.ctx(), &free2talkv1.RevokeSessionRequest{SessionId: before.SessionID})).must(s)
	_, err := s.clientBy(s.node(), s.by).Auth.Refresh(s.ctx(), &free2talkv1.RefreshRequest{RefreshToken: renewed.GetRefreshToken()})
	s.refused(err, connect.CodeUnauthenticated, client.ReasonSessionRevoked)
	s.eventually(time.Second, "every node knows the revoked session", func() bool {
		for _, n := range s.nodes {
			c := s.clientBy(n, s.by, client.WithTokens(client.Tokens{Access: renewed.GetAccessToken()}))
			if _, err := c.Auth.GetMe(s.ctx(), &free2talkv1.GetMeRequest{}); client.Reason(err) != client.ReasonSessionRevoked {
				return false
			}
		}
		return true
	})
	s.done(s.dan.Logout(s.ctx()))
	_, err = s.dan.Auth.GetMe(s.ctx(), &free2talkv1.GetMeRequest{})
	s.refused(err, connect.CodeUnauthenticated, client.ReasonTokenMissing)
}

func (s *story) account() {
	other := s.clientBy(s.node(), s.by)
	try(other.Login(s.ctx(), "bob-"+s.by.name, password)).must(s)
	change := &free2talkv1.ChangePasswordRequest{CurrentPassword: password, NewPassword: "eight red kettles"}
	try(s.bob.Auth.ChangePassword(s.ctx(), change)).must(s)
	try(s.bob.Auth.GetMe(s.ctx(), &free2talkv1.GetMeRequest{})).must(s)
	tokens := try(other.Tokens(s.ctx())).must(s)
	_, err := s.clientBy(s.node(), s.by).Auth.Refresh(s.ctx(), &free2talkv1.RefreshRequest{RefreshToken: tokens.Refresh})
	s.refused(err, connect.CodeUnauthenticated, client.ReasonSessionRevoked)
	_, err = s.clientBy(s.node(), s.by).Login(s.ctx(), "bob-"+s.by.name, password)
	s.refused(err, connect.CodeUnauthenticated, client.ReasonBadCredentials)
	_, err = s.bob.Auth.DeleteAccount(s.ctx(), &free2talkv1.DeleteAccountRequest{Password: password})
	s.refused(err, connect.CodeUnauthenticated, client.ReasonBadCredentials)
	try(s.bob.Auth.DeleteAccount(s.ctx(), &free2talkv1.DeleteAccountRequest{Password: "eight red kettles"})).must(s)
	s.eventually(10*time.Second, "the account is gone", func() bool {
		_, err = s.ada.Users.GetUser(s.ctx(), &free2talkv1.GetUserRequest{Key: &free2talkv1.GetUserRequest_Id{Id: s.bobID}})
		return err != nil
	})
	s.refused(err, connect.CodeNotFound, client.ReasonUserNotFound)
	me := try(s.ada.Auth.GetMe(s.ctx(), &free2talkv1.GetMeRequest{})).must(s)
	if me.GetOwnedRoomId() == "" {
		s.t.Error("ada did not inherit bob's room")
	}
	try(s.clientBy(s.node(), s.by).Register(s.ctx(), "bob-"+s.by.name+"@example.org", "bob-"+s.by.name, password)).must(s)
}

func (s *story) speak() {
	me := try(s.ada.Auth.GetMe(s.ctx(), &free2talkv1.GetMeRequest{})).must(s)
	ctx, hangUp := context.WithCancel(s.ctx())
	defer hangUp()
	stream := try(s.ada.Rooms.WatchRoom(ctx, &free2talkv1.WatchRoomRequest{RoomId: me.GetOwnedRoomId()})).must(s)
	if first := try(stream.Receive()).must(s); first.GetSnapshot().GetRoom().GetId() != me.GetOwnedRoomId() {
		s.t.Fatalf("a room's stream begins with %v", first)
	}
	message := talk.NewID()
	for range 2 { // a repeat is not posted twice
		try(s.ada.Rooms.SendMessage(ctx, &free2talkv1.SendMessageRequest{RoomId: me.GetOwnedRoomId(), Text: "hello", MessageId: message})).must(s)
	}
	try(s.ada.Rooms.CloseRoom(ctx, &free2talkv1.CloseRoomRequest{RoomId: me.GetOwnedRoomId()})).must(s)
	var texts []string
	for {
		event, err := stream.Receive()
		if err != nil {
			break
		}
		if posted := event.GetMessagePosted(); posted != nil {
			texts = append(texts, posted.GetText())
		}
	}
	if !slices.Equal(texts, []string{"hello"}) {
		s.t.Errorf("heard %q", texts)
	}
	try(s.ada.Presence.CountOnline(s.ctx(), &free2talkv1.CountOnlineRequest{})).must(s)
	_, err := s.ada.Rooms.SendMessage(s.ctx(), &free2talkv1.SendMessageRequest{RoomId: s.room.GetId(), Text: "hello"})
	s.refused(err, connect.CodeFailedPrecondition, client.ReasonRoomClosed)
}

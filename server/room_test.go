package server_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

func TestRooms(t *testing.T) {
	t.Parallel()
	t.Run("are opened, shown by id and slug, and listed", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		ada := s.signUp("ada")
		room := ada.open("Tapas and talk")
		if room.GetOwner().GetUsername() != "ada" || room.GetParticipantCount() != 1 || room.GetVersion() != 1 ||
			room.GetLevel() != freev1.Level_LEVEL_ANY || room.GetCapacity() != 12 || room.GetStatus() != freev1.RoomStatus_ROOM_STATUS_OPEN {
			t.Errorf("room %v", room)
		}
		byID, err := s.rooms.GetRoom(t.Context(), &freev1.GetRoomRequest{Key: &freev1.GetRoomRequest_Id{Id: strings.ToUpper(room.GetId())}})
		if err != nil || byID.GetRoom().GetSlug() != room.GetSlug() || len(byID.GetParticipants()) != 1 {
			t.Errorf("by id: %v, %v", byID, err)
		}
		bySlug, err := s.rooms.GetRoom(t.Context(), &freev1.GetRoomRequest{Key: &freev1.GetRoomRequest_Slug{Slug: room.GetSlug()}})
		if err != nil || bySlug.GetParticipants()[0].GetRole() != freev1.ParticipantRole_PARTICIPANT_ROLE_OWNER {
			t.Errorf("by slug: %v, %v", bySlug, err)
		}
		list, err := s.rooms.ListRooms(t.Context(), &freev1.ListRoomsRequest{Language: "ES"})
		if err != nil || list.GetTotalSize() != 1 || list.GetRooms()[0].GetId() != room.GetId() {
			t.Errorf("list: %v, %v", list, err)
		}
		_, err = s.rooms.GetRoom(t.Context(), &freev1.GetRoomRequest{Key: &freev1.GetRoomRequest_Slug{Slug: "no-such"}})
		fails(t, err, connect.CodeNotFound, "ROOM_NOT_FOUND")
	})
	t.Run("are found by any tag of their language", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		_, err := s.rooms.CreateRoom(s.signUp("ada").ctx(), &freev1.CreateRoomRequest{Name: "Shalom", Languages: []string{"iw-IL"}})
		if err != nil {
			t.Fatal(err)
		}
		for tag, want := range map[string]int32{"iw": 1, "HE": 1, "he-il": 1, "iw-il": 1, "ar": 0} {
			list, err := s.rooms.ListRooms(t.Context(), &freev1.ListRoomsRequest{Language: tag})
			if err != nil || list.GetTotalSize() != want {
				t.Errorf("%s finds %d, %v", tag, list.GetTotalSize(), err)
			}
		}
	})
}

func TestSeats(t *testing.T) {
	t.Parallel()
	t.Run("are joined, left, and handed on", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		ada, bob := s.signUp("ada"), s.signUp("bob")
		room := ada.open("Tapas and talk")
		joined, err := s.rooms.JoinRoom(bob.ctx(), &freev1.JoinRoomRequest{RoomId: room.GetId()})
		if err != nil || len(joined.GetParticipants()) != 2 || joined.GetRoom().GetVersion() != 2 {
			t.Fatalf("joined %v, %v", joined, err)
		}
		again, err := s.rooms.JoinRoom(bob.ctx(), &freev1.JoinRoomRequest{RoomId: room.GetId()})
		if err != nil || again.GetRoom().GetVersion() != 2 {
			t.Errorf("again: %v, %v", again, err)
		}
		if _, err := s.rooms.LeaveRoom(ada.ctx(), &freev1.LeaveRoomRequest{RoomId: room.GetId()}); err != nil {
			t.Fatal(err)
		}
		list, err := s.rooms.ListParticipants(t.Context(), &freev1.ListParticipantsRequest{RoomId: room.GetId()})
		if err != nil || len(list.GetParticipants()) != 1 || list.GetVersion() != 4 ||
			list.GetParticipants()[0].GetRole() != freev1.ParticipantRole_PARTICIPANT_ROLE_OWNER {
			t.Errorf("participants %v, %v", list, err)
		}
	})
	t.Run("are left for another in one step", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		ada, bob, cyd := s.signUp("ada"), s.signUp("bob"), s.signUp("cyd")
		first, second := ada.open("First"), bob.open("Second")
		_, err := s.rooms.JoinRoom(cyd.ctx(), &freev1.JoinRoomRequest{RoomId: first.GetId()})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.rooms.JoinRoom(cyd.ctx(), &freev1.JoinRoomRequest{RoomId: second.GetId()})
		fails(t, err, connect.CodeFailedPrecondition, "IN_ANOTHER_ROOM")
		if _, err = s.rooms.JoinRoom(cyd.ctx(), &freev1.JoinRoomRequest{RoomId: second.GetId(), LeaveCurrent: true}); err != nil {
			t.Fatal(err)
		}
		me, err := s.auth.GetMe(cyd.ctx(), &freev1.GetMeRequest{})
		if err != nil || me.GetCurrentRoomId() != second.GetId() || me.GetOwnedRoomId() != "" {
			t.Errorf("me: %v, %v", me, err)
		}
	})
	t.Run("are closed, twice as once", func(t *testing.T) {
		t.Parallel()
		s := newSite(t)
		ada, bob := s.signUp("ada"), s.signUp("bob")
		room := ada.open("Short")
		_, err := s.rooms.CloseRoom(bob.ctx(), &freev1.CloseRoomRequest{RoomId: room.GetId()})
		fails(t, err, connect.CodePermissionDenied, "NOT_OWNER")
		for range 2 {
			if _, err := s.rooms.CloseRoom(ada.ctx(), &freev1.CloseRoomRequest{RoomId: room.GetId()}); err != nil {
				t.Fatal(err)
			}
		}
		_, err = s.rooms.JoinRoom(bob.ctx(), &freev1.JoinRoomRequest{RoomId: room.GetId()})
		fails(t, err, connect.CodeFailedPrecondition, "ROOM_CLOSED")
	})
}

func TestUpdateRoom(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada := s.signUp("ada")
	room := ada.open("Tapas and talk")
	update := func(r *freev1.Room, version int64, paths ...string) (*freev1.Room, error) {
		r.Id = room.GetId()
		res, err := s.rooms.UpdateRoom(ada.ctx(), &freev1.UpdateRoomRequest{
			Room: r, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}, Version: version,
		})
		return res.GetRoom(), err
	}
	got, err := update(&freev1.Room{Topic: "food", Level: freev1.Level_LEVEL_BEGINNER}, 1)
	if err != nil || got.GetTopic() != "food" || got.GetLevel() != freev1.Level_LEVEL_BEGINNER || got.GetName() != room.GetName() || got.GetVersion() != 2 {
		t.Errorf("what is set: %v, %v", got, err)
	}
	got, err = update(&freev1.Room{Name: "not looked at"}, 0, "topic", "level", "capacity")
	if err != nil || got.GetTopic() != "" || got.GetLevel() != freev1.Level_LEVEL_ANY || got.GetCapacity() != 12 || got.GetName() != room.GetName() {
		t.Errorf("what is named: %v, %v", got, err)
	}
	_, err = update(&freev1.Room{Topic: "late"}, 1)
	fails(t, err, connect.CodeAborted, "VERSION_MISMATCH")
	for _, path := range []string{"id", "slug", "owner", "version", "participant_count", "owner.id", "name.x", "*", "no_such"} {
		_, err = update(&freev1.Room{Name: "A new name"}, 0, path)
		fails(t, err, connect.CodeInvalidArgument, "")
	}
	_, err = update(&freev1.Room{}, 0, "name")
	fails(t, err, connect.CodeInvalidArgument, "")
	_, err = update(&freev1.Room{}, 0, "languages")
	fails(t, err, connect.CodeInvalidArgument, "")
}

func TestKickUser(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada, bob := s.signUp("ada"), s.signUp("bob")
	room := ada.open("Tapas and talk").GetId()
	kick := func(banFor *durationpb.Duration) {
		t.Helper()
		if _, err := s.rooms.JoinRoom(bob.ctx(), &freev1.JoinRoomRequest{RoomId: room}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.rooms.KickUser(ada.ctx(), &freev1.KickUserRequest{RoomId: room, UserId: bob.id, Reason: "loud", BanFor: banFor}); err != nil {
			t.Fatal(err)
		}
	}
	bans := func() []*freev1.Ban {
		t.Helper()
		res, err := s.rooms.ListBans(ada.ctx(), &freev1.ListBansRequest{RoomId: room})
		if err != nil {
			t.Fatal(err)
		}
		return res.GetBans()
	}
	kick(durationpb.New(0)) // keeps nobody out
	kick(nil)
	if b := bans(); len(b) != 1 || b[0].GetReason() != "loud" || b[0].GetUser().GetUsername() != "bob" ||
		!b[0].GetUntil().AsTime().Equal(s.clock.Now().Add(10*time.Minute)) {
		t.Errorf("bans %v", b)
	}
	_, err := s.rooms.JoinRoom(bob.ctx(), &freev1.JoinRoomRequest{RoomId: room})
	fails(t, err, connect.CodePermissionDenied, "KICKED")
	_, err = s.rooms.ListBans(bob.ctx(), &freev1.ListBansRequest{RoomId: room})
	fails(t, err, connect.CodePermissionDenied, "NOT_OWNER")
	if _, err := s.rooms.LiftBan(ada.ctx(), &freev1.LiftBanRequest{RoomId: room, UserId: bob.id}); err != nil {
		t.Fatal(err)
	}
	if b := bans(); len(b) != 0 {
		t.Errorf("bans %v", b)
	}
	kick(durationpb.New(time.Minute))
	s.clock.Add(time.Minute)
	kick(nil) // joins again
}

func TestTransferOwnership(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada, bob := s.signUp("ada"), s.signUp("bob")
	room := ada.open("Tapas and talk").GetId()
	_, err := s.rooms.TransferOwnership(ada.ctx(), &freev1.TransferOwnershipRequest{RoomId: room, UserId: bob.id})
	fails(t, err, connect.CodeFailedPrecondition, "NOT_IN_ROOM")
	if _, err := s.rooms.JoinRoom(bob.ctx(), &freev1.JoinRoomRequest{RoomId: room}); err != nil {
		t.Fatal(err)
	}
	res, err := s.rooms.TransferOwnership(ada.ctx(), &freev1.TransferOwnershipRequest{RoomId: room, UserId: bob.id})
	if err != nil || res.GetRoom().GetOwner().GetId() != bob.id {
		t.Errorf("%v, %v", res, err)
	}
}

// Checklist 53, over the wire.
func TestListRoomsPages(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, name := range []string{"ada", "bob", "cyd", "dan", "eve"} {
		s.signUp(name).open("Room of " + name)
	}
	list := func(req *freev1.ListRoomsRequest) *freev1.ListRoomsResponse {
		t.Helper()
		res, err := s.rooms.ListRooms(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	for _, order := range []freev1.OrderBy{freev1.OrderBy_ORDER_BY_POPULAR, freev1.OrderBy_ORDER_BY_NEWEST} {
		var seen []string
		req := &freev1.ListRoomsRequest{PageSize: 2, OrderBy: order}
		for pages := 0; pages == 0 || req.GetPageToken() != ""; pages++ {
			page := list(req)
			for _, room := range page.GetRooms() {
				seen = append(seen, room.GetOwner().GetUsername())
			}
			if page.GetTotalSize() != 5 || pages > 3 {
				t.Fatalf("page %d: %v", pages, page)
			}
			req.PageToken = page.GetNextPageToken()
		}
		if !slices.Equal(seen, []string{"eve", "dan", "cyd", "bob", "ada"}) {
			t.Errorf("%v: %v", order, seen)
		}
	}
	token := list(&freev1.ListRoomsRequest{PageSize: 2}).GetNextPageToken()
	for name, req := range map[string]*freev1.ListRoomsRequest{
		"random":         {PageToken: "cmFuZG9t"},
		"not base64":     {PageToken: "!!!"},
		"cut":            {PageToken: token[:len(token)-1]},
		"another filter": {PageToken: token, Language: "es"},
		"another order":  {PageToken: token, OrderBy: freev1.OrderBy_ORDER_BY_NEWEST},
	} {
		_, err := s.rooms.ListRooms(t.Context(), req)
		t.Run(name, func(t *testing.T) { fails(t, err, connect.CodeInvalidArgument, "BAD_PAGE_TOKEN") })
	}
	_, err := s.rooms.ListRooms(t.Context(), &freev1.ListRoomsRequest{PageSize: -1})
	fails(t, err, connect.CodeInvalidArgument, "")
}

func TestSendMessage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada, bob := s.signUp("ada"), s.signUp("bob")
	room := ada.open("Tapas and talk").GetId()
	res, err := s.rooms.SendMessage(ada.ctx(), &freev1.SendMessageRequest{RoomId: room, Text: "hi"})
	if err != nil || res.GetMessageId() == "" {
		t.Errorf("%v, %v", res, err)
	}
	for range 2 {
		again, err := s.rooms.SendMessage(ada.ctx(), &freev1.SendMessageRequest{RoomId: room, Text: "hi", MessageId: res.GetMessageId()})
		if err != nil || again.GetMessageId() != res.GetMessageId() {
			t.Errorf("again: %v, %v", again, err)
		}
	}
	_, err = s.rooms.SendMessage(bob.ctx(), &freev1.SendMessageRequest{RoomId: room, Text: "hi"})
	fails(t, err, connect.CodeFailedPrecondition, "NOT_IN_ROOM")
}

package server_test

import (
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

func TestUsers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada, bob := s.signUp("Ada"), s.signUp("bob")
	t.Run("are shown by id and by name in any case, without presence for now", func(t *testing.T) {
		t.Parallel()
		for _, req := range []*freev1.GetUserRequest{
			{Key: &freev1.GetUserRequest_Id{Id: ada.id}},
			{Key: &freev1.GetUserRequest_Id{Id: strings.ToUpper(ada.id)}},
			{Key: &freev1.GetUserRequest_Username{Username: "aDa"}},
		} {
			res, err := s.users.GetUser(t.Context(), req)
			if err != nil || res.GetUser().GetUsername() != "Ada" || res.GetUser().GetRole() != freev1.Role_ROLE_USER || res.GetPresence() != nil {
				t.Errorf("%v: %v, %v", req, res, err)
			}
		}
		_, err := s.users.GetUser(t.Context(), &freev1.GetUserRequest{Key: &freev1.GetUserRequest_Username{Username: "nobody-here"}})
		fails(t, err, connect.CodeNotFound, "USER_NOT_FOUND")
	})
	t.Run("are shown many at once, without those who are not there", func(t *testing.T) {
		t.Parallel()
		nobody := "0199b1f0-7c00-7000-8000-0123456789ab"
		res, err := s.users.BatchGetUsers(t.Context(), &freev1.BatchGetUsersRequest{Ids: []string{bob.id, nobody, strings.ToUpper(ada.id)}})
		if err != nil || len(res.GetUsers()) != 2 || res.GetUsers()[0].GetId() != bob.id || res.GetUsers()[1].GetId() != ada.id {
			t.Errorf("%v, %v", res, err)
		}
	})
}

func TestUpdateProfile(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	ada := s.signUp("ada")
	room := ada.open("Tapas and talk")
	update := func(u *freev1.User, paths ...string) (*freev1.User, error) {
		res, err := s.users.UpdateProfile(ada.ctx(), &freev1.UpdateProfileRequest{Profile: u, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}})
		return res.GetUser(), err
	}
	got, err := update(&freev1.User{DisplayName: "Countess", NativeLanguages: []string{"EN"}, Role: freev1.Role_ROLE_ADMIN, Username: "other"})
	if err != nil || got.GetDisplayName() != "Countess" || got.GetNativeLanguages()[0] != "en" ||
		got.GetRole() != freev1.Role_ROLE_USER || got.GetUsername() != "ada" {
		t.Errorf("what is set: %v, %v", got, err)
	}
	seen, err := s.rooms.GetRoom(t.Context(), &freev1.GetRoomRequest{Key: &freev1.GetRoomRequest_Id{Id: room.GetId()}})
	if err != nil || seen.GetRoom().GetOwner().GetDisplayName() != "Countess" || seen.GetParticipants()[0].GetUser().GetDisplayName() != "Countess" {
		t.Errorf("the room shows %v, %v", seen, err)
	}
	got, err = update(&freev1.User{Bio: "not looked at"}, "display_name", "native_languages")
	if err != nil || got.GetDisplayName() != "ada" || len(got.GetNativeLanguages()) != 0 || got.GetBio() != "" {
		t.Errorf("what is named: %v, %v", got, err)
	}
	for _, path := range []string{"id", "username", "role", "created_at", "display_name.x", "email"} {
		_, err = update(&freev1.User{DisplayName: "x"}, path)
		fails(t, err, connect.CodeInvalidArgument, "")
	}
}

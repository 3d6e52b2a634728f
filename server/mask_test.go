package server

import (
	"errors"
	"reflect"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

func TestRoomEdit(t *testing.T) {
	t.Parallel()
	all := &freev1.Room{
		Id: "0199b1f0-7c00-7000-8000-0123456789ab", Slug: "s", Name: "Den", Topic: "tapas", Languages: []string{"es"},
		Level: freev1.Level_LEVEL_ADVANCED, Capacity: 4, ParticipantCount: 9, Owner: &freev1.UserSummary{Id: "x"}, Version: 99,
	}
	for _, c := range []struct {
		name  string
		room  *freev1.Room
		paths []string
		want  talk.RoomEdit
	}{
		{"an empty mask takes what is set and may be changed", all, nil, talk.RoomEdit{
			Name: new("Den"), Topic: new("tapas"), Languages: new([]string{"es"}), Level: new(talk.LevelAdvanced), Capacity: new(4),
		}},
		{"an empty mask leaves what is not set", &freev1.Room{Topic: "x"}, nil, talk.RoomEdit{Topic: new("x")}},
		{"what is named and set", all, []string{"topic"}, talk.RoomEdit{Topic: new("tapas")}},
		{"what is named and not set goes on as zero", &freev1.Room{}, []string{"name", "topic", "languages", "level", "capacity"}, talk.RoomEdit{
			Name: new(""), Topic: new(""), Languages: new([]string(nil)), Level: new(talk.Level(0)), Capacity: new(0),
		}},
		{"what is set and not named is left", all, []string{"name"}, talk.RoomEdit{Name: new("Den")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := roomEdit(&freev1.UpdateRoomRequest{Room: c.room, UpdateMask: &fieldmaskpb.FieldMask{Paths: c.paths}, Version: 5})
			c.want.Version = 5
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestProfileEdit(t *testing.T) {
	t.Parallel()
	me := &freev1.User{
		Username: "ada", DisplayName: "Ada", AvatarUrl: "https://a", Bio: "b", Country: "MX",
		NativeLanguages: []string{"es"}, LearningLanguages: []string{"en"}, Role: freev1.Role_ROLE_ADMIN,
	}
	want := talk.ProfileEdit{
		DisplayName: new("Ada"), AvatarURL: new("https://a"), Bio: new("b"), Country: new("MX"),
		NativeLanguages: new([]string{"es"}), LearningLanguages: new([]string{"en"}),
	}
	if got, err := profileEdit(&freev1.UpdateProfileRequest{Profile: me}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	got, err := profileEdit(&freev1.UpdateProfileRequest{Profile: me, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"bio", "country"}}})
	if want := (talk.ProfileEdit{Bio: new("b"), Country: new("MX")}); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
}

// Whatever a message has that is not the client's to change is refused by
// name, and so is what it does not have.
func TestMaskRefuses(t *testing.T) {
	t.Parallel()
	room := func(m *fieldmaskpb.FieldMask) error {
		_, err := roomEdit(&freev1.UpdateRoomRequest{Room: &freev1.Room{}, UpdateMask: m})
		return err
	}
	profile := func(m *fieldmaskpb.FieldMask) error {
		_, err := profileEdit(&freev1.UpdateProfileRequest{Profile: &freev1.User{}, UpdateMask: m})
		return err
	}
	for _, c := range []struct {
		message  proto.Message
		edit     func(*fieldmaskpb.FieldMask) error
		editable []string
	}{
		{&freev1.Room{}, room, []string{"name", "topic", "languages", "level", "capacity"}},
		{&freev1.User{}, profile, []string{"display_name", "avatar_url", "bio", "native_languages", "learning_languages", "country"}},
	} {
		fields := c.message.ProtoReflect().Descriptor().Fields()
		for i := range fields.Len() {
			path := string(fields.Get(i).Name())
			err := c.edit(&fieldmaskpb.FieldMask{Paths: []string{path}})
			if may := slices.Contains(c.editable, path); may != (err == nil) {
				t.Errorf("%s: %v", path, err)
			}
		}
		for _, paths := range [][]string{
			{"*"}, {""}, {"nothing"}, {"Name"}, {"displayName"}, {"owner.id"}, {"name.x"}, {"languages.0"}, {"name "},
			{c.editable[0], c.editable[0]}, {c.editable[0], "id"}, {c.editable[0], c.editable[0] + ".x"},
		} {
			var input *talk.InvalidInput
			if err := c.edit(&fieldmaskpb.FieldMask{Paths: paths}); !errors.As(err, &input) || input.Field != "update_mask" {
				t.Errorf("%q: %v", paths, err)
			}
		}
	}
}

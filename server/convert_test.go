package server

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// Levels and roles go by number: the numbers must mean the same.
func TestNumbersAgree(t *testing.T) {
	t.Parallel()
	levels := map[talk.Level]freev1.Level{
		talk.LevelAny:               freev1.Level_LEVEL_ANY,
		talk.LevelBeginner:          freev1.Level_LEVEL_BEGINNER,
		talk.LevelUpperBeginner:     freev1.Level_LEVEL_UPPER_BEGINNER,
		talk.LevelIntermediate:      freev1.Level_LEVEL_INTERMEDIATE,
		talk.LevelUpperIntermediate: freev1.Level_LEVEL_UPPER_INTERMEDIATE,
		talk.LevelAdvanced:          freev1.Level_LEVEL_ADVANCED,
		talk.LevelUpperAdvanced:     freev1.Level_LEVEL_UPPER_ADVANCED,
	}
	for ours, wire := range levels {
		if int(ours) != int(wire) {
			t.Errorf("%v is %d here and %d there", wire, ours, wire)
		}
	}
	if len(levels) != len(freev1.Level_name)-1 {
		t.Errorf("%d levels of %d are looked at", len(levels), len(freev1.Level_name)-1)
	}
	if freev1.Role_ROLE_USER != freev1.Role(talk.RoleUser) || freev1.Role_ROLE_ADMIN != freev1.Role(talk.RoleAdmin) || len(freev1.Role_name) != 3 {
		t.Error("the roles disagree")
	}
	if len(orderOf) != len(freev1.OrderBy_name) || len(wireState) != len(freev1.ParticipantState_name)-1 {
		t.Error("an order or a state is not converted")
	}
}

func TestConversions(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
	t.Run("an open room has no end, a closed one has", func(t *testing.T) {
		t.Parallel()
		open, closed := wireRoom(talk.Room{CreatedAt: at}), wireRoom(talk.Room{ClosedAt: at})
		if open.GetStatus() != freev1.RoomStatus_ROOM_STATUS_OPEN || open.GetClosedAt() != nil {
			t.Errorf("open: %v", open)
		}
		if closed.GetStatus() != freev1.RoomStatus_ROOM_STATUS_CLOSED || !closed.GetClosedAt().AsTime().Equal(at) {
			t.Errorf("closed: %v", closed)
		}
	})
	t.Run("seats say who owns the room and who can be heard", func(t *testing.T) {
		t.Parallel()
		owner := wireParticipant(talk.Participant{Owner: true, State: talk.Connected, JoinedAt: at})
		member := wireParticipant(talk.Participant{State: talk.Reconnecting})
		if owner.GetRole() != freev1.ParticipantRole_PARTICIPANT_ROLE_OWNER || owner.GetState() != freev1.ParticipantState_PARTICIPANT_STATE_CONNECTED {
			t.Errorf("owner: %v", owner)
		}
		if member.GetRole() != freev1.ParticipantRole_PARTICIPANT_ROLE_MEMBER || member.GetState() != freev1.ParticipantState_PARTICIPANT_STATE_RECONNECTING {
			t.Errorf("member: %v", member)
		}
	})
	t.Run("times that have not come are left out, both ways", func(t *testing.T) {
		t.Parallel()
		if wireTime(time.Time{}) != nil || !wireTime(at).AsTime().Equal(at) {
			t.Error("they are not")
		}
	})
	t.Run("an id has one spelling", func(t *testing.T) {
		t.Parallel()
		const upper = "0199B1F0-7C00-7000-8000-0123456789AB"
		if got := id[talk.RoomID](upper); got != talk.RoomID(strings.ToLower(upper)) {
			t.Error(got)
		}
	})
	t.Run("a ban of no length is none, one that is not said ten minutes", func(t *testing.T) {
		t.Parallel()
		for said, want := range map[*durationpb.Duration]time.Duration{
			nil: 10 * time.Minute, durationpb.New(0): 0, durationpb.New(time.Hour): time.Hour,
		} {
			if got := banFor(said); got != want {
				t.Errorf("%v gives %v", said, got)
			}
		}
	})
	t.Run("the caller's session is marked, with the earlier of its ends", func(t *testing.T) {
		t.Parallel()
		convert := wireSession(talk.Caller{SessionID: "mine"})
		mine := convert(talk.Session{ID: "mine", IdleExpiresAt: at.Add(time.Hour), AbsoluteExpiresAt: at, IP: "::1", UserAgent: "x"})
		other := convert(talk.Session{ID: "other"})
		if !mine.GetCurrent() || other.GetCurrent() || !mine.GetExpiresAt().AsTime().Equal(at) {
			t.Errorf("%v, %v", mine, other)
		}
	})
	t.Run("all of a filter goes into the query, unsaid order is the popular", func(t *testing.T) {
		t.Parallel()
		got, err := roomQuery(&freev1.ListRoomsRequest{
			Language: "pt-BR", Level: freev1.Level_LEVEL_BEGINNER, Query: "Tapas", PageSize: 7,
		})
		want := talk.RoomQuery{Language: "pt-br", Level: talk.LevelBeginner, Text: "Tapas", Order: talk.Popular, Size: 7}
		if err != nil || got != want {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

// Checklist 50: no message that others than its owner see has a field for an
// e-mail address, however deep. Account has one, and only the RPCs that answer
// the caller about themselves return it.
func TestEmailIsNobodyElsesBusiness(t *testing.T) {
	t.Parallel()
	own := map[protoreflect.FullName]bool{
		"free2talk.v1.AuthService.Register": true,
		"free2talk.v1.AuthService.Login":    true,
		"free2talk.v1.AuthService.GetMe":    true,

		"free2talk.admin.v1.AdminService.ListUsers": true,
	}
	walked := 0
	for _, file := range []protoreflect.FileDescriptor{
		freev1.File_free2talk_v1_auth_service_proto, freev1.File_free2talk_v1_user_service_proto,
		freev1.File_free2talk_v1_room_service_proto, freev1.File_free2talk_v1_presence_service_proto,
		adminv1.File_free2talk_admin_v1_admin_service_proto,
	} {
		services := file.Services()
		for i := range services.Len() {
			methods := services.Get(i).Methods()
			for j := range methods.Len() {
				m := methods.Get(j)
				walked++
				path := emailIn(m.Output(), map[protoreflect.FullName]bool{})
				if want := own[m.FullName()]; want != (path != "") {
					t.Errorf("%s: e-mail at %q, may have one: %v", m.FullName(), path, want)
				}
			}
		}
	}
	if walked < 30 {
		t.Errorf("only %d RPCs were walked", walked)
	}
}

// emailIn is the path of a field named like an e-mail address, or "".
func emailIn(m protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) string {
	if seen[m.FullName()] {
		return ""
	}
	seen[m.FullName()] = true
	fields := m.Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		name := string(f.Name())
		if strings.Contains(name, "email") || strings.Contains(name, "e_mail") {
			return name
		}
		if f.Message() != nil {
			if path := emailIn(f.Message(), seen); path != "" {
				return name + "." + path
			}
		}
	}
	return ""
}

// The same, of values: an account that is shown to others carries no address.
func TestEmailIsNotConverted(t *testing.T) {
	t.Parallel()
	const address = "ada@example.com"
	account := talk.Account{User: talk.User{ID: "u", Username: "ada"}, Email: address}
	for _, m := range []proto.Message{wireUser(account.User), wireSummary(account.Summary())} {
		if b, _ := proto.Marshal(m); strings.Contains(string(b), address) {
			t.Errorf("%T carries it", m)
		}
	}
	if wireAccount(account).GetEmail() != address {
		t.Error("its owner does not see it")
	}
}

package proto_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// files are the package's, in the order in which they build on each other.
var files = []protoreflect.FileDescriptor{
	freev1.File_free2talk_v1_policy_proto, freev1.File_free2talk_v1_rules_proto, freev1.File_free2talk_v1_error_proto,
	freev1.File_free2talk_v1_user_proto, freev1.File_free2talk_v1_session_proto, freev1.File_free2talk_v1_room_proto,
	freev1.File_free2talk_v1_presence_proto, freev1.File_free2talk_v1_event_proto,
	freev1.File_free2talk_v1_auth_service_proto, freev1.File_free2talk_v1_user_service_proto,
	freev1.File_free2talk_v1_room_service_proto, freev1.File_free2talk_v1_presence_service_proto,
}

// rpcs is every RPC that clients outside this repository are written against:
// its name, who may call it (public, user), whether it may be called by GET
// (get), repeated without harm (again) or streams (stream), and every limit
// that it counts against besides api; then what it takes and returns.
const rpcs = `
AuthService.Register          public auth          | email username password display_name cookie | account tokens
AuthService.Login             public auth          | email username password cookie | account tokens
AuthService.Refresh           public               | refresh_token | tokens
AuthService.Logout            user again           | |
AuthService.LogoutAll         user                 | | revoked_sessions
AuthService.ListSessions      user get             | | sessions[]
AuthService.RevokeSession     user again           | session_id |
AuthService.GetMe             user get             | | account current_room_id owned_room_id
AuthService.ChangePassword    user strict          | current_password new_password | tokens
AuthService.DeleteAccount     user strict          | password |
UserService.GetUser           public get           | id username | user presence
UserService.BatchGetUsers     public get           | ids[] | users[]
UserService.UpdateProfile     user again           | profile update_mask | user
RoomService.ListRooms         public get           | language level query order_by page_size page_token | rooms[] next_page_token total_size
RoomService.GetRoom           public get           | id slug | room participants[]
RoomService.ListParticipants  public get           | room_id | participants[] version
RoomService.CreateRoom        user room_create     | name topic languages[] level capacity | room
RoomService.UpdateRoom        user                 | room update_mask version | room
RoomService.CloseRoom         user again           | room_id |
RoomService.JoinRoom          user again           | room_id leave_current | room participants[]
RoomService.LeaveRoom         user again           | room_id |
RoomService.KickUser          user                 | room_id user_id reason ban_for |
RoomService.LiftBan           user again           | room_id user_id |
RoomService.ListBans          user get             | room_id | bans[]
RoomService.TransferOwnership user                 | room_id user_id | room
RoomService.SendMessage       user message         | room_id text message_id | message_id
RoomService.WatchRoom         user stream          | room_id cursor | cursor time snapshot resumed heartbeat go_away participant_joined participant_left participant_updated owner_changed room_updated room_closed message_posted
RoomService.WatchRooms        public stream        | language level cursor | cursor time snapshot resumed heartbeat go_away room_created room_updated room_closed
PresenceService.Connect       user stream          | cursor | cursor time snapshot resumed heartbeat go_away participant_joined participant_left participant_updated owner_changed room_updated room_closed message_posted kicked session_revoked
PresenceService.GetPresence   user get             | user_ids[] | presences[]
PresenceService.ListOnlineUsers user get           | page_size page_token | users[] next_page_token
PresenceService.CountOnline   public get           | | count
PresenceService.WatchPresence user stream          | user_ids[] | cursor time snapshot heartbeat go_away presence_changed
`

// messages is every other message that those clients know, with its fields.
const messages = `
User               id username display_name avatar_url bio native_languages[] learning_languages[] country role created_at updated_at
UserSummary        id username display_name avatar_url
Account            user email
Tokens             access_token access_expires_at refresh_token refresh_expires_at session_id
Session            id created_at last_used_at expires_at user_agent ip current
Room               id slug name topic languages[] level capacity participant_count owner status version created_at updated_at closed_at
Participant        user role state joined_at
Presence           user_id online last_seen_at room_id stale
Ban                user until reason
RoomSnapshot       reason room participants[]
PersonalSnapshot   reason presence room participants[]
LobbySnapshot      reason rooms[] last
PresenceSnapshot   reason presences[]
Resumed            replayed
Heartbeat
GoAway             reconnect_after
ParticipantJoined  room_id participant room_version
ParticipantLeft    room_id user_id reason room_version
ParticipantUpdated room_id participant room_version
OwnerChanged       room_id user_id previous_user_id room_version
RoomCreated        room
RoomUpdated        room
RoomClosed         room_id reason room_version
MessagePosted      message_id room_id sender text
PresenceChanged    presence
Kicked             room_id reason until
SessionRevoked     session_id reason
`

// enums is every enum with its values, without the prefix that each has, and
// without the zero value …_UNSPECIFIED.
const enums = `
Role             USER ADMIN
RoomStatus       OPEN CLOSED
ParticipantRole  OWNER MEMBER
ParticipantState CONNECTED RECONNECTING
Level            ANY BEGINNER UPPER_BEGINNER INTERMEDIATE UPPER_INTERMEDIATE ADVANCED UPPER_ADVANCED
OrderBy          POPULAR NEWEST
SnapshotReason   STARTED CURSOR_TOO_OLD HISTORY_LOST FELL_BEHIND HEALED ROOM_CHANGED
LeaveReason      LEFT KICKED DISCONNECTED ROOM_CLOSED BANNED
CloseReason      BY_OWNER EMPTY BY_ADMIN
RevokeReason     LOGOUT REUSE PASSWORD BANNED ADMIN LIMIT
Access           PUBLIC USER ADMIN
Reason           TOKEN_MISSING TOKEN_EXPIRED TOKEN_INVALID SESSION_REVOKED REFRESH_INVALID REFRESH_REUSED BAD_CREDENTIALS BANNED EMAIL_TAKEN USERNAME_TAKEN PASSWORD_WEAK USERNAME_RESERVED SELF CROSS_SITE BODY_TOO_LARGE USER_NOT_FOUND ROOM_NOT_FOUND SESSION_NOT_FOUND NOT_OWNER NOT_ADMIN KICKED ROOM_FULL ROOM_CLOSED NOT_IN_ROOM IN_ANOTHER_ROOM OWNS_A_ROOM VERSION_MISMATCH CAPACITY_TAKEN RATE_LIMITED SLOW_CONSUMER TOO_MANY_STREAMS BUSY DATABASE_UNAVAILABLE BAD_PAGE_TOKEN BAD_CURSOR
`

func TestContract(t *testing.T) {
	t.Parallel()
	t.Run("has the promised RPCs, each with its policy, and no others", func(t *testing.T) {
		t.Parallel()
		var got []string
		for _, method := range methods() {
			got = append(got, fmt.Sprintf("%s.%s %s | %s | %s", method.Parent().Name(), method.Name(),
				promises(method), fields(method.Input()), fields(method.Output())))
		}
		compare(t, rpcs, got)
	})
	t.Run("has the promised messages and fields", func(t *testing.T) {
		t.Parallel()
		var got []string
		for _, message := range allMessages() {
			if name := string(message.Name()); !isEnvelope(name) && name != "Policy" {
				got = append(got, name+" "+fields(message))
			}
		}
		compare(t, messages, got)
	})
	t.Run("has the promised enums and values", func(t *testing.T) {
		t.Parallel()
		var got []string
		for _, file := range files {
			for i := range file.Enums().Len() {
				got = append(got, values(t, file.Enums().Get(i)))
			}
		}
		compare(t, enums, got)
	})
}

// promises is what method's options say, as in rpcs.
func promises(method protoreflect.MethodDescriptor) string {
	options, _ := method.Options().(*descriptorpb.MethodOptions)
	policy := policyOf(method)
	words := []string{strings.ToLower(strings.TrimPrefix(policy.GetAccess().String(), "ACCESS_"))}
	switch options.GetIdempotencyLevel() {
	case descriptorpb.MethodOptions_NO_SIDE_EFFECTS:
		words = append(words, "get")
	case descriptorpb.MethodOptions_IDEMPOTENT:
		words = append(words, "again")
	}
	if method.IsStreamingServer() {
		words = append(words, "stream")
	}
	return strings.Join(append(words, slices.DeleteFunc(slices.Clone(policy.GetLimits()), func(l string) bool { return l == "api" })...), " ")
}

func policyOf(method protoreflect.MethodDescriptor) *freev1.Policy {
	policy, _ := proto.GetExtension(method.Options(), freev1.E_Policy).(*freev1.Policy)
	return policy
}

// fields are the names of message's, in order, lists with brackets.
func fields(message protoreflect.MessageDescriptor) string {
	var names []string
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		name := string(field.Name())
		if field.IsList() {
			name += "[]"
		}
		names = append(names, name)
	}
	return strings.Join(names, " ")
}

// values are the enum's, as in enums. That the first is …_UNSPECIFIED and all
// have the prefix is checked on the way.
func values(t *testing.T, enum protoreflect.EnumDescriptor) string {
	t.Helper()
	prefix := strings.ToUpper(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(string(enum.Name()), "${1}_$2")) + "_"
	words := []string{string(enum.Name())}
	for i := range enum.Values().Len() {
		value := enum.Values().Get(i)
		word, ok := strings.CutPrefix(string(value.Name()), prefix)
		if !ok || (value.Number() == 0) != (word == "UNSPECIFIED") {
			t.Errorf("%s = %d is not named as it should be", value.FullName(), value.Number())
		}
		if value.Number() != 0 {
			words = append(words, word)
		}
	}
	return strings.Join(words, " ")
}

// compare reports which lines are in one only, whatever their order.
func compare(t *testing.T, want string, got []string) {
	t.Helper()
	tidy := func(lines []string) (tidied []string) {
		for _, line := range lines {
			if words := strings.Fields(line); len(words) > 0 {
				tidied = append(tidied, strings.Join(words, " "))
			}
		}
		return tidied
	}
	wanted, have := tidy(strings.Split(want, "\n")), tidy(got)
	for _, line := range wanted {
		if !slices.Contains(have, line) {
			t.Errorf("the schema lacks: %s", line)
		}
	}
	for _, line := range have {
		if !slices.Contains(wanted, line) {
			t.Errorf("nobody promised: %s", line)
		}
	}
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	known := []string{"api", "auth", "strict", "room_create", "message"}
	for _, method := range methods() {
		policy := policyOf(method)
		if policy.GetAccess() == freev1.Access_ACCESS_UNSPECIFIED || policy.GetCost() < 1 {
			t.Errorf("%s does not say who may call it, or at what cost", method.FullName())
		}
		// A classroom signs in, and stays so, behind one address: see docs/decisions/0008.
		byAddress := method.Name() == "Login" || method.Name() == "Refresh"
		if slices.Contains(policy.GetLimits(), "api") == byAddress {
			t.Errorf("%s: counts against api: %v", method.FullName(), !byAddress)
		}
		for i, limit := range policy.GetLimits() {
			if !slices.Contains(known, limit) || slices.Contains(policy.GetLimits()[:i], limit) {
				t.Errorf("%s names the limit %q, which is none, or twice", method.FullName(), limit)
			}
		}
	}
	t.Run("says who else may end or prolong a session", func(t *testing.T) {
		t.Parallel()
		want := map[string]string{"Register": "ignores", "Login": "ignores", "Refresh": "ignores cookie", "Logout": "cookie revoked"}
		for _, method := range methods() {
			if got := exceptions(policyOf(method)); got != want[string(method.Name())] {
				t.Errorf("%s: %q, want %q", method.Name(), got, want[string(method.Name())])
			}
		}
	})
}

func exceptions(policy *freev1.Policy) string {
	var words []string
	if policy.GetIgnoresToken() {
		words = append(words, "ignores")
	}
	if policy.GetAcceptsCookie() {
		words = append(words, "cookie")
	}
	if policy.GetAcceptsRevoked() {
		words = append(words, "revoked")
	}
	return strings.Join(words, " ")
}

func TestFields(t *testing.T) {
	t.Parallel()
	secret := regexp.MustCompile(`^((current_|new_)?password|(access|refresh)_token)$`)
	moment := regexp.MustCompile(`(_at|^time|^until)$`)
	version := regexp.MustCompile(`(^|_)version$`)
	for _, field := range allFields() {
		name := string(field.Name())
		if options, _ := field.Options().(*descriptorpb.FieldOptions); options.GetDebugRedact() != secret.MatchString(name) {
			t.Errorf("%s: a secret is redacted, and nothing else", field.FullName())
		}
		if moment.MatchString(name) && (field.Message() == nil || field.Message().FullName() != "google.protobuf.Timestamp") {
			t.Errorf("%s is no Timestamp", field.FullName())
		}
		if field.Kind() == protoreflect.Int64Kind != version.MatchString(name) {
			t.Errorf("%s: versions are int64, counts int32", field.FullName())
		}
	}
}

// TestEvents is what lets a server encode an event once for all streams that
// carry it.
func TestEvents(t *testing.T) {
	t.Parallel()
	type place struct {
		name    protoreflect.Name
		message protoreflect.FullName
	}
	byNumber, byName := map[protoreflect.FieldNumber]place{}, map[protoreflect.Name]protoreflect.FieldNumber{}
	for _, method := range methods() {
		if !method.IsStreamingServer() {
			continue
		}
		events := method.Output().Oneofs().ByName("event").Fields()
		for i := range events.Len() {
			event := events.Get(i)
			here := place{event.Name(), event.Message().FullName()}
			if event.Name() == "snapshot" {
				here.message = "" // each stream has its own
			}
			if before, ok := byNumber[event.Number()]; ok && before != here {
				t.Errorf("%s: number %d is %v elsewhere", event.FullName(), event.Number(), before)
			}
			if before, ok := byName[event.Name()]; ok && before != event.Number() {
				t.Errorf("%s has the number %d elsewhere", event.FullName(), before)
			}
			byNumber[event.Number()], byName[event.Name()] = here, event.Number()
		}
	}
}

// TestPrivacy is checklist 50: the e-mail address is in no message but those
// of the caller's own account.
func TestPrivacy(t *testing.T) {
	t.Parallel()
	own := []protoreflect.FullName{
		"free2talk.v1.Account.email", "free2talk.v1.RegisterRequest.email", "free2talk.v1.LoginRequest.email",
	}
	for _, field := range allFields() {
		if strings.Contains(string(field.Name()), "email") && !slices.Contains(own, field.FullName()) {
			t.Errorf("%s shows an e-mail address", field.FullName())
		}
		holder, name := string(field.Parent().Name()), string(field.Name())
		if kind := field.Message(); kind != nil && kind.Name() == "Account" && name != "account" {
			t.Errorf("%s shows an account", field.FullName())
		} else if name == "account" && !slices.Contains([]string{"RegisterResponse", "LoginResponse", "GetMeResponse"}, holder) {
			t.Errorf("%s shows an account", field.FullName())
		}
	}
}

func isEnvelope(name string) bool {
	return strings.HasSuffix(name, "Request") || strings.HasSuffix(name, "Response")
}

func methods() []protoreflect.MethodDescriptor {
	var all []protoreflect.MethodDescriptor
	for _, file := range files {
		for i := range file.Services().Len() {
			for j := range file.Services().Get(i).Methods().Len() {
				all = append(all, file.Services().Get(i).Methods().Get(j))
			}
		}
	}
	return all
}

func allMessages() []protoreflect.MessageDescriptor {
	var all []protoreflect.MessageDescriptor
	for _, file := range files {
		for i := range file.Messages().Len() {
			all = append(all, file.Messages().Get(i))
		}
	}
	return all
}

func allFields() []protoreflect.FieldDescriptor {
	var all []protoreflect.FieldDescriptor
	for _, message := range allMessages() {
		for i := range message.Fields().Len() {
			all = append(all, message.Fields().Get(i))
		}
	}
	return all
}

package proto_test

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

const anID = "0198c5a2-7b1e-7c3d-9f00-0123456789ab"

// samples is a good value of each string field that a request may hold.
var samples = map[protoreflect.Name]string{
	"id": anID, "room_id": anID, "user_id": anID, "message_id": anID, "session_id": anID, "ids": anID, "user_ids": anID,
	"email": "ada@example.org", "username": "ada_lovelace", "display_name": "Ada Lovelace",
	"password": "correct horse", "current_password": "correct horse", "new_password": "battery staple",
	"refresh_token": "1.abc.2.def", "page_token": "AbCd-_", "cursor": "AbCd-_",
	"avatar_url": "https://example.org/ada.png", "bio": "I count.", "country": "GB",
	"language": "es-mx", "languages": "es-mx", "native_languages": "en", "learning_languages": "pt-br",
	"slug": "slow-spanish-abcdefgh", "name": "Slow Spanish", "topic": "Food", "query": "slow",
	"reason": "Shouting", "text": "Hola",
}

// anyText are fields in which every character but NUL is fine, several those
// that may have several lines.
var (
	anyText = map[protoreflect.Name]bool{"password": true, "current_password": true, "new_password": true}
	several = map[protoreflect.Name]bool{"bio": true, "text": true}
)

// TestStrings is the schema's part of checklist 52.
func TestStrings(t *testing.T) {
	t.Parallel()
	for _, method := range methods() {
		t.Run(string(method.Name()), func(t *testing.T) {
			t.Parallel()
			for _, choice := range choices(method.Input()) {
				request := sample(t, method.Input(), choice)
				if err := protovalidate.Validate(request); err != nil {
					t.Errorf("a good request: %v", err)
				}
				for _, s := range stringsIn(request.ProtoReflect()) {
					s.refuses(t, request)
				}
			}
		})
	}
}

// spot is a string somewhere in a request.
type spot struct {
	field protoreflect.FieldDescriptor
	set   func(string)
}

func (s *spot) refuses(t *testing.T, request proto.Message) {
	t.Helper()
	name := s.field.Name()
	good, ok := samples[name]
	if !ok {
		t.Fatalf("%s has no sample", s.field.FullName())
	}
	defer s.set(good)

	most := mostCharacters(s.field)
	if most == 0 {
		t.Errorf("%s has no rule that limits its length", s.field.FullName())
	}
	bad := map[string]string{"NUL": inside(good, "\x00"), "ten times the length": strings.Repeat(good, 10*most/len(good)+1)}
	fine := map[string]string{}
	for what, text := range map[string]string{
		"right-to-left override": "\u202e", "isolate": "\u2066", "CRLF": "\r\n", "CR": "\r", "line separator": "\u2028",
		"zero width space": "\u200b", "byte order mark": "\ufeff", "escape": "\x1b[2J", "next line": "\u0085", "newline": "\n",
	} {
		if anyText[name] || several[name] && what == "newline" {
			fine[what] = inside(good, text)
		} else {
			bad[what] = inside(good, text)
		}
	}
	s.try(t, request, bad, fine)
}

// try checks that bad values are refused, naming the field and not the value.
func (s *spot) try(t *testing.T, request proto.Message, bad, fine map[string]string) {
	t.Helper()
	for what, value := range fine {
		s.set(value)
		if err := protovalidate.Validate(request); err != nil {
			t.Errorf("%s: %s: %v", s.field.FullName(), what, err)
		}
	}
	for what, value := range bad {
		s.set(value)
		var invalid *protovalidate.ValidationError
		if err := protovalidate.Validate(request); !errors.As(err, &invalid) {
			t.Errorf("%s: %s: %v, want a violation", s.field.FullName(), what, err)
			continue
		}
		if text := invalid.ToProto().String() + invalid.Error(); strings.Contains(text, value) {
			t.Errorf("%s: %s: the error repeats the value", s.field.FullName(), what)
		} else if top := invalid.ToProto().GetViolations()[0].GetField().GetElements(); len(top) == 0 {
			t.Errorf("%s: %s: the violation names no field", s.field.FullName(), what)
		}
	}
}

func inside(s, text string) string { return s[:len(s)/2] + text + s[len(s)/2:] }

// mostCharacters is how long field may be by its own rules, or 0.
func mostCharacters(field protoreflect.FieldDescriptor) int {
	rules, _ := proto.GetExtension(field.Options(), validate.E_Field).(*validate.FieldRules)
	if field.IsList() {
		if rules.GetRepeated().GetMaxItems() == 0 || !rules.GetRepeated().GetUnique() {
			return 0
		}
		rules = rules.GetRepeated().GetItems()
	}
	if rules.GetString().GetUuid() {
		return len(anID)
	}
	return int(rules.GetString().GetMaxLen())
}

// choices are the ways to fill message: one for each member of its oneofs.
func choices(message protoreflect.MessageDescriptor) []protoreflect.Name {
	if message.Oneofs().Len() == 0 {
		return []protoreflect.Name{""}
	}
	var names []protoreflect.Name
	for i := range message.Oneofs().Get(0).Fields().Len() {
		names = append(names, message.Oneofs().Get(0).Fields().Get(i).Name())
	}
	return names
}

// sample fills every string of a request, and of what it holds.
func sample(t *testing.T, message protoreflect.MessageDescriptor, choice protoreflect.Name) proto.Message {
	t.Helper()
	filled := dynamicpb.NewMessage(message)
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		switch value, ok := samples[field.Name()]; {
		case field.ContainingOneof() != nil && field.Name() != choice:
		case field.Kind() == protoreflect.StringKind && !ok:
			t.Fatalf("%s has no sample", field.FullName())
		case field.Kind() == protoreflect.StringKind && field.IsList():
			filled.Mutable(field).List().Append(protoreflect.ValueOfString(value))
		case field.Kind() == protoreflect.StringKind:
			filled.Set(field, protoreflect.ValueOfString(value))
		case field.Message() != nil && field.Message().ParentFile().Package() == message.ParentFile().Package():
			filled.Set(field, protoreflect.ValueOfMessage(sample(t, field.Message(), "").ProtoReflect()))
		}
	}
	return filled
}

func stringsIn(message protoreflect.Message) []*spot {
	var all []*spot
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Kind() == protoreflect.StringKind && field.IsList():
			all = append(all, &spot{field, func(s string) { value.List().Set(0, protoreflect.ValueOfString(s)) }})
		case field.Kind() == protoreflect.StringKind:
			all = append(all, &spot{field, func(s string) { message.Set(field, protoreflect.ValueOfString(s)) }})
		case field.Message() != nil:
			all = append(all, stringsIn(value.Message())...)
		}
		return true
	})
	return all
}

// TestText is the part of checklist 52 that the codecs see to: text that is
// no UTF-8 never becomes a message.
func TestText(t *testing.T) {
	t.Parallel()
	for _, method := range methods() {
		request := method.Input()
		for i := range request.Fields().Len() {
			field := request.Fields().Get(i)
			if field.Kind() != protoreflect.StringKind {
				continue
			}
			wire := protowire.AppendString(protowire.AppendTag(nil, field.Number(), protowire.BytesType), "a\xff")
			if err := proto.Unmarshal(wire, dynamicpb.NewMessage(request)); err == nil {
				t.Errorf("%s takes invalid UTF-8", field.FullName())
			}
			for _, text := range []string{`"\ud800"`, `"\udc00a"`, "\"\xff\""} {
				if field.IsList() {
					text = "[" + text + "]"
				}
				json := `{"` + field.JSONName() + `":` + text + `}`
				if err := protojson.Unmarshal([]byte(json), dynamicpb.NewMessage(request)); err == nil {
					t.Errorf("%s takes %q", field.FullName(), text)
				}
			}
		}
	}
}

func many(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = anID[:len(anID)-3] + string([]byte{"0123456789"[i/100], "0123456789"[i/10%10], "0123456789"[i%10]})
	}
	return ids
}

func seconds(n int64) *durationpb.Duration { return &durationpb.Duration{Seconds: n} }

func kick(banFor *durationpb.Duration) *freev1.KickUserRequest {
	return &freev1.KickUserRequest{RoomId: anID, UserId: anID, BanFor: banFor}
}

func create(change func(*freev1.CreateRoomRequest)) *freev1.CreateRoomRequest {
	request := &freev1.CreateRoomRequest{Name: "Slow Spanish", Languages: []string{"es"}}
	change(request)
	return request
}

func named(name string) *freev1.CreateRoomRequest {
	return create(func(r *freev1.CreateRoomRequest) { r.Name = name })
}

func spoken(tags ...string) *freev1.CreateRoomRequest {
	return create(func(r *freev1.CreateRoomRequest) { r.Languages = tags })
}

func seats(n int32) *freev1.CreateRoomRequest {
	return create(func(r *freev1.CreateRoomRequest) { r.Capacity = n })
}

func register(email, username, password string) *freev1.RegisterRequest {
	return &freev1.RegisterRequest{Email: email, Username: username, Password: password}
}

func email(address string) *freev1.RegisterRequest { return register(address, "ada", "correct horse") }
func password(p string) *freev1.RegisterRequest    { return register("ada@example.org", "ada", p) }
func username(name string) *freev1.RegisterRequest {
	return register("ada@example.org", name, "correct horse")
}

func say(text string) *freev1.SendMessageRequest {
	return &freev1.SendMessageRequest{RoomId: anID, Text: text}
}

func profile(user *freev1.User, paths ...string) *freev1.UpdateProfileRequest {
	return &freev1.UpdateProfileRequest{Profile: user, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}}
}

func room(room *freev1.Room, paths ...string) *freev1.UpdateRoomRequest {
	return &freev1.UpdateRoomRequest{Room: room, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths}}
}

func list(size int32) *freev1.ListRoomsRequest { return &freev1.ListRoomsRequest{PageSize: size} }

// limits are requests that just keep a rule, and requests that just break it.
var limits = map[string]struct{ good, bad []proto.Message }{
	"a password has 8 to 128 characters, any but NUL": {
		good: []proto.Message{
			password("12345678"), password(strings.Repeat("a", 128)), password(strings.Repeat("\U0001F600", 128)),
			password(" \t\r\n\u202e\u200b\x01 "),
		},
		bad: []proto.Message{
			password(""), password("1234567"), password(strings.Repeat("é", 7)), password(strings.Repeat("a", 129)),
			password(strings.Repeat("a", 513)), password("1234\x005678"),
		},
	},
	"a password to log in with may be too short to be right": {
		good: []proto.Message{
			&freev1.LoginRequest{Login: &freev1.LoginRequest_Username{Username: "ada"}, Password: "x"},
			&freev1.ChangePasswordRequest{CurrentPassword: "x", NewPassword: "12345678"},
			&freev1.DeleteAccountRequest{Password: "x"},
		},
		bad: []proto.Message{
			&freev1.LoginRequest{Login: &freev1.LoginRequest_Username{Username: "ada"}},
			&freev1.ChangePasswordRequest{CurrentPassword: "12345678", NewPassword: "1234567"},
			&freev1.DeleteAccountRequest{},
		},
	},
	"an e-mail address is ASCII and fits 254 bytes": {
		good: []proto.Message{
			email("a@b.org"), email("Ada.Lovelace+math@mail.example.org"),
			email(strings.Repeat("a", 254-len("@example.org")) + "@example.org"),
		},
		bad: []proto.Message{
			email(""), email("ada"), email("ada@"), email("@example.org"), email("a@b@example.org"),
			email(" ada@example.org"), email("ada@example.org "), email("ada@example.org\r\n"), email("ada@example.org\n"),
			email("ad\x00a@example.org"), email("аda@example.org"), email("ada@exаmple.org"), email("ada＠example.org"),
			email("Ada <ada@example.org>"), email(strings.Repeat("a", 255-len("@example.org")) + "@example.org"),
		},
	},
	"a username has 3 to 50 plain characters": {
		good: []proto.Message{username("ada"), username("A_-9"), username(strings.Repeat("a", 50))},
		bad: []proto.Message{
			username(""), username("ad"), username(strings.Repeat("a", 51)), username("ada lovelace"), username("adä"),
			username("ada\n"), username("a\u200bda"), username("\u202eada"), username("аda"), username("ada.l"), username("ada@b"),
		},
	},
	"who logs in or is looked up is named in one way": {
		good: []proto.Message{
			&freev1.GetUserRequest{Key: &freev1.GetUserRequest_Username{Username: "ADA"}},
			&freev1.GetRoomRequest{Key: &freev1.GetRoomRequest_Slug{Slug: "a-b2"}},
		},
		bad: []proto.Message{
			&freev1.LoginRequest{Password: "correct horse"}, &freev1.GetUserRequest{}, &freev1.GetRoomRequest{},
			&freev1.LoginRequest{Login: &freev1.LoginRequest_Email{}, Password: "correct horse"},
			&freev1.GetUserRequest{Key: &freev1.GetUserRequest_Id{}}, &freev1.GetRoomRequest{Key: &freev1.GetRoomRequest_Slug{}},
			&freev1.GetRoomRequest{Key: &freev1.GetRoomRequest_Slug{Slug: "../etc"}},
		},
	},
	"a name is one line of 3 to 100 characters with something to see": {
		good: []proto.Message{
			named("abc"), named("日本語"), named("שלום"), named("نون"), named("a  b"),
			named("\U0001F469\u200d\U0001F4BB abc"), named(strings.Repeat("語", 100)),
		},
		bad: []proto.Message{named(""), named("ab"), named("   "), named("\u00a0\u3000\u200d"), named(strings.Repeat("語", 101))},
	},
	"languages are 1 to 5 different tags": {
		good: []proto.Message{
			spoken("es"), spoken("es-MX"), spoken("zh-hant-tw", "yue"), spoken("a" + "ab"), spoken("es", "en", "fr", "de", "pt-br"),
		},
		bad: []proto.Message{
			spoken(), spoken(""), spoken("e"), spoken("spanish language"), spoken("es_MX"), spoken("es-"), spoken("-es"), spoken("12"),
			spoken("es", "es"), spoken("es", "en", "fr", "de", "pt", "it"), spoken("es\n"), spoken("es-" + strings.Repeat("a", 9)),
		},
	},
	"a capacity is 2 or more, or left to the server": {
		good: []proto.Message{seats(0), seats(2), seats(12), seats(1000)},
		bad:  []proto.Message{seats(1), seats(-1), seats(1001)},
	},
	"an enum has a value that is known": {
		good: []proto.Message{
			&freev1.ListRoomsRequest{Level: freev1.Level_LEVEL_UPPER_ADVANCED, OrderBy: freev1.OrderBy_ORDER_BY_NEWEST},
		},
		bad: []proto.Message{
			&freev1.ListRoomsRequest{Level: 8}, &freev1.ListRoomsRequest{OrderBy: 3}, &freev1.WatchRoomsRequest{Level: -1},
			create(func(r *freev1.CreateRoomRequest) { r.Level = 99 }), room(&freev1.Room{Id: anID, Level: 8}),
		},
	},
	"a message has 1 to 2000 characters on any number of lines": {
		good: []proto.Message{say("a"), say("a\n\tb\n"), say("\U0001F468\u200d\U0001F469\u200d\U0001F467"), say(strings.Repeat("語", 2000))},
		bad:  []proto.Message{say(""), say(" \n\t"), say("a\r\nb"), say("a\x00b"), say("a\u2028b"), say(strings.Repeat("語", 2001))},
	},
	"a page has no negative size, and one that is too large is lowered later": {
		good: []proto.Message{list(0), list(1), list(1<<31 - 1), &freev1.ListOnlineUsersRequest{PageSize: 1<<31 - 1}},
		bad:  []proto.Message{list(-1), list(-1 << 31), &freev1.ListOnlineUsersRequest{PageSize: -1}},
	},
	"a batch is 1 to 100 different ids": {
		good: []proto.Message{&freev1.BatchGetUsersRequest{Ids: many(100)}, &freev1.GetPresenceRequest{UserIds: many(1)}},
		bad: []proto.Message{
			&freev1.BatchGetUsersRequest{}, &freev1.BatchGetUsersRequest{Ids: many(101)},
			&freev1.BatchGetUsersRequest{Ids: []string{anID, anID}}, &freev1.BatchGetUsersRequest{Ids: []string{"1"}},
			&freev1.GetPresenceRequest{}, &freev1.WatchPresenceRequest{UserIds: many(101)},
		},
	},
	"a ban after a kick lasts up to 30 days": {
		good: []proto.Message{kick(nil), kick(seconds(0)), kick(seconds(600)), kick(seconds(30 * 86400))},
		bad:  []proto.Message{kick(seconds(-1)), kick(seconds(30*86400 + 1)), kick(&durationpb.Duration{Nanos: -1})},
	},
	"a profile leaves alone what it does not set": {
		good: []proto.Message{
			profile(&freev1.User{}), profile(&freev1.User{Country: "MX"}, "country", "bio"),
			profile(&freev1.User{AvatarUrl: "https://example.org/a%20b.png?x=1"}, "avatar_url"),
		},
		bad: []proto.Message{
			profile(nil), profile(&freev1.User{Country: "mx"}), profile(&freev1.User{Country: "MEX"}),
			profile(&freev1.User{AvatarUrl: "http://example.org/a.png"}), profile(&freev1.User{AvatarUrl: "javascript:alert(1)"}),
			profile(&freev1.User{AvatarUrl: "https://example.org/a b"}), profile(&freev1.User{DisplayName: "\u3000"}),
			profile(&freev1.User{LearningLanguages: []string{"en", "en"}}),
		},
	},
	"a mask names what the caller may change": {
		good: []proto.Message{
			profile(&freev1.User{}, "display_name", "avatar_url", "bio", "native_languages", "learning_languages", "country"),
			room(&freev1.Room{Id: anID}, "name", "topic", "languages", "level", "capacity"),
		},
		bad: []proto.Message{
			profile(&freev1.User{}, "role"), profile(&freev1.User{}, "username"), profile(&freev1.User{}, "nonsense"),
			profile(&freev1.User{}, "bio", "id"), profile(&freev1.User{}, ""), profile(&freev1.User{}, "*"),
			room(&freev1.Room{Id: anID}, "owner"), room(&freev1.Room{Id: anID}, "version"), room(&freev1.Room{Id: anID}, "owner.id"),
		},
	},
	"an update names the room and no negative version": {
		good: []proto.Message{&freev1.UpdateRoomRequest{Room: &freev1.Room{Id: anID, Capacity: 5}, Version: 3}},
		bad: []proto.Message{
			&freev1.UpdateRoomRequest{}, room(&freev1.Room{Name: "Slow Spanish"}), room(&freev1.Room{Id: "1"}),
			&freev1.UpdateRoomRequest{Room: &freev1.Room{Id: anID}, Version: -1}, room(&freev1.Room{Id: anID, Capacity: 1}),
		},
	},
}

// TestLimits is the schema's part of checklist 1, 2, 4, 5 and 53, and the
// bounds that the contract names.
func TestLimits(t *testing.T) {
	t.Parallel()
	for rule, test := range limits {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			for _, request := range test.good {
				if err := protovalidate.Validate(request); err != nil {
					t.Errorf("%s: %v", short(request), err)
				}
			}
			for _, request := range test.bad {
				if err := protovalidate.Validate(request); !errors.As(err, new(*protovalidate.ValidationError)) {
					t.Errorf("%s: %v, want a violation", short(request), err)
				}
			}
		})
	}
}

func short(request proto.Message) string {
	text := protojson.Format(request)
	if utf8.RuneCountInString(text) > 200 {
		text = string([]rune(text)[:200]) + "…"
	}
	return string(request.ProtoReflect().Descriptor().Name()) + " " + text
}

package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/server/talk"
)

// goodText is a good value of every string that a request may hold.
var goodText = map[protoreflect.Name]string{
	"policy": "api", "key": "203.0.113.7", "pattern": "room:*",
	"online": "0198c5a2-7b1e-7c3d-9f00-0123456789ab", "signed_out": "0198c5a2-7b1e-7c3d-9f00-0123456789ab", "closed": "0198c5a2-7b1e-7c3d-9f00-0123456789ab",
	"email": "good@example.org", "username": "good_name", "display_name": "Good Name",
	"password": "four good kettles", "current_password": "four good kettles", "new_password": "five good kettles",
	"refresh_token": "1.abc.2.def", "page_token": "AbCd-_", "cursor": "AbCd-_",
	"avatar_url": "https://example.org/a.png", "bio": "I count.", "country": "GB",
	"language": "es-mx", "languages": "es-mx", "native_languages": "en", "learning_languages": "pt-br",
	"slug": "slow-spanish-abcdefgh", "name": "Slow Spanish", "topic": "Food", "query": "slow", "reason": "Shouting", "text": "Hola",
}

// poisons are what is put in the middle of a good value, as the bytes of UTF-8
// and as the inside of a JSON string. Where one cannot be said, it is "".
var poisons = []struct {
	name, binary, json string
	unreadable         bool // it never becomes a message, so no field is named
}{
	{"NUL", "\x00", `\u0000`, false},
	{"a lone surrogate", "\xed\xa0\x80", `\ud800`, true},
	{"the other surrogate", "\xed\xb0\x80", `x\udc00`, true},
	{"invalid UTF-8", "\xff\xfe", "\xff\xfe", true},
	{"right-to-left override", "\u202e", "\u202e", false},
	{"CRLF", "\r\n", `\r\n`, false},
	{"an escape", "\x1b[2J", `\u001b[2J`, false},
	{"ten times the length", strings.Repeat("long", 6000), strings.Repeat("long", 6000), false},
}

// anyCharacter are the fields whose text nobody reads: only NUL and what is
// too long is refused.
var anyCharacter = map[protoreflect.Name]bool{"password": true, "current_password": true, "new_password": true}

// mark stands where the poison will be: the codecs would not write that.
const mark = "MARKMARK"

// field is one string of a request, and the request with the mark in it.
type field struct {
	protoreflect.FieldDescriptor

	request proto.Message
}

// fieldsOf are all strings of a method's request, however deep, each in a
// request of its own that is otherwise good.
func fieldsOf(t *testing.T, method protoreflect.MethodDescriptor) []field {
	t.Helper()
	var all []field
	for _, choice := range choicesOf(method.Input()) {
		count := len(stringsOf(t, good(t, method.Input(), choice)))
		for i := range count {
			request := good(t, method.Input(), choice)
			spot := stringsOf(t, request)[i]
			spot.set(halfway(goodValue(t, spot.field), mark))
			all = append(all, field{spot.field, request.Interface()})
		}
	}
	return all
}

func halfway(s, middle string) string { return s[:len(s)/2] + middle + s[len(s)/2:] }

// choicesOf are the ways to fill the message's oneof.
func choicesOf(message protoreflect.MessageDescriptor) []protoreflect.Name {
	names := []protoreflect.Name{}
	for i := range message.Oneofs().Len() {
		for j := range message.Oneofs().Get(i).Fields().Len() {
			names = append(names, message.Oneofs().Get(i).Fields().Get(j).Name())
		}
	}
	if len(names) == 0 {
		return []protoreflect.Name{""}
	}
	return names
}

func goodValue(t *testing.T, field protoreflect.FieldDescriptor) string {
	t.Helper()
	if name := string(field.Name()); name == "id" || name == "ids" || strings.HasSuffix(name, "_id") || strings.HasSuffix(name, "_ids") {
		return "0198c5a2-7b1e-7c3d-9f00-0123456789ab"
	}
	value, ok := goodText[field.Name()]
	if !ok {
		t.Fatalf("%s has no good value in this test", field.FullName())
	}
	return value
}

// good is a message with a good value in each string, also of our messages inside.
func good(t *testing.T, message protoreflect.MessageDescriptor, choice protoreflect.Name) protoreflect.Message {
	t.Helper()
	filled := dynamicpb.NewMessage(message)
	for i := range message.Fields().Len() {
		f := message.Fields().Get(i)
		switch {
		case f.ContainingOneof() != nil && f.Name() != choice:
		case f.Kind() == protoreflect.StringKind && f.IsList():
			filled.Mutable(f).List().Append(protoreflect.ValueOfString(goodValue(t, f)))
		case f.Kind() == protoreflect.StringKind:
			filled.Set(f, protoreflect.ValueOfString(goodValue(t, f)))
		case f.Message() != nil && f.Message().ParentFile().Package() == "free2talk.v1":
			filled.Set(f, protoreflect.ValueOfMessage(good(t, f.Message(), "")))
		case f.Message() != nil && f.Message().FullName() == "google.protobuf.FieldMask":
			mask := filled.Mutable(f).Message()
			paths := mask.Descriptor().Fields().ByName("paths")
			mask.Mutable(paths).List().Append(protoreflect.ValueOfString("languages"))
		}
	}
	return filled
}

type spot struct {
	field protoreflect.FieldDescriptor
	set   func(string)
}

// stringsOf are the strings of a message in the order of their numbers, those
// of a field mask left out: the mask has a spelling of its own.
func stringsOf(t *testing.T, message protoreflect.Message) []spot {
	t.Helper()
	var all []spot
	for i := range message.Descriptor().Fields().Len() {
		f := message.Descriptor().Fields().Get(i)
		switch {
		case !message.Has(f):
		case f.Kind() == protoreflect.StringKind && f.IsList():
			all = append(all, spot{f, func(s string) { message.Mutable(f).List().Set(0, protoreflect.ValueOfString(s)) }})
		case f.Kind() == protoreflect.StringKind:
			all = append(all, spot{f, func(s string) { message.Set(f, protoreflect.ValueOfString(s)) }})
		case f.Message() != nil && f.Message().ParentFile().Package() == "free2talk.v1":
			all = append(all, stringsOf(t, message.Mutable(f).Message())...)
		}
	}
	return all
}

// inBinary is the request with poison in place of the mark. Lengths stand in
// front of texts, so the mark is first made as long as the poison.
func (f field) inBinary(t *testing.T, poison string) []byte {
	t.Helper()
	stand := strings.Repeat("#", len(poison)) // "#" is in no good value
	request := proto.Clone(f.request)
	for _, s := range stringsOf(t, request.ProtoReflect()) {
		if value := goodValue(t, s.field); s.field == f.FieldDescriptor && bytes.Contains(marshal(t, request), []byte(halfway(value, mark))) {
			s.set(halfway(value, stand))
		}
	}
	return f.replaced(t, marshal(t, request), stand, poison)
}

func (f field) replaced(t *testing.T, message []byte, stand, poison string) []byte {
	t.Helper()
	if bytes.Count(message, []byte(stand)) != 1 {
		t.Fatalf("%s: the poison has no one place in %q", f.FullName(), message)
	}
	return bytes.Replace(message, []byte(stand), []byte(poison), 1)
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

func (f field) inJSON(t *testing.T, poison string) []byte {
	t.Helper()
	text, err := protojson.Marshal(f.request)
	if err != nil {
		t.Fatal(err)
	}
	return f.replaced(t, text, mark, poison)
}

// TestChecklist52_poisoned_text sends every string of every request with every
// poison in it, in both codecs: it is refused, by the name of its field, and
// neither stored nor repeated.
func TestChecklist52_poisoned_text(t *testing.T) {
	w := newWorld(t, onEmbedded, 1)
	ada := w.person()
	if _, err := w.nodes[0].accounts.Promote(t.Context(), ada.Username, "operator"); err != nil { // who may call everything
		t.Fatal(err)
	}
	before := w.stored()
	sent := 0
	for name, method := range methods() {
		t.Run(name, func(t *testing.T) {
			for _, f := range fieldsOf(t, method) {
				for _, p := range poisons {
					if anyCharacter[f.Name()] && p.name != "NUL" && p.name != "ten times the length" && !p.unreadable {
						continue
					}
					what := fmt.Sprintf("%s with %s", f.FullName(), p.name)
					for codec, message := range map[string][]byte{"json": f.inJSON(t, p.json), "proto": f.inBinary(t, p.binary)} {
						verdict, said := w.raw(w.nodes[0], method, codec, message, ada.grant.AccessToken)
						sent++
						if verdict != "invalid_argument" || p.unreadable == strings.Contains(said, "buf.validate.Violations") {
							t.Errorf("%s in %s: %s: %s", what, codec, verdict, said)
						}
						value := halfway(goodValue(t, f), p.binary)
						if quoted, _ := json.Marshal(value); strings.Contains(said, value) || bytes.Contains([]byte(said), quoted[1:len(quoted)-1]) {
							t.Errorf("%s in %s is repeated: %s", what, codec, said)
						}
					}
				}
			}
		})
	}
	if after := w.stored(); after != before {
		t.Errorf("something was stored:\n%s\nafter\n%s", after, before)
	}
	t.Logf("%d requests", sent)
	if sent < 700 {
		t.Errorf("only %d requests were sent", sent)
	}
}

// stored is all that the embedded database keeps of what people say.
func (w *world) stored() string {
	w.Helper()
	base, err := sql.Open("sqlite", w.settings.DatabaseURL)
	if err != nil {
		w.Fatal(err)
	}
	defer base.Close()
	var all strings.Builder
	for _, query := range []string{
		"SELECT id, username, email, display_name, bio, country, avatar_url FROM users",
		"SELECT id, name, topic, slug FROM rooms", "SELECT id FROM sessions", "SELECT count(*) FROM events",
		"SELECT room_id, user_id FROM participants", "SELECT room_id, user_id, reason FROM bans",
	} {
		readAll(w, base, query, &all)
	}
	return all.String()
}

// readAll writes every value that a query finds to into, a row a line.
func readAll(w *world, base *sql.DB, query string, into *strings.Builder) {
	rows, err := base.QueryContext(w.Context(), query)
	if err != nil {
		w.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		w.Fatal(err)
	}
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			w.Fatal(err)
		}
		for _, v := range values {
			fmt.Fprintf(into, "%v ", *v.(*any))
		}
		into.WriteByte('\n')
	}
	if err := rows.Err(); err != nil {
		w.Fatal(err)
	}
}

// TestChecklist53_pages: sizes are bent into bounds, and a token that was not
// given out for this very list is refused.
func TestChecklist53_pages(t *testing.T) {
	w := newWorld(t, onEmbedded, 1)
	for range 101 {
		w.room(w.person(), 5)
	}
	anybody := w.client(w.nodes[0])
	list := func(r *free2talkv1.ListRoomsRequest) (*free2talkv1.ListRoomsResponse, error) {
		return anybody.Rooms.ListRooms(t.Context(), r)
	}
	for size, want := range map[int32]int{0: 20, 1: 1, 100: 100, 101: 100, math.MaxInt32: 100} {
		if page, err := list(&free2talkv1.ListRoomsRequest{PageSize: size}); err != nil || len(page.GetRooms()) != want || page.GetTotalSize() != 101 {
			t.Errorf("size %d: %d rooms of %d, %v", size, len(page.GetRooms()), page.GetTotalSize(), err)
		}
	}
	method := methods()["RoomService.ListRooms"]
	refused := func(request, want string) {
		t.Helper()
		if got, said := w.raw(w.nodes[0], method, "json", []byte(request), ""); got != want {
			t.Errorf("%s: %s, want %s: %s", request, got, want, said)
		}
	}
	refused(`{"pageSize": -1}`, "invalid_argument")
	refused(`{"pageSize": -2147483648}`, "invalid_argument")
	refused(`{"pageSize": 2147483648}`, "invalid_argument")
	page, err := list(&free2talkv1.ListRoomsRequest{Language: "es"})
	if err != nil {
		t.Fatal(err)
	}
	token := page.GetNextPageToken()
	if again, err := list(&free2talkv1.ListRoomsRequest{Language: "es", PageToken: token}); err != nil || again.GetRooms()[0].GetId() == page.GetRooms()[0].GetId() {
		t.Fatalf("the second page: %v", err)
	}
	for _, bad := range []string{"x", token[:len(token)-1], token + "A", flipped(token, 0), flipped(token, len(token)/2), strings.Repeat("A", len(token)), "===="} {
		refused(`{"language": "es", "pageToken": "`+bad+`"}`, "BAD_PAGE_TOKEN")
	}
	for _, other := range []string{`"language": "en"`, `"language": "es", "level": "LEVEL_BEGINNER"`, `"language": "es", "query": "room"`, `"language": "es", "orderBy": "ORDER_BY_NEWEST"`} {
		refused(`{`+other+`, "pageToken": "`+token+`"}`, "BAD_PAGE_TOKEN")
	}
}

// flipped is a token with another letter at i.
func flipped(token string, i int) string {
	other := "A"
	if token[i] == 'A' {
		other = "B"
	}
	return token[:i] + other + token[i+1:]
}

// TestChecklist54_edges of HTTP, on the real node: the golden files of server
// hold the answers to the letter.
func TestChecklist54_edges(t *testing.T) {
	w := newWorld(t, onEmbedded, 1)
	n := w.nodes[0]
	room := "/free2talk.v1.RoomService/GetRoom"
	for _, c := range []struct {
		name, path, contentType, body string
		status                        int
	}{
		{"no type", room, "", `{}`, http.StatusUnsupportedMediaType},
		{"a form", room, "application/x-www-form-urlencoded", "id=1", http.StatusUnsupportedMediaType},
		{"no JSON", room, "application/json", `{"id"`, http.StatusBadRequest},
		{"two messages", room, "application/json", `{"slug":"a-room"}{}`, http.StatusBadRequest},
		{"an array", room, "application/json", `[]`, http.StatusBadRequest},
		{"deep", room, "application/json", strings.Repeat(`{"room":`, 5000), http.StatusBadRequest},
		{"no protobuf", room, "application/proto", "\xff\xff\xff", http.StatusBadRequest},
		{"no such method", "/free2talk.v1.RoomService/Nope", "application/json", `{}`, http.StatusNotImplemented},
		{"no such page", "/nope", "application/json", `{}`, http.StatusNotFound},
		{"another spelling", "/free2talk.v1.RoomService/getroom", "application/json", `{}`, http.StatusNotImplemented},
	} {
		reply := w.post(n, c.path, c.contentType, []byte(c.body), "")
		if reply.Body.Close(); reply.StatusCode != c.status {
			t.Errorf("%s: %d, want %d", c.name, reply.StatusCode, c.status)
		}
	}
	if _, err := w.person().Rooms.GetRoom(t.Context(), &free2talkv1.GetRoomRequest{Key: &free2talkv1.GetRoomRequest_Id{Id: talk.NewID()}}); err == nil {
		t.Error("a room that is none was found")
	}
}

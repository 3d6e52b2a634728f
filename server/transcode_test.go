package server

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	freev1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// ourMessages are all kinds of messages that this server speaks.
func ourMessages() (all []protoreflect.MessageType) {
	protoregistry.GlobalTypes.RangeMessages(func(m protoreflect.MessageType) bool {
		if strings.HasPrefix(string(m.Descriptor().FullName()), "free2talk.") {
			all = append(all, m)
		}
		return true
	})
	return all
}

// filled sets about every second field of m, at random.
func filled(r *rand.Rand, m protoreflect.Message, deep int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if r.IntN(2) == 0 || f.IsMap() || f.Message() != nil && deep == 0 {
			continue
		}
		if f.IsList() {
			list := m.Mutable(f).List()
			for range r.IntN(4) {
				if f.Message() != nil {
					one := list.NewElement()
					fillMessage(r, one.Message(), deep-1)
					list.Append(one)
				} else {
					list.Append(scalar(r, f))
				}
			}
			continue
		}
		if f.Message() != nil {
			fillMessage(r, m.Mutable(f).Message(), deep-1)
			continue
		}
		m.Set(f, scalar(r, f))
	}
}

func fillMessage(r *rand.Rand, m protoreflect.Message, deep int) {
	fields := m.Descriptor().Fields()
	switch m.Descriptor().FullName() {
	case "google.protobuf.Timestamp":
		m.Set(fields.ByNumber(1), protoreflect.ValueOfInt64(r.Int64N(253402300799+62135596800)-62135596800))
		m.Set(fields.ByNumber(2), protoreflect.ValueOfInt32(fraction(r)))
	case "google.protobuf.Duration":
		sign := int64(1 - 2*r.IntN(2))
		m.Set(fields.ByNumber(1), protoreflect.ValueOfInt64(sign*r.Int64N(1_000_000)*r.Int64N(2)))
		m.Set(fields.ByNumber(2), protoreflect.ValueOfInt32(int32(sign)*fraction(r)))
	case "google.protobuf.FieldMask":
		m.Mutable(fields.ByNumber(1)).List().Append(protoreflect.ValueOfString("name"))
	default:
		filled(r, m, deep)
	}
}

func fraction(r *rand.Rand) int32 {
	return []int32{0, r.Int32N(1e3) * 1e6, r.Int32N(1e6) * 1e3, r.Int32N(1e9)}[r.IntN(4)]
}

func scalar(r *rand.Rand, f protoreflect.FieldDescriptor) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(r.IntN(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(r.IntN(f.Enum().Values().Len() + 1))) // one more than there are
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(r.Uint32()))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(r.Uint64()))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(r.Uint32())
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(r.Uint64())
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(r.Float64())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(dice{r}.text()))
	}
	return protoreflect.ValueOfString(dice{r}.text() + []string{"", `"\/`, "\x00\n\t\x1f\x7f", "<&>\u2028", "😀"}[r.IntN(5)])
}

// Whatever is said, it is what protojson says.
func TestJSONIsProtobufsOwn(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(9, 10))
	planned := 0
	for _, kind := range ourMessages() {
		if planFor(kind.Descriptor()) != nil {
			planned++
		}
		for range 200 {
			m := kind.New()
			fillMessage(r, m, 4)
			got, err := spellJSON(m.Interface())
			if err != nil {
				t.Fatalf("%s: %v", kind.Descriptor().FullName(), err)
			}
			want, err := protojson.Marshal(m.Interface())
			if err != nil {
				t.Fatal(err)
			}
			if !sameJSON(t, got, want) {
				t.Fatalf("%s:\n got %s\nwant %s", kind.Descriptor().FullName(), got, want)
			}
			back := kind.New().Interface()
			if err := protojson.Unmarshal(got, back); err != nil || !proto.Equal(back, m.Interface()) {
				t.Fatalf("%s: %s comes back as %v, %v", kind.Descriptor().FullName(), got, back, err)
			}
		}
	}
	if all := len(ourMessages()); planned < all*8/10 {
		t.Errorf("%d of %d kinds of messages have a plan", planned, all)
	}
	for _, m := range []proto.Message{&freev1.GetRoomResponse{}, &freev1.ListRoomsResponse{}, &freev1.WatchRoomResponse{}, &freev1.ConnectResponse{}} {
		if planFor(m.ProtoReflect().Descriptor()) == nil {
			t.Errorf("%T has no plan", m)
		}
	}
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := json.Unmarshal(a, &x); err != nil {
		t.Errorf("%s: %v", a, err)
	}
	if err := json.Unmarshal(b, &y); err != nil {
		t.Errorf("%s: %v", b, err)
	}
	return reflect.DeepEqual(x, y)
}

// What protojson refuses is refused, and what no plan knows is spelled by it.
func TestJSONOfWhatIsUnusual(t *testing.T) {
	t.Parallel()
	if text, err := spellJSON(&freev1.Room{Name: "\xff"}); err == nil {
		t.Errorf("what is not UTF-8 was spelled: %s", text)
	}
	late := &freev1.Room{CreatedAt: &timestamppb.Timestamp{Seconds: 253402300800}}
	if text, err := spellJSON(late); err == nil {
		t.Errorf("the year 10000 was spelled: %s", text)
	}
	room, err := proto.Marshal(&freev1.Room{Id: "a", Languages: []string{"es"}, Level: freev1.Level_LEVEL_ANY})
	if err != nil {
		t.Fatal(err)
	}
	unknown := protowire.AppendVarint(protowire.AppendTag(room, 999, protowire.VarintType), 1)
	again := slices.Concat(room, room)
	for name, wire := range map[string][]byte{"a field that is not known": unknown, "a list in two parts": again} {
		if _, ok := planFor((&freev1.Room{}).ProtoReflect().Descriptor()).append(nil, wire); ok {
			t.Errorf("%s: a plan spells it", name)
		}
	}
	m := dynamicpb.NewMessage((&freev1.Room{}).ProtoReflect().Descriptor())
	if err := proto.Unmarshal(unknown, m); err != nil {
		t.Fatal(err)
	}
	if got, err := spellJSON(m); err != nil || !sameJSON(t, got, []byte(`{"id":"a","languages":["es"],"level":"LEVEL_ANY"}`)) {
		t.Errorf("%s, %v", got, err)
	}
}

// Whatever is on the wire, spelling it does not panic, and is JSON.
func FuzzJSON(f *testing.F) {
	d := dice{rand.New(rand.NewPCG(5, 6))}
	for range 8 {
		wire, _ := proto.Marshal(wireView(d.room()))
		f.Add(wire)
	}
	p := planFor((&freev1.GetRoomResponse{}).ProtoReflect().Descriptor())
	f.Fuzz(func(t *testing.T, wire []byte) {
		if text, ok := p.append(nil, wire); ok && !json.Valid(text) {
			t.Errorf("%q became %q", wire, text)
		}
	})
}

// BenchmarkJSON compares with protojson.
func BenchmarkJSON(b *testing.B) {
	view := wireView(dice{rand.New(rand.NewPCG(7, 8))}.room())
	b.Run("planned", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = spellJSON(view)
		}
	})
	b.Run("protojson", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = protojson.Marshal(view)
		}
	})
}

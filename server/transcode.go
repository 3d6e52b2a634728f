package server

import (
	"encoding/base64"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Protobuf's JSON is made of the binary form, by a plan that is read off the
// schema once for each kind of message: that is an eighth of what protojson
// takes, which asks the message about itself for each field. What a plan does
// not know (maps, floats, groups, and the well-known types but Timestamp and
// Duration) is left to protojson, and so is whatever cannot be spelled.

// plan is how one kind of message is spelled.
type plan struct {
	fields []*planned // by number
	spell  func(b, wire []byte) ([]byte, bool)
}

// planned is a field of a plan.
type planned struct {
	key    []byte // "name":
	kind   protoreflect.Kind
	list   bool
	plan   *plan // of a message
	values protoreflect.EnumValueDescriptors
}

// mostPlanned is the highest number of a field that plans know.
const mostPlanned = 128

// plans are those that were made, by the name of the message; nil where there is
// none.
var plans sync.Map // of protoreflect.FullName and *plan

// planFor returns the plan of a kind of message, or nil.
func planFor(d protoreflect.MessageDescriptor) *plan {
	if p, ok := plans.Load(d.FullName()); ok {
		return p.(*plan) //nolint:forcetypeassert // nothing else is in it
	}
	made := map[protoreflect.FullName]*plan{}
	p := newPlan(d, made)
	if p == nil { // what is in it may have had one
		made = map[protoreflect.FullName]*plan{d.FullName(): nil}
	}
	for name, p := range made {
		plans.LoadOrStore(name, p)
	}
	return p
}

func newPlan(d protoreflect.MessageDescriptor, made map[protoreflect.FullName]*plan) *plan {
	if p, ok := made[d.FullName()]; ok {
		return p
	}
	switch d.FullName() {
	case "google.protobuf.Timestamp":
		return &plan{spell: spellTimestamp}
	case "google.protobuf.Duration":
		return &plan{spell: spellDuration}
	}
	if d.ParentFile().Package() == "google.protobuf" {
		return nil
	}
	p := &plan{}
	made[d.FullName()] = p
	all := d.Fields()
	for i := range all.Len() {
		f := all.Get(i)
		if f.Number() > mostPlanned {
			return nil
		}
		for len(p.fields) <= int(f.Number()) {
			p.fields = append(p.fields, nil)
		}
		if p.fields[f.Number()] = newPlanned(f, made); p.fields[f.Number()] == nil {
			return nil
		}
	}
	return p
}

func newPlanned(f protoreflect.FieldDescriptor, made map[protoreflect.FullName]*plan) *planned {
	p := &planned{key: append(appendJSONText(nil, f.JSONName()), ':'), kind: f.Kind(), list: f.IsList()}
	switch f.Kind() {
	case protoreflect.BoolKind, protoreflect.Int32Kind, protoreflect.Int64Kind, protoreflect.Uint32Kind, protoreflect.Uint64Kind,
		protoreflect.StringKind, protoreflect.BytesKind:
		return p
	case protoreflect.EnumKind:
		p.values = f.Enum().Values()
		return p
	case protoreflect.MessageKind:
		if p.plan = newPlan(f.Message(), made); p.plan != nil && !f.IsMap() {
			return p
		}
	}
	return nil
}

// spellJSON is protobuf's JSON of a message.
func spellJSON(m proto.Message) ([]byte, error) {
	p := planFor(m.ProtoReflect().Descriptor())
	if p == nil {
		return protojson.MarshalOptions{}.Marshal(m)
	}
	buffer := piece()
	defer kept(buffer)
	wire, err := proto.MarshalOptions{}.MarshalAppend(buffer.AvailableBuffer(), m)
	if err != nil {
		return nil, err
	}
	buffer.Write(wire) // which keeps what was made room for
	if text, ok := p.json(wire); ok {
		return text, nil
	}
	return protojson.MarshalOptions{}.Marshal(m)
}

// json spells a message of which the binary form is there; false where it cannot.
func (p *plan) json(wire []byte) ([]byte, bool) {
	if p == nil {
		return nil, false
	}
	return p.append(make([]byte, 0, 2*len(wire)+64), wire)
}

// append spells one message; false where it cannot.
func (p *plan) append(b, wire []byte) ([]byte, bool) {
	if p.spell != nil {
		return p.spell(b, wire)
	}
	b = append(b, '{')
	last := protowire.Number(0)
	var seen [mostPlanned/64 + 1]uint64
	for len(wire) > 0 {
		number, kind, n := protowire.ConsumeTag(wire)
		if n < 0 || int(number) >= len(p.fields) || p.fields[number] == nil {
			return b, false
		}
		f, mark := p.fields[number], uint64(1)<<(number%64)
		if number != last && seen[number/64]&mark != 0 { // it would be spelled twice
			return b, false
		}
		seen[number/64] |= mark
		wire = wire[n:]
		if b, n = f.append(b, wire, kind, number == last); n < 0 {
			return b, false
		}
		wire, last = wire[n:], number
		if f.list && !again(wire, number) {
			b = append(b, ']')
		}
	}
	return append(b, '}'), true
}

// again reports whether the next field has this number.
func again(wire []byte, number protowire.Number) bool {
	next, _, n := protowire.ConsumeTag(wire)
	return n > 0 && next == number
}

// append spells one field, or one more of a list, and returns how long it was on
// the wire; below zero where it cannot.
func (f *planned) append(b, wire []byte, kind protowire.Type, more bool) (_ []byte, n int) {
	switch {
	case more && !f.list:
		return b, -1
	case more:
		b = append(b, ',')
	default:
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(b, f.key...)
		if f.list {
			b = append(b, '[')
		}
	}
	switch kind {
	case protowire.VarintType:
		number, n := protowire.ConsumeVarint(wire)
		return f.number(b, number), n
	case protowire.BytesType:
		content, n := protowire.ConsumeBytes(wire)
		b, ok := f.content(b, content)
		if !ok {
			return b, -1
		}
		return b, n
	}
	return b, -1
}

// content spells what has a length.
func (f *planned) content(b, content []byte) ([]byte, bool) {
	switch f.kind {
	case protoreflect.MessageKind:
		return f.plan.append(b, content)
	case protoreflect.StringKind:
		return appendJSONText(b, content), utf8.Valid(content)
	case protoreflect.BytesKind:
		b = append(b, '"')
		b = base64.StdEncoding.AppendEncode(b, content)
		return append(b, '"'), true
	}
	for first := true; len(content) > 0; first = false { // a list of numbers, packed
		number, n := protowire.ConsumeVarint(content)
		if n < 0 || !f.list {
			return b, false
		}
		if !first {
			b = append(b, ',')
		}
		b, content = f.number(b, number), content[n:]
	}
	return b, true
}

// number spells a number by its kind: 64 bits as text, since scripts would round
// them.
func (f *planned) number(b []byte, number uint64) []byte {
	switch f.kind {
	case protoreflect.BoolKind:
		return strconv.AppendBool(b, number != 0)
	case protoreflect.EnumKind:
		if v := f.values.ByNumber(protoreflect.EnumNumber(int32(number))); v != nil {
			return appendJSONText(b, v.Name())
		}
		return strconv.AppendInt(b, int64(int32(number)), 10)
	case protoreflect.Int64Kind:
		return append(strconv.AppendInt(append(b, '"'), int64(number), 10), '"')
	case protoreflect.Uint64Kind:
		return append(strconv.AppendUint(append(b, '"'), number, 10), '"')
	case protoreflect.Uint32Kind:
		return strconv.AppendUint(b, uint64(uint32(number)), 10)
	}
	return strconv.AppendInt(b, int64(int32(number)), 10)
}

const hexDigits = "0123456789abcdef"

// appendJSONText appends s as RFC 8259 has it.
func appendJSONText[T ~string | ~[]byte](b []byte, s T) []byte {
	b = append(b, '"')
	from := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[from:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		from = i + 1
	}
	return append(append(b, s[from:]...), '"')
}

// spellTimestamp spells a google.protobuf.Timestamp, of the years 1 to 9999.
func spellTimestamp(b, wire []byte) ([]byte, bool) {
	seconds, nanos, ok := parts(wire)
	if !ok || seconds < -62135596800 || seconds > 253402300799 || nanos < 0 || nanos >= 1e9 {
		return b, false
	}
	b = time.Unix(seconds, 0).UTC().AppendFormat(append(b, '"'), "2006-01-02T15:04:05")
	return append(appendFraction(b, nanos), 'Z', '"'), true
}

// spellDuration spells a google.protobuf.Duration, of some 10,000 years.
func spellDuration(b, wire []byte) ([]byte, bool) {
	seconds, nanos, ok := parts(wire)
	if !ok || seconds < -315576000000 || seconds > 315576000000 || nanos <= -1e9 || nanos >= 1e9 || seconds > 0 && nanos < 0 || seconds < 0 && nanos > 0 {
		return b, false
	}
	b = append(b, '"')
	if seconds < 0 || nanos < 0 {
		b, seconds, nanos = append(b, '-'), -seconds, -nanos
	}
	return append(appendFraction(strconv.AppendInt(b, seconds, 10), nanos), 's', '"'), true
}

// parts reads the two numbers that a Timestamp or a Duration is.
func parts(wire []byte) (seconds, nanos int64, ok bool) {
	for len(wire) > 0 {
		number, kind, n := protowire.ConsumeTag(wire)
		if n < 0 || kind != protowire.VarintType {
			return 0, 0, false
		}
		value, m := protowire.ConsumeVarint(wire[n:])
		if m < 0 {
			return 0, 0, false
		}
		switch number {
		case 1:
			seconds = int64(value)
		case 2:
			nanos = int64(int32(value))
		}
		wire = wire[n+m:]
	}
	return seconds, nanos, true
}

// appendFraction appends nanoseconds in as few groups of three digits as they
// take.
func appendFraction(b []byte, nanos int64) []byte {
	if nanos == 0 {
		return b
	}
	digits := 9
	for nanos%1000 == 0 {
		nanos, digits = nanos/1000, digits-3
	}
	b = append(b, '.')
	at := len(b)
	for range digits {
		b = append(b, '0')
	}
	for i := at + digits - 1; nanos > 0; i-- {
		b[i], nanos = byte('0'+nanos%10), nanos/10
	}
	return b
}

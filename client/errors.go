package client

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"connectrpc.com/connect/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
)

// domain is whose reasons they are.
const domain = "free2talk"

// Reason returns why a call failed, one of the Reason constants, or "" where
// the server gave none: for invalid fields see [Violations], for everything
// else connect.CodeOf. A server newer than this package may give others.
func Reason(err error) string { return info(err).GetReason() }

// Metadata returns the facts that came with the reason, such as room_id with
// IN_ANOTHER_ROOM, or nil.
func Metadata(err error) map[string]string { return info(err).GetMetadata() }

func info(err error) *errdetails.ErrorInfo {
	if d, ok := detail[*errdetails.ErrorInfo](err); ok && d.GetDomain() == domain {
		return d
	}
	return nil
}

// RetryAfter returns how long the server asks to wait before the call is made
// again, and whether it says so at all.
func RetryAfter(err error) (time.Duration, bool) {
	d, ok := detail[*errdetails.RetryInfo](err)
	if !ok || d.GetRetryDelay() == nil {
		return 0, false
	}
	return max(0, d.GetRetryDelay().AsDuration()), true
}

// Violation is one field of a request that was not valid.
type Violation struct {
	Field   string // the path in the contract's spelling, such as room.languages[1]; empty for the request as a whole
	Message string // for people
}

// Violations returns what was wrong with a request, or nil.
func Violations(err error) []Violation {
	d, ok := detail[*validate.Violations](err)
	if !ok {
		return nil
	}
	violations := make([]Violation, 0, len(d.GetViolations()))
	for _, v := range d.GetViolations() {
		violations = append(violations, Violation{Field: path(v.GetField()), Message: v.GetMessage()})
	}
	return violations
}

// path spells a field as protovalidate does.
func path(field *validate.FieldPath) string {
	var b strings.Builder
	for i, element := range field.GetElements() {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(element.GetFieldName())
		if key, ok := subscript(element); ok {
			b.WriteString("[" + key + "]")
		}
	}
	return b.String()
}

func subscript(element *validate.FieldPathElement) (string, bool) {
	switch key := element.GetSubscript().(type) {
	case *validate.FieldPathElement_Index:
		return strconv.FormatUint(key.Index, 10), true
	case *validate.FieldPathElement_BoolKey:
		return strconv.FormatBool(key.BoolKey), true
	case *validate.FieldPathElement_IntKey:
		return strconv.FormatInt(key.IntKey, 10), true
	case *validate.FieldPathElement_UintKey:
		return strconv.FormatUint(key.UintKey, 10), true
	case *validate.FieldPathElement_StringKey:
		return strconv.Quote(key.StringKey), true
	}
	return "", false
}

// detail returns the first detail of type M in the error that err wraps.
func detail[M proto.Message](err error) (found M, ok bool) {
	wire, ok := errors.AsType[*connect.Error](err)
	if !ok || wire == nil {
		return found, false
	}
	kind := found.ProtoReflect()
	for _, d := range wire.Details() {
		if d.Type != string(kind.Descriptor().FullName()) {
			continue
		}
		message, isM := kind.New().Interface().(M)
		if isM && proto.Unmarshal(d.Value, message) == nil {
			return message, true
		}
	}
	return found, false
}

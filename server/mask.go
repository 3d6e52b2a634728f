package server

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/free2talk/free2talk/server/talk"
)

// mask is the set of fields that an update names.
type mask map[string]bool

// readMask returns which of the fields of msg that clients may change an
// update names: those of paths, or, where it has none, those that are set. It
// returns an InvalidInput for a path that is unknown, that the server sets, or
// that is named twice.
func readMask(msg proto.Message, paths *fieldmaskpb.FieldMask, editable ...string) (mask, error) {
	if len(paths.GetPaths()) == 0 {
		return fieldsSet(msg.ProtoReflect(), editable), nil
	}
	named := mask{}
	for _, path := range paths.GetPaths() {
		if named[path] || !slices.Contains(editable, path) {
			return nil, &talk.InvalidInput{
				Field:    "update_mask",
				Sentence: "may name each of these once: " + strings.Join(editable, ", "),
			}
		}
		named[path] = true
	}
	return named, nil
}

func fieldsSet(msg protoreflect.Message, editable []string) mask {
	set := mask{}
	msg.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if name := string(field.Name()); slices.Contains(editable, name) {
			set[name] = true
		}
		return true
	})
	return set
}

// named returns value where the mask names the field, and nil where it does not.
func named[T any](m mask, field string, value T) *T {
	if !m[field] {
		return nil
	}
	return &value
}

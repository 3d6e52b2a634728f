// Package proto_test holds the contract to its promises: what clients and the
// server rely on is compared with the descriptors in the generated code.
package proto_test

import (
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/bufbuild/protocompile"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
)

func TestVendored(t *testing.T) {
	t.Parallel()
	t.Run("protovalidate's rules are those that the server checks", func(t *testing.T) {
		t.Parallel()
		got, want := descriptor(t, compile(t, "buf/validate/validate.proto")), descriptor(t, validate.File_buf_validate_validate_proto)
		if got != want {
			t.Error("proto/buf/validate/validate.proto is not what buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go was generated from: print it again")
		}
	})
	t.Run("the health protocol is that of the messages that the server sends", func(t *testing.T) {
		t.Parallel()
		got, want := descriptor(t, compile(t, "grpc/health/v1/health.proto")), descriptor(t, healthv1.File_grpc_health_v1_health_proto)
		if got != want {
			t.Error("proto/grpc/health/v1/health.proto is not what google.golang.org/grpc was generated from: print it again")
		}
	})
	t.Run("the generated code holds the schema as it is written", func(t *testing.T) {
		t.Parallel()
		for _, file := range files {
			if descriptor(t, compile(t, file.Path())) != descriptor(t, file) {
				t.Errorf("%s is not what its Go code was generated from: generate it again", file.Path())
			}
		}
	})
}

// compile reads a file of this directory as buf does.
func compile(t *testing.T, path string) protoreflect.FileDescriptor {
	t.Helper()
	compiler := protocompile.Compiler{Resolver: protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{"."}})}
	files, err := compiler.Compile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return files[0]
}

// descriptor returns the file as bytes, the same for the same content.
func descriptor(t *testing.T, file protoreflect.FileDescriptor) string {
	t.Helper()
	// Once to bytes and back, so that options which are extensions are of the types that Go knows.
	first, err := proto.Marshal(protodesc.ToFileDescriptorProto(file))
	if err != nil {
		t.Fatal(err)
	}
	known := protodesc.ToFileDescriptorProto(file)
	proto.Reset(known)
	if err := proto.Unmarshal(first, known); err != nil {
		t.Fatal(err)
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(known)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

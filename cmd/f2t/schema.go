package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"connectrpc.com/connect/v2"
	"connectrpc.com/grpcreflect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/free2talk/free2talk/client"
	adminv1 "github.com/free2talk/free2talk/gen/free2talk/admin/v1"
	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
)

// schema is every RPC that a server has.
type schema struct {
	methods []protoreflect.MethodDescriptor
	types   *dynamicpb.Types
}

// schema asks the server what it has. Where it does not say, this program's
// own contract is what it goes by.
func (a *app) schema(ctx context.Context) (*schema, error) {
	ctx, cancel := a.bounded(ctx)
	defer cancel()
	c, err := client.New(a.address(), a.http2(), client.WithUserAgent("f2t"))
	if err != nil {
		return nil, failf(exitUsage, "%q is no server: it begins with http:// or https://", a.address())
	}
	read, err := reflected(ctx, c.Conn())
	if err != nil {
		if connect.CodeOf(err) != connect.CodeUnavailable { // else the call itself will tell
			a.notef("the server does not say what it has (%s): going by this program's contract", oneLine(err.Error()))
		}
		return compiledIn(), nil
	}
	return read, nil
}

// reflected asks for all services and the files that they are in.
func reflected(ctx context.Context, conn *connect.Client) (*schema, error) {
	stream := grpcreflect.NewClient(conn).NewStream(ctx)
	defer func() { _ = stream.Close() }() // everything was read, or the error says more
	names, err := stream.ListServices()
	if err != nil {
		return nil, err
	}
	files := map[string]*descriptorpb.FileDescriptorProto{}
	add := func(found []*descriptorpb.FileDescriptorProto) {
		for _, f := range found {
			files[f.GetName()] = f
		}
	}
	for _, name := range names {
		found, err := stream.FileContainingSymbol(name)
		if err != nil {
			return nil, err
		}
		add(found)
	}
	for missing := lacking(files); missing != ""; missing = lacking(files) {
		found, err := stream.FileByFilename(missing)
		if err != nil {
			return nil, err
		}
		add(found)
		if _, ok := files[missing]; !ok {
			return nil, fmt.Errorf("the server does not give %s", missing)
		}
	}
	registry, err := protodesc.NewFiles(&descriptorpb.FileDescriptorSet{File: slices.Collect(maps.Values(files))})
	if err != nil {
		return nil, err
	}
	return schemaOf(registry, names), nil
}

// lacking is a file that another imports and that is not there, or "".
func lacking(files map[string]*descriptorpb.FileDescriptorProto) string {
	for _, f := range files {
		for _, imported := range f.GetDependency() {
			if files[imported] == nil {
				return imported
			}
		}
	}
	return ""
}

func compiledIn() *schema {
	var names []protoreflect.FullName
	for _, file := range []protoreflect.FileDescriptor{
		free2talkv1.File_free2talk_v1_auth_service_proto, free2talkv1.File_free2talk_v1_user_service_proto,
		free2talkv1.File_free2talk_v1_room_service_proto, free2talkv1.File_free2talk_v1_presence_service_proto,
		adminv1.File_free2talk_admin_v1_admin_service_proto,
	} {
		names = append(names, file.Services().Get(0).FullName())
	}
	return schemaOf(protoregistry.GlobalFiles, names)
}

func schemaOf(files *protoregistry.Files, services []protoreflect.FullName) *schema {
	s := &schema{types: dynamicpb.NewTypes(files)}
	for _, name := range services {
		found, err := files.FindDescriptorByName(name)
		service, ok := found.(protoreflect.ServiceDescriptor)
		if err != nil || !ok {
			continue // a name that is no service is nothing to call
		}
		for i := range service.Methods().Len() {
			s.methods = append(s.methods, service.Methods().Get(i))
		}
	}
	slices.SortFunc(s.methods, func(one, other protoreflect.MethodDescriptor) int {
		return strings.Compare(procedure(one), procedure(other))
	})
	return s
}

// procedure is how a method is called over the wire.
func procedure(m protoreflect.MethodDescriptor) string {
	return "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
}

// find returns the method of a name: of the whole one, or of as much of its
// end as tells it from the others.
func (s *schema) find(name string) (protoreflect.MethodDescriptor, error) {
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(strings.Trim(s, "/"), "/", ".")) }
	var found []protoreflect.MethodDescriptor
	for _, m := range s.methods {
		whole, wanted := plain(procedure(m)), plain(name)
		if whole == wanted {
			return m, nil
		}
		if strings.HasSuffix(whole, "."+wanted) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return nil, failf(exitUsage, "the server has no method %q: `f2t call` lists those that it has", name)
	}
	var names []string
	for _, m := range found {
		names = append(names, strings.Trim(procedure(m), "/"))
	}
	return nil, failf(exitUsage, "%q is more than one method: %s", name, strings.Join(names, ", "))
}

// spec is what the transport needs to know of a method.
func spec(m protoreflect.MethodDescriptor) connect.Spec {
	s := connect.Spec{Schema: m, Procedure: procedure(m), StreamType: connect.StreamTypeUnary}
	if m.IsStreamingClient() {
		s.StreamType |= connect.StreamTypeClient
	}
	if m.IsStreamingServer() {
		s.StreamType |= connect.StreamTypeServer
	}
	if options, ok := m.Options().(*descriptorpb.MethodOptions); ok {
		s.IdempotencyLevel = connect.IdempotencyLevel(options.GetIdempotencyLevel())
	}
	return s
}

// access is who may call a method, as the contract says.
func access(m protoreflect.MethodDescriptor) string {
	policy, ok := proto.GetExtension(m.Options(), free2talkv1.E_Policy).(*free2talkv1.Policy)
	if !ok || policy == nil {
		return "anybody"
	}
	return map[free2talkv1.Access]string{
		free2talkv1.Access_ACCESS_PUBLIC: "anybody", free2talkv1.Access_ACCESS_USER: "users", free2talkv1.Access_ACCESS_ADMIN: "administrators",
	}[policy.GetAccess()]
}

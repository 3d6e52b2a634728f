package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"strings"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/free2talk/free2talk/client"
)

type callCmd struct {
	Method string `arg:"" optional:"" predictor:"method" help:"Such as ListRooms, RoomService.ListRooms or free2talk.v1.RoomService/ListRooms. Without: all that there are."`
	JSON   string `arg:"" optional:"" name:"json" help:"The request, {} if it is left out; - reads it from standard input."`
}

// Help shows how it is used.
func (callCmd) Help() string {
	return "Knows from the server's reflection what it has. The answer is JSON; of a stream, one line for each message, until it ends or Ctrl-C.\n\n" +
		examples("f2t call", `f2t call ListRooms '{"language": "es"}'`, `f2t call WatchRooms`, `echo '{"id": "…"}' | f2t call GetRoom -`)
}

// Run calls.
func (c callCmd) Run(ctx context.Context, a *app) error {
	s, err := a.schema(ctx)
	if err != nil {
		return err
	}
	if c.Method == "" {
		return c.list(a, s)
	}
	method, err := s.find(c.Method)
	if err != nil {
		return err
	}
	requests, err := c.requests(ctx, a, s, method)
	if err != nil {
		return err
	}
	var opts []client.Option
	if method.IsStreamingClient() {
		opts = append(opts, a.http2())
	}
	if _, err := a.profile(); err != nil {
		return err
	}
	speaks, err := a.client(opts...)
	if err != nil {
		return err
	}
	call := &dynamicCall{a: a, schema: s, method: method, conn: speaks.Conn()}
	if method.IsStreamingClient() || method.IsStreamingServer() {
		return call.stream(ctx, requests)
	}
	return call.unary(ctx, requests[0])
}

func (callCmd) list(a *app, s *schema) error {
	type known struct {
		Method string `json:"method"`
		Stream bool   `json:"stream"`
		Access string `json:"access"`
	}
	all := make([]known, len(s.methods))
	for i, m := range s.methods {
		all[i] = known{strings.Trim(procedure(m), "/"), m.IsStreamingServer() || m.IsStreamingClient(), access(m)}
	}
	if a.json() {
		return a.value(all)
	}
	g := a.grid("method", "kind", "for")
	for _, m := range all {
		kind := "call"
		if m.Stream {
			kind = "stream"
		}
		g.row(m.Method, kind, m.Access)
	}
	return g.print("The server says that it has nothing to call.")
}

// requests reads the messages to send: one, unless the method takes a stream.
func (c callCmd) requests(ctx context.Context, a *app, s *schema, m protoreflect.MethodDescriptor) ([]proto.Message, error) {
	text := or(c.JSON, "{}")
	if c.JSON == "-" {
		read, err := waitFor(ctx, func() (string, error) {
			all, err := io.ReadAll(a.in)
			return string(all), err
		})
		if err != nil {
			return nil, err
		}
		text = read
	}
	var requests []proto.Message
	for decoder := json.NewDecoder(strings.NewReader(text)); ; {
		var raw json.RawMessage
		err := decoder.Decode(&raw)
		if errors.Is(err, io.EOF) {
			break
		}
		message := dynamicpb.NewMessage(m.Input())
		if err == nil {
			err = protojson.UnmarshalOptions{Resolver: s.types}.Unmarshal(raw, message)
		}
		if err != nil {
			return nil, failf(exitUsage, "the request is no %s: %s", m.Input().Name(), oneLine(err.Error()))
		}
		requests = append(requests, message)
	}
	if len(requests) != 1 && !m.IsStreamingClient() {
		return nil, failf(exitUsage, "%s takes one message, not %d", m.Name(), len(requests))
	}
	return requests, nil
}

// dynamicCall is a call of what was not known when this program was built.
type dynamicCall struct {
	a      *app
	schema *schema
	method protoreflect.MethodDescriptor
	conn   *connect.Client
}

func (c *dynamicCall) unary(ctx context.Context, request proto.Message) error {
	ctx, cancel := c.a.bounded(ctx)
	defer cancel()
	reply := dynamicpb.NewMessage(c.method.Output())
	if err := c.conn.CallUnary(ctx, spec(c.method), request, reply); err != nil {
		return err
	}
	text, err := encode(reply, "  ")
	if err != nil {
		return err
	}
	return c.a.say("%s\n", text)
}

func (c *dynamicCall) stream(ctx context.Context, requests []proto.Message) error {
	stream, err := c.open(ctx, requests)
	if err != nil {
		return untilInterrupted(ctx, err)
	}
	defer func() { _ = stream.Close() }() // it has ended, or the error says more
	for {
		reply := dynamicpb.NewMessage(c.method.Output())
		err := stream.Receive(reply)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return untilInterrupted(ctx, err)
		}
		if err := c.a.line(reply); err != nil {
			return err
		}
	}
}

func (c *dynamicCall) open(ctx context.Context, requests []proto.Message) (connect.ClientStream, error) {
	if !c.method.IsStreamingClient() {
		return c.conn.CallServerStream(ctx, spec(c.method), requests[0])
	}
	stream, err := c.conn.CallClientStream(ctx, spec(c.method))
	if err != nil {
		return nil, err
	}
	for _, request := range requests {
		if err := stream.Send(request); err != nil {
			break // what Receive says is why
		}
	}
	return stream, stream.CloseSend()
}

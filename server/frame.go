package server

import (
	"context"
	"fmt"
	"io"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// frame is a message of a stream that is spelled out already: the event, which
// all subscribers share, and the cursor, which may be one subscriber's own.
type frame struct {
	cursor string // base64url; "" where the body has it
	body   []byte // of the stream's codec; shared, and never changed
}

// spell encodes a message for frames.
func spell(m proto.Message, json bool) ([]byte, error) {
	if json {
		return spellJSON(m)
	}
	return proto.Marshal(m)
}

// cursorField is the number that the cursor has in every event's message.
const cursorField = 1

// writeTo writes the frame, the cursor in front. The body is written, not kept.
func (f *frame) writeTo(dst io.Writer, json bool) error {
	body := f.body
	if f.cursor != "" {
		var head []byte
		if json {
			head = append(append([]byte(`{"cursor":"`), f.cursor...), '"')
			if body = body[1:]; len(body) > 1 { // more than the closing brace
				head = append(head, ',')
			}
		} else {
			head = protowire.AppendString(protowire.AppendTag(nil, cursorField, protowire.BytesType), f.cursor)
		}
		if _, err := dst.Write(head); err != nil {
			return err
		}
	}
	_, err := dst.Write(body)
	return err
}

// codecs are Connect's own, which also write frames.
func codecs() []connect.Codec {
	return []connect.Codec{
		binaryCodec{connectproto.NewBinaryCodec()},
		jsonCodec{connectproto.NewJSONCodec()},
	}
}

type binaryCodec struct{ *connectproto.BinaryCodec }

// MarshalWrite writes a message, a frame, or the reply that is spelled already.
func (c binaryCodec) MarshalWrite(ctx context.Context, dst io.Writer, msg any) error {
	if f, ok := msg.(*frame); ok {
		return f.writeTo(dst, false)
	}
	if done, err := writeSpelt(ctx, dst); done {
		return err
	}
	if err := c.BinaryCodec.MarshalWrite(ctx, dst, msg); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return nil
}

type jsonCodec struct{ *connectproto.JSONCodec }

// MarshalWrite writes a message, a frame, or the reply that is spelled already.
func (c jsonCodec) MarshalWrite(ctx context.Context, dst io.Writer, msg any) error {
	if f, ok := msg.(*frame); ok {
		return f.writeTo(dst, true)
	}
	if done, err := writeSpelt(ctx, dst); done {
		return err
	}
	m, ok := msg.(proto.Message)
	if !ok {
		return fmt.Errorf("encode: %T is no message", msg)
	}
	text, err := spellJSON(m)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	_, err = dst.Write(text)
	return err
}

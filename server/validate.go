package server

import (
	"context"

	"connectrpc.com/connect/v2"
	"connectrpc.com/validate"
)

// validate holds each message against the schema's own rules when it is
// received, so the chain above has run by then. Protovalidate's sentences name
// the field and the rule and never the value. What was found valid before is
// not looked at again.
func (s *Server) validate(next connect.ServerFunc) connect.ServerFunc {
	check := newCheck()
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) error {
		return next(ctx, spec, &validStream{ServerStream: stream, check: check, plain: requestFrom(ctx).plain})
	}
}

// validStream is a stream whose messages are valid.
type validStream struct {
	connect.ServerStream

	check connect.ServerStream
	plain *plainCall // of a plain call, else nil
}

// Receive implements [connect.ServerStream].
func (v *validStream) Receive(msg any) error {
	if err := v.ServerStream.Receive(msg); err != nil || v.plain != nil && v.plain.recalled {
		return err
	}
	if err := v.check.Receive(msg); err != nil {
		return err
	}
	if v.plain != nil {
		v.plain.remember(msg)
	}
	return nil
}

// newCheck returns a stream that receives nothing, and looks at the message that
// it is given: it is how the interceptor that knows the rules is asked for
// just that.
func newCheck() (check connect.ServerStream) {
	grab := func(_ context.Context, _ connect.Spec, stream connect.ServerStream) error {
		check = stream
		return nil
	}
	_ = validate.NewServerInterceptor()(grab)(context.Background(), connect.Spec{}, received{})
	return check
}

// received is a stream whose message is there already.
type received struct{ connect.ServerStream }

// Receive implements [connect.ServerStream].
func (received) Receive(any) error { return nil }

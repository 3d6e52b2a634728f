package client

import (
	"context"
	"io"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	free2talkv1 "github.com/free2talk/free2talk/gen/free2talk/v1"
	"github.com/free2talk/free2talk/gen/free2talk/v1/free2talkv1connect"
)

const authorization = "Authorization"

// chain is what stands between the typed clients and the transport.
type chain struct {
	session *session
	clock   Clock
	retries Retries
}

func (c *chain) intercept(next connect.ClientFunc) connect.ClientFunc {
	return func(ctx context.Context, spec connect.Spec) (connect.ClientStream, error) {
		outer, ok := connect.CallInfoForClientContext(ctx)
		if !ok {
			ctx, outer = connect.NewClientContext(ctx)
		}
		if spec.StreamType != connect.StreamTypeUnary {
			return c.stream(ctx, spec, outer, next)
		}
		ctx, cancel := context.WithCancel(ctx)
		return &unary{chain: c, ctx: ctx, cancel: cancel, spec: spec, outer: outer, next: next}, nil
	}
}

// anonymous reports whether a call goes without our token: because the server
// does not look at it, or because the caller brings their own.
func anonymous(spec connect.Spec, header *connect.Header) bool {
	return header.Has(authorization) || policy(spec).GetIgnoresToken()
}

func policy(spec connect.Spec) *free2talkv1.Policy {
	method, ok := spec.Schema.(protoreflect.MethodDescriptor)
	if !ok {
		return nil
	}
	p, _ := proto.GetExtension(method.Options(), free2talkv1.E_Policy).(*free2talkv1.Policy)
	return p
}

// unary is one call as its caller sees it: one request, one answer, and behind
// them as many attempts as it takes.
type unary struct {
	*chain
	ctx    context.Context //nolint:containedctx // a stream lives in the context that opened it
	cancel context.CancelFunc
	spec   connect.Spec
	outer  *connect.CallInfo // the caller's
	next   connect.ClientFunc

	req      any
	received bool
}

// SendHeaders does nothing: the headers go with the message.
func (u *unary) SendHeaders() error { return nil }

// Send remembers the request for the attempts.
func (u *unary) Send(msg any) error {
	u.req = msg
	return nil
}

// CloseSend does nothing: one message is all.
func (u *unary) CloseSend() error { return nil }

// Close gives a call up.
func (u *unary) Close() error {
	u.cancel()
	return nil
}

// Receive makes the call.
func (u *unary) Receive(res any) error {
	if u.received {
		return io.EOF
	}
	u.received = true
	return u.call(res)
}

// call makes attempts until one succeeds or fails for good.
func (u *unary) call(res any) error {
	tokens, err := u.tokens()
	if err != nil {
		return err
	}
	renewed := tokens.Access == ""
	for tries := 1; ; {
		err := u.attempt(tokens, res)
		if err == nil {
			return nil
		}
		if !renewed && Reason(err) == ReasonTokenExpired {
			renewed = true
			if tokens, err = u.session.renew(u.ctx, tokens, err); err != nil {
				return err
			}
			continue
		}
		delay, again := u.retries.after(u.ctx, err, u.spec.IdempotencyLevel, tries)
		if !again || u.clock.Wait(u.ctx, delay) != nil {
			return err
		}
		tries++
	}
}

func (u *unary) tokens() (Tokens, error) {
	if anonymous(u.spec, u.outer.RequestHeader()) {
		return Tokens{}, nil
	}
	return u.session.fresh(u.ctx)
}

// attempt calls once, with headers of its own: what one attempt sent or heard
// does not colour the next, and the caller's headers never hold our token.
func (u *unary) attempt(tokens Tokens, res any) error {
	ctx, info := connect.NewClientContext(u.ctx)
	copyHeader(info.RequestHeader(), u.outer.RequestHeader())
	if tokens.Access != "" {
		info.RequestHeader().Set(authorization, "Bearer "+tokens.Access)
	}
	err := u.exchange(ctx, res)
	report(u.outer, info)
	switch {
	case err == nil:
		return u.learn(tokens, res, info)
	case tokens.Access != "" && Reason(err) == ReasonSessionRevoked:
		_ = u.session.forget(u.ctx, tokens) // the error that matters is the session's end
	}
	return err
}

func (u *unary) exchange(ctx context.Context, res any) error {
	stream, err := u.next(ctx, u.spec)
	if err != nil {
		return err
	}
	defer func() { _ = stream.Close() }() // the answer is read to its end, or the error says more
	if err := stream.Send(u.req); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.Receive(res)
}

// learn takes from an answer what it means for the session.
func (u *unary) learn(tokens Tokens, res any, info *connect.CallInfo) error {
	switch u.spec.Procedure {
	case free2talkv1connect.AuthServiceLogoutProcedure,
		free2talkv1connect.AuthServiceLogoutAllProcedure,
		free2talkv1connect.AuthServiceDeleteAccountProcedure:
		if tokens.Access == "" {
			return nil // not our session
		}
		return u.session.forget(u.ctx, tokens)
	}
	if r, ok := res.(interface{ GetTokens() *free2talkv1.Tokens }); ok && r.GetTokens() != nil {
		return u.session.keep(u.ctx, tokensOf(r.GetTokens()), info.ResponseHeader())
	}
	return nil
}

func copyHeader(to, from *connect.Header) {
	for key, values := range from.All() {
		to.SetValues(key, append([]string(nil), values...))
	}
}

// report shows the caller the attempt as their own call.
func report(outer, info *connect.CallInfo) {
	outer.Spec, outer.PeerAddr, outer.Protocol, outer.Codec = info.Spec, info.PeerAddr, info.Protocol, info.Codec
	outer.RequestEncoding, outer.ResponseEncoding = info.RequestEncoding, info.ResponseEncoding
	outer.SendStats, outer.ReceiveStats = info.SendStats, info.ReceiveStats
	outer.TransportInfo = info.TransportInfo
	replaceHeader(outer.ResponseHeader(), info.ResponseHeader())
	replaceHeader(outer.ResponseTrailer(), info.ResponseTrailer())
}

func replaceHeader(to, from *connect.Header) {
	for key := range to.All() {
		to.Delete(key)
	}
	copyHeader(to, from)
}

// stream opens a stream with the token of the moment. A stream outlives its
// token, and is never opened again by itself.
func (c *chain) stream(ctx context.Context, spec connect.Spec, outer *connect.CallInfo, next connect.ClientFunc) (connect.ClientStream, error) {
	if anonymous(spec, outer.RequestHeader()) {
		return next(ctx, spec)
	}
	tokens, err := c.session.fresh(ctx)
	if err != nil {
		return nil, err
	}
	stream, err := next(ctx, spec)
	if err != nil || tokens.Access == "" {
		return stream, err
	}
	return &authorized{ClientStream: stream, header: outer.RequestHeader(), token: tokens.Access}, nil
}

// authorized puts the token among the headers only while they are sent: the
// caller may use them again.
type authorized struct {
	connect.ClientStream
	header *connect.Header
	token  string
}

func (a *authorized) with(send func() error) error {
	if a.token == "" {
		return send()
	}
	a.header.Set(authorization, "Bearer "+a.token)
	defer a.header.Delete(authorization)
	a.token = ""
	return send()
}

// SendHeaders opens the stream with the token.
func (a *authorized) SendHeaders() error { return a.with(a.ClientStream.SendHeaders) }

// Send sends a message, the first with the token.
func (a *authorized) Send(msg any) error {
	return a.with(func() error { return a.ClientStream.Send(msg) })
}

// CloseSend opens a stream that has nothing to send.
func (a *authorized) CloseSend() error { return a.with(a.ClientStream.CloseSend) }

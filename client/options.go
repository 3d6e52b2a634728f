package client

import (
	"context"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
)

// Option changes how a client is made by [New].
type Option func(*options)

type options struct {
	httpClient connecthttp.HTTPClient
	transport  []connecthttp.Option
	grpc       bool
	userAgent  string
	store      TokenStore
	retries    Retries
	clock      Clock
}

func newOptions(opts []Option) options {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	if o.userAgent == "" {
		o.userAgent = "free2talk-go"
	}
	if o.store == nil {
		o.store = new(memory)
	}
	if o.clock == nil {
		o.clock = wallClock{}
	}
	return o
}

// WithTokens starts the client with the session that tokens belong to, and
// keeps what follows in memory. Zero tokens mean nobody is logged in, which is
// also what there is without this option.
func WithTokens(tokens Tokens) Option {
	return func(o *options) { o.store = &memory{tokens: tokens} }
}

// WithTokenStore keeps the tokens in store, so that they outlive the process.
// Nil means in memory.
func WithTokenStore(store TokenStore) Option { return func(o *options) { o.store = store } }

// WithHTTPClient sends requests by httpClient. Nil means one with the standard
// library's settings, which speaks HTTP/2 to http:// addresses where
// [WithGRPC] is given. Its own time-out, if it has one, would end streams.
func WithHTTPClient(httpClient connecthttp.HTTPClient) Option {
	return func(o *options) { o.httpClient = httpClient }
}

// WithJSON sends and receives JSON instead of binary protobuf, the default.
func WithJSON() Option { return transportOption(connecthttp.WithProtoJSON()) }

// WithGRPC speaks gRPC instead of the Connect protocol, the default. It needs
// HTTP/2 all the way.
func WithGRPC() Option {
	return func(o *options) {
		o.grpc = true
		o.transport = append(o.transport, connecthttp.WithGRPC())
	}
}

// WithGRPCWeb speaks gRPC-Web instead of the Connect protocol, the default.
func WithGRPCWeb() Option { return transportOption(connecthttp.WithGRPCWeb()) }

// WithHTTPGet sends calls that only read as HTTP GET, so that caches on the way
// may answer them; requests whose URL would be over 4 KiB go by POST. It has no
// effect on gRPC and gRPC-Web. The default is POST for all.
func WithHTTPGet() Option {
	return func(o *options) {
		o.transport = append(o.transport, connecthttp.WithHTTPGet(), connecthttp.WithHTTPGetMaxURLSize(4096, true))
	}
}

func transportOption(option connecthttp.Option) Option {
	return func(o *options) { o.transport = append(o.transport, option) }
}

// WithUserAgent is what the account's list of sessions shows this device as.
// Empty means free2talk-go.
func WithUserAgent(name string) Option { return func(o *options) { o.userAgent = name } }

// WithRetries changes when calls are made again. Zero fields have the defaults
// that [Retries] names.
func WithRetries(retries Retries) Option { return func(o *options) { o.retries = retries } }

// WithClock goes by another clock than the machine's, for tests. Nil means the
// machine's.
func WithClock(clock Clock) Option { return func(o *options) { o.clock = clock } }

// Clock is the time that a client goes by.
type Clock interface {
	// Now is the time.
	Now() time.Time
	// Wait returns nil after d, or the error of ctx where that ends first.
	Wait(ctx context.Context, d time.Duration) error
}

type wallClock struct{}

// Now is the machine's time.
func (wallClock) Now() time.Time { return time.Now() }

// Wait waits for a timer.
func (wallClock) Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// agent names the device, unless the caller of a call did.
func agent(name string) connect.ClientInterceptor {
	return func(next connect.ClientFunc) connect.ClientFunc {
		return func(ctx context.Context, spec connect.Spec) (connect.ClientStream, error) {
			if info, ok := connect.CallInfoForClientContext(ctx); ok && !info.RequestHeader().Has("User-Agent") {
				info.RequestHeader().Set("User-Agent", name)
			}
			return next(ctx, spec)
		}
	}
}

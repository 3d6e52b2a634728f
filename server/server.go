package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpcreflect/v2"
	"github.com/rs/cors"

	"github.com/free2talk/free2talk/server/talk"
)

// Config is what a [Server] is made of.
type Config struct {
	Services Services

	// Live is what streams are made of.
	Live Live
	// Streams bounds how many of them are open.
	Streams StreamLimits

	// Limiter counts calls. Nil means that nothing is limited.
	Limiter talk.Limiter
	// Limits are the numbers it counts against. Nil means [DefaultLimits].
	Limits Limits

	// Identify says who calls. Nil means Services.Accounts.
	Identify Identifier
	// Role reads a caller's role, from the truth. Nil means that nobody is an administrator.
	Role func(context.Context, talk.Caller) (talk.Role, error)
	// JWKS returns the public keys of the access tokens. Nil means that none are published.
	JWKS func() ([]byte, error)
	// Ready returns why the server should get no traffic. Nil means that nothing
	// but draining keeps it from it.
	Ready func(context.Context) error

	// TrustedProxies are the peers whose X-Forwarded-For, X-Forwarded-Proto and
	// X-Request-Id are believed. Nil means none.
	TrustedProxies []netip.Prefix
	// AllowedOrigins are the sites whose scripts may call, as scheme://host[:port],
	// or "*" for all, without credentials. Nil means none but our own.
	AllowedOrigins []string

	// App is the web app that browsers are shown, index.html at its top. Its files
	// are read once. Nil means that there is none.
	App fs.FS
	// TLS is what connections are secured with. Nil means that they are not: then
	// a proxy does it.
	TLS *tls.Config

	// DrainDelay is how long a server that drains still takes calls, so that load
	// balancers have seen it. Zero means not at all.
	DrainDelay time.Duration

	// About is for administrators.
	About About

	// Telemetry measures. Nil means that nothing is measured.
	Telemetry *Telemetry
	// Log takes the access log. Nil means slog's default.
	Log *slog.Logger
}

// Server is the product on the wire: an [http.Handler] and the [http.Server]
// around it. Make it with [New].
type Server struct {
	config     Config
	identifier Identifier
	observe    connect.ServerInterceptor

	rules    map[string]*rules // by procedure
	services []string          // "/package.Service/", of all that there are
	noRules  *rules

	rpc     http.Handler // Connect, capped and chained
	lane    *lane        // past Connect's transport
	pages   http.Handler // everything that is no RPC
	cors    *cors.Cors
	origins *http.CrossOriginProtection
	handler http.Handler
	front   *front

	streams    *streams
	carried    carried
	calls      atomic.Int64 // under way, those aside whose streams go on
	draining   atomic.Bool
	drained    chan struct{} // closed when draining begins
	drainOnce  sync.Once
	retired    chan struct{} // closed when another server has taken over
	retireOnce sync.Once
}

// Limits of connections, beside those of body.go.
const (
	headerWithin  = 10 * time.Second
	idleFor       = 2 * time.Minute
	headersMost   = 16 << 10        // bytes
	pingAfter     = 5 * time.Second // of silence on HTTP/2; a cut line is noticed after two of them
	compressLeast = 1 << 10         // bytes; less is not worth the CPU
	shutdownMost  = 15 * time.Second
	leaveOver     = 3 * time.Second // over how long a draining node sends its streams away
)

// New assembles a server. It refuses an RPC that has no policy, and names all
// of them.
func New(c Config) (*Server, error) {
	live := &liveParts{Live: c.Live, cursors: newCursors(c.Live.HistoryID), streams: newStreams(c.Streams)}
	s, err := newServer(c, func(srv *connect.Server) { register(srv, &c, live) })
	if err != nil {
		return nil, err
	}
	s.streams = live.streams
	s.streams.check = c.Live.Ended
	if err := c.Telemetry.live(s.streams, &live.Live); err != nil {
		return nil, err
	}
	return s, nil
}

func newServer(c Config, register func(*connect.Server)) (*Server, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Limits == nil {
		c.Limits = DefaultLimits()
	}
	s := &Server{config: c, identifier: c.Identify, drained: make(chan struct{}), retired: make(chan struct{}), streams: newStreams(c.Streams)}
	if s.identifier == nil {
		s.identifier = c.Services.Accounts
	}
	origins, err := newOrigins(c.AllowedOrigins)
	if err := errors.Join(err, c.Limits.check()); err != nil {
		return nil, err
	}
	s.origins, s.cors = origins, newCORS(c.AllowedOrigins)
	if s.observe, err = c.Telemetry.interceptor(s); err != nil {
		return nil, err
	}
	if err := s.mount(register); err != nil {
		return nil, err
	}
	s.front = &front{}
	s.front.http = s.newHTTP(s.front)
	s.front.serves.Store(s)
	return s, nil
}

// mount registers all services behind the chain and reads their policies.
func (s *Server) mount(register func(*connect.Server)) error {
	srv := connect.NewServer(s.interceptors()...)
	register(srv)
	s.registerHealth(srv)
	grpcreflect.Register(srv)
	srv.SetUnknownHandler(func(context.Context, connect.Spec, connect.ServerStream) error {
		return connect.NewError(connect.CodeUnimplemented, sentenceNoSuchCall)
	})
	all, err := allRules(srv, s.config.Limits)
	if err != nil {
		return err
	}
	s.rules, s.noRules = all, noRules(s.config.Limits)
	for procedure, r := range all {
		s.services = append(s.services, procedure[:strings.LastIndexByte(procedure, '/')+1])
		s.config.Telemetry.prepare(r)
		r.plainLogs = s.plainLogs(procedure)
	}
	s.config.Telemetry.prepare(s.noRules)
	mux := http.NewServeMux()
	s.lane = newLane(srv, codecs())
	connecthttp.Mount(mux, srv, connecthttp.WithReadMaxBytes(bodyMost), connecthttp.WithCodecs(codecs()...), connecthttp.WithConditionalOptions(s.compression))
	s.rpc = mux
	if s.pages, err = s.newPages(s.config.App); err != nil {
		return err
	}
	s.handler = s.cors.Handler(http.HandlerFunc(s.route))
	return nil
}

// compression spares what costs more than it saves: small answers, and events,
// which 2.8 times the CPU would buy little. Answers with secrets are never
// compressed, as their length would tell about them.
func (s *Server) compression(spec connect.Spec) []connecthttp.Option {
	r := s.rulesFor(spec.Procedure)
	if spec.StreamType != connect.StreamTypeUnary || r.secret {
		return []connecthttp.Option{connecthttp.WithCompressMinBytes(math.MaxInt)}
	}
	return []connecthttp.Option{connecthttp.WithCompressMinBytes(compressLeast)}
}

// rulesFor returns the rules of a procedure, also of one that does not exist.
func (s *Server) rulesFor(procedure string) *rules {
	if r, ok := s.rules[procedure]; ok {
		return r
	}
	return s.noRules
}

// ServeHTTP serves everything: RPCs in three protocols, and the few pages. Where
// another server has succeeded this one, that one answers.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.front.ServeHTTP(w, r) }

// answer passes the chain, and counts the call out.
//
//go:noinline // what it needs would lie below a stream for as long as it waits
func (s *Server) answer(w http.ResponseWriter, r *http.Request) *request {
	defer s.calls.Add(-1)
	q := s.newRequest(r)
	q.rules = s.rules[r.URL.Path]
	if q.rules == nil && s.ours(r.URL.Path) {
		q.rules = s.noRules
	}
	s.setHeaders(w.Header(), r, q)
	s.handler.ServeHTTP(w, r.WithContext(withRequest(r.Context(), q)))
	return q
}

// ours reports whether path is inside one of our services.
func (s *Server) ours(path string) bool {
	for _, service := range s.services {
		if strings.HasPrefix(path, service) {
			return true
		}
	}
	return false
}

// route parts RPCs from pages.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	if q := requestFrom(r.Context()); q.rules != nil {
		s.call(w, r, q)
		return
	}
	leaveBody(w, r)
	s.pages.ServeHTTP(w, r)
}

// newHTTP is the one place where connections are configured. There is no
// WriteTimeout: it would end streams. The ReadTimeout costs a call nothing, where
// a deadline that is set in its course is two messages to whoever reads the
// connection over HTTP/2.
func (s *Server) newHTTP(front http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           front,
		Protocols:         protocols,
		ConnContext:       withConn,
		TLSConfig:         s.config.TLS.Clone(), // which nil has too
		ReadHeaderTimeout: headerWithin,
		ReadTimeout:       bodyWithin,
		IdleTimeout:       idleFor,
		MaxHeaderBytes:    headersMost,
		HTTP2:             &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter},
		ErrorLog:          slog.NewLogLogger(s.config.Log.Handler(), slog.LevelWarn),
	}
}

// Listen opens addr for [Server.Serve]. A line that was cut is noticed within
// ten seconds, also while nothing is sent.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	config := net.ListenConfig{Control: noticeCutLines}
	config.SetMultipathTCP(false) // it does not know the option that noticeCutLines sets
	return config.Listen(ctx, "tcp", addr)
}

// Serve answers on l until [Server.Shutdown]; then it returns nil.
func (s *Server) Serve(l net.Listener) error {
	serve := s.front.http.Serve
	if s.config.TLS != nil {
		serve = func(l net.Listener) error { return s.front.http.ServeTLS(l, "", "") }
	}
	if err := serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown drains the server: it is not ready any more, its streams end, the
// unary calls finish, and then everything is closed, whatever is left. It
// takes at most fifteen seconds besides the drain delay, or until ctx is done.
func (s *Server) Shutdown(ctx context.Context) error {
	s.drain()
	if s.config.DrainDelay > 0 {
		select {
		case <-time.After(s.config.DrainDelay):
		case <-ctx.Done():
		}
	}
	s.streams.leave(leaveOver)
	ctx, cancel := context.WithTimeout(ctx, shutdownMost)
	defer cancel()
	// Nobody connects from now on: a proxy would send those whose streams just
	// ended here of all nodes, since here are the fewest.
	err := errors.Join(s.front.http.Shutdown(ctx), s.carried.wait(ctx))
	s.carried.close()
	return errors.Join(err, s.front.http.Close())
}

// Revoked ends the streams of sessions that have ended.
func (s *Server) Revoked(ids ...talk.SessionID) { s.streams.revoked(ids...) }

// Restart sends all streams away, to come back soon: what this node believed of
// itself is no longer so.
func (s *Server) Restart() { s.streams.restart(leaveOver) }

// drain is the one place where the end begins: readiness goes, and every
// stream hears it by the channel.
func (s *Server) drain() {
	s.draining.Store(true)
	s.drainOnce.Do(func() { close(s.drained) })
}

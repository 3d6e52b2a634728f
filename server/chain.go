package server

import "connectrpc.com/connect/v2"

// link is one interceptor of the chain, with the reason for its place.
type link struct {
	name, reason string
	interceptor  connect.ServerInterceptor
}

// chain is the order in which a call passes the interceptors, outermost first;
// the same for unary calls and streams. Everything up to authorize runs on
// headers alone: the body is read where a handler, or validate for it, asks
// for the message.
func (s *Server) chain() []link {
	return []link{
		{"otel", "sees everything, refused calls too", s.observe},
		{"access log", "one record per call, with the code that the caller got", s.access},
		{"translate", "failures become wire errors, so that the two above see codes", translate},
		{"recover", "a panic of anything below becomes an internal error", s.recover},
		{"ending", "what is below was passed when a stream began, and not again when it ends", ending},
		{"deadline", "bounds all that may wait below; nothing above waits", deadline},
		{"identify", "says who calls, without a query, so that limits can count by user", s.identify},
		{"rate limit", "before anything is paid for the payload; refuses the anonymous by address", s.limit},
		{"authorize", "the policy's access against who calls", s.authorize},
		{"validate", "the schema's own rules, when the message is read", s.validate},
		{"stream", "leaves an open stream where its runner finds it", keepOpen},
	}
}

// interceptors is the chain as Connect takes it.
func (s *Server) interceptors() []connect.ServerInterceptor {
	links := s.chain()
	interceptors := make([]connect.ServerInterceptor, len(links))
	for i, l := range links {
		interceptors[i] = l.interceptor
	}
	return interceptors
}

package server

import "net/http"

// Values of headers that every answer shares; nobody changes them in place.
var (
	headerNoSniff    = []string{"nosniff"}
	headerNoReferrer = []string{"no-referrer"}
	headerNoStore    = []string{"no-store"}
	headerHSTS       = []string{"max-age=31536000"}
	headerClose      = []string{"close"}
	headerUnbuffered = []string{"no"}
)

// setHeaders sets what every answer carries, errors of all layers too. The
// keys are canonical, so the map is written directly.
func (s *Server) setHeaders(h http.Header, r *http.Request, q *request) {
	h["X-Content-Type-Options"] = headerNoSniff
	h["Referrer-Policy"] = headerNoReferrer
	h["X-Request-Id"] = []string{q.id}
	if q.secure {
		h["Strict-Transport-Security"] = headerHSTS
	}
	if s.draining.Load() && r.ProtoMajor == 1 {
		h["Connection"] = headerClose // the next call belongs to another node
	}
	if q.rules == nil {
		return
	}
	if q.rules.private || len(r.Header["Authorization"]) > 0 {
		h["Cache-Control"] = headerNoStore
	}
	if q.rules.stream {
		h["X-Accel-Buffering"] = headerUnbuffered // nginx would hold events back
	}
}

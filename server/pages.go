package server

import (
	"io"
	"io/fs"
	"net/http"
)

// welcome is what a person sees who asks the server by curl, or where there is
// no app.
const welcome = `free2talk: practise languages in voice rooms.

This is its API, over Connect (HTTP and JSON), gRPC and gRPC-Web:

  curl 'http://HOST/free2talk.v1.RoomService/ListRooms?encoding=json&message=%7B%7D'
  curl http://HOST/free2talk.v1.AuthService/Login \
       -H 'Content-Type: application/json' \
       -d '{"username": "ada", "password": "..."}'
  grpcurl -plaintext HOST list

  /healthz  the process lives
  /readyz   it wants traffic
  /.well-known/jwks.json  the keys of its access tokens
`

// newPages serves what is no RPC: to browsers the app, where there is one.
func (s *Server) newPages(files fs.FS) (http.Handler, error) {
	app, err := newApp(files)
	if err != nil {
		return nil, err
	}
	own := s.ownPages()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file := app.find(r)
		if app != nil && (file == nil || file == app.index) {
			w.Header().Add("Vary", "Accept") // the same path is a page for some, and for others not
		}
		if file != nil && file == app.index && r.URL.Path == "/" && r.URL.RawQuery == "" {
			w.Header().Set("Link", firstRooms)
		}
		if file != nil {
			file.ServeHTTP(w, r)
			return
		}
		own.ServeHTTP(w, r)
	}), nil
}

// ownPages are those of the server itself.
func (s *Server) ownPages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("GET /.well-known/jwks.json", s.jwks)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = io.WriteString(w, welcome)
	})
	return mux
}

// jwks publishes the keys that verify access tokens. They are made two minutes
// before they sign, so a copy may be kept for one.
func (s *Server) jwks(w http.ResponseWriter, r *http.Request) {
	if s.config.JWKS == nil {
		http.NotFound(w, r)
		return
	}
	keys, err := s.config.JWKS()
	if err != nil {
		s.config.Log.ErrorContext(r.Context(), "jwks", "cause", err)
		http.Error(w, sentenceInternal, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=60")
	_, _ = w.Write(keys)
}

// healthz says that the process lives: it asks nothing and nobody.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) { plainly(w, http.StatusOK, "ok") }

// readyz says whether the process wants traffic, and not why it does not:
// that is in the log.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if err := s.ready(r.Context()); err != nil {
		s.config.Log.WarnContext(r.Context(), "not ready", "cause", err)
		plainly(w, http.StatusServiceUnavailable, "not ready")
		return
	}
	plainly(w, http.StatusOK, "ready")
}

func plainly(w http.ResponseWriter, status int, sentence string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, sentence+"\n")
}

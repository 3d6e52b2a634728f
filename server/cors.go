package server

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	connectcors "connectrpc.com/cors"
	"github.com/rs/cors"
)

// preflightKept is how long a browser may keep what a preflight said.
const preflightKept = 2 * time.Hour

// newCORS lets scripts of the configured origins, and no others, call and read
// what the clients read. Without any origin it lets nobody.
func newCORS(origins []string) *cors.Cors {
	anybody := slices.Contains(origins, "*")
	allowed := make(map[string]bool, len(origins))
	for _, origin := range origins {
		allowed[origin] = true
	}
	options := cors.Options{
		AllowOriginFunc:      func(origin string) bool { return allowed[origin] },
		AllowCredentials:     !anybody, // a browser takes no credentials for everybody
		AllowedMethods:       connectcors.AllowedMethods(),
		AllowedHeaders:       append(connectcors.AllowedHeaders(), "Authorization", "X-Request-Id", "Traceparent", "Tracestate"),
		ExposedHeaders:       append(connectcors.ExposedHeaders(), "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"),
		MaxAge:               int(preflightKept / time.Second),
		OptionsSuccessStatus: http.StatusNoContent,
	}
	if anybody {
		options.AllowOriginFunc, options.AllowedOrigins = nil, []string{"*"}
	}
	return cors.New(options)
}

// newOrigins judges what browsers say of the site that made them call.
func newOrigins(origins []string) (*http.CrossOriginProtection, error) {
	protection := http.NewCrossOriginProtection()
	for _, origin := range origins {
		if origin == "*" {
			continue // may read, never with the cookie
		}
		if u, err := url.Parse(origin); err != nil || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("allowed origin %q: want scheme://host[:port]", origin)
		}
		if err := protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("allowed origin %q: %w", origin, err)
		}
	}
	return protection, nil
}

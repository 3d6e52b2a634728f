package main

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestProbe(t *testing.T) {
	t.Parallel()

	for _, c := range []struct {
		name string
		code int
		ok   bool
	}{
		{"200 is well", http.StatusOK, true},
		{"503 is not", http.StatusServiceUnavailable, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()

			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.code)
			}))
			defer server.Close()

			if err := probe(server.URL); (err == nil) != c.ok {
				t.Errorf("probe() = %v", err)
			}
		})
	}

	t.Run("nobody there is not", func(t *testing.T) {
		t.Parallel()

		server := httptest.NewServer(nil)
		server.Close()

		if err := probe(server.URL); err == nil {
			t.Error("probe() = nil")
		}
	})
}

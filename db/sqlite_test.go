package db_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/internal/testenv"
)

// The driver may say that the context ended though the statement ran: the one
// connection that writes is never left in a transaction.
func TestCallsThatAreGivenUpLeaveTheWriterFree(t *testing.T) {
	t.Parallel()
	store := open(t, db.Config{URL: file(t)})
	peopled(t, store)
	for round := range testenv.Effort(300, 5000) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(rand.N(500*time.Microsecond), cancel)
		_ = edit(ctx, store, full, ada, "given up")
		cancel()
		if err := edit(t.Context(), store, full, ada, "done"); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
	}
}

// Package testenv gives each test a private corner of real servers: a
// database of its own in the shared Postgres, a key prefix in the shared
// Redis, or a server of its own to freeze and kill.
//
// The shared servers are started once for a whole run of `go test`:
//
//	make test
//	go run ./internal/testenv/run -- go test -race ./db/...
//
// and a test says what it needs:
//
//	func TestSeats(t *testing.T) {
//		t.Parallel()
//		store := db.Open(testenv.Postgres(t))     // empty, nobody else's
//		url, prefix := testenv.Redis(t)           // shared, apart by prefix
//
// A test that breaks its server takes one for itself:
//
//	redis := testenv.StartRedis(t)
//	redis.Stop()                                  // hangs: open, and silent
//	redis.Cont()
//	redis.Kill()                                  // refuses connections
//	redis.Restart()                               // same port, empty
//
// What is shared must be left usable: no FLUSHALL, no CLIENT KILL without an
// id, no CONFIG SET. Postgres's transaction ids are shared by all databases of
// a server, so a transaction held open in one test delays readers by
// pg_snapshot_xmin in all others: such a test belongs on [StartPostgres].
//
// Where the shared servers are missing a test fails and says how to get
// them; it never skips.
package testenv

package db_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
)

// until waits for something that another process does.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(5 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("never: %s", what)
		}
	}
}

// count runs a query that counts.
func count(t *testing.T, store *db.Store, query string) int {
	t.Helper()
	var n int
	if err := store.DB().NewRaw(query).Scan(context.Background(), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// busy counts what other connections to this database do.
const busy = `
	SELECT count(*)
	FROM pg_stat_activity
	WHERE datname = current_database()
	  AND pid <> pg_backend_pid()
	  AND backend_type = 'client backend'
	  AND state <> 'idle'`

func edit(ctx context.Context, store talk.Store, room talk.RoomID, by talk.UserID, name string) error {
	_, err := store.Change(ctx, talk.Scope{Rooms: []talk.RoomID{room}}, func(s *talk.State) error {
		r, err := s.Room(room)
		if err != nil {
			return err
		}
		return r.Edit(by, talk.RoomEdit{Name: &name}, s.Now)
	})
	return err
}

func TestChecklist57_a_deadline_ends_the_wait_for_a_lock_on_the_server_too(t *testing.T) {
	t.Parallel()
	dsn := testenv.Postgres(t)
	first, second := open(t, db.Config{URL: dsn}), open(t, db.Config{URL: dsn})
	peopled(t, first)
	held, release := make(chan struct{}), make(chan struct{})
	var holder sync.WaitGroup
	holder.Go(func() {
		_, err := first.Change(t.Context(), talk.Scope{Rooms: []talk.RoomID{full}}, func(*talk.State) error {
			close(held)
			<-release
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-held
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		began := time.Now()
		err := edit(ctx, second, full, ada, "late")
		took := time.Since(began)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || took > time.Second {
			t.Errorf("got %v after %v", err, took)
		}
	}
	until(t, "nothing waits for the lock", func() bool { // the holder itself is idle in its transaction
		return count(t, second, busy+" AND state <> 'idle in transaction'") == 0
	})
	close(release)
	holder.Wait()
	if err := edit(t.Context(), second, full, ada, "early"); err != nil {
		t.Error(err)
	}
}

func TestChecklist58_a_client_that_goes_away_leaves_all_or_nothing(t *testing.T) {
	t.Parallel()
	dsn := testenv.Postgres(t)
	store, other := open(t, db.Config{URL: dsn}), open(t, db.Config{URL: dsn})
	peopled(t, store)
	for round := range 30 {
		before := view(t, other)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := store.Change(ctx, talk.Scope{Rooms: []talk.RoomID{full}, Members: true}, func(s *talk.State) error {
			r, err := s.Room(full)
			if err != nil {
				return err
			}
			if round%3 == 0 {
				cancel() // between the lock and the write
			} else {
				time.AfterFunc(time.Duration(round)*20*time.Microsecond, cancel) // somewhere in the write
			}
			return r.Transfer(r.Owner.ID, r.Participants[round%2].User.ID, s.Now)
		})
		cancel()
		until(t, "the transaction is over", func() bool { return count(t, other, busy) == 0 })
		after := view(t, other)
		moved := before.Owner.ID != after.Owner.ID
		if moved != (before.Version != after.Version) {
			t.Fatalf("half a change: %+v, then %+v", before, after)
		}
		if err == nil && !moved && before.Participants[round%2].User.ID != before.Owner.ID {
			t.Fatal("an acknowledged change was lost")
		}
	}
}

func view(t *testing.T, store *db.Store) talk.RoomView {
	t.Helper()
	v, err := store.Room(t.Context(), full)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A session's time of revocation is taken before its change commits: other
// nodes look back as far as to the oldest change under way.
func TestAChangeUnderWayIsPending(t *testing.T) {
	t.Parallel()
	store := open(t, db.Config{URL: testenv.Postgres(t)})
	peopled(t, store)
	pending := func() time.Time {
		t.Helper()
		at, err := store.Pending(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if at := pending(); !at.IsZero() {
		t.Errorf("at rest: %s", at)
	}
	_, err := store.Change(t.Context(), talk.Scope{Users: []talk.UserID{ada}, Sessions: true}, func(s *talk.State) error {
		if at := pending(); at.IsZero() || at.After(s.Now) {
			t.Errorf("pending since %s, decided at %s", at, s.Now)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if at := pending(); !at.IsZero() {
		t.Errorf("afterwards: %s", at)
	}
}

func TestACrowdAtOneDoorHoldsOneConnection(t *testing.T) {
	t.Parallel()
	store := open(t, db.Config{URL: testenv.Postgres(t), MaxConns: 5}) // two of them for calls at once
	peopled(t, store)
	var crowd sync.WaitGroup
	_, err := store.Change(t.Context(), talk.Scope{Rooms: []talk.RoomID{full}}, func(*talk.State) error {
		for range 50 {
			crowd.Go(func() {
				if err := edit(t.Context(), store, full, ada, "crowd"); err != nil {
					t.Error(err)
				}
			})
		}
		for range 20 { // others pass by
			if err := edit(t.Context(), store, other, eve, "passing"); err != nil {
				t.Error(err)
			}
		}
		if used := store.DB().Stats().InUse; used != 1 {
			t.Errorf("%d connections are in use", used)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	crowd.Wait()
}

func TestDeadlocksAndSerializationFailuresAreTriedAgain(t *testing.T) {
	t.Parallel()
	dsn := testenv.Postgres(t)
	store := open(t, db.Config{URL: dsn})
	peopled(t, store)
	// Every third write of a room fails, as if somebody had collided with it.
	for _, statement := range []string{
		`CREATE SEQUENCE collisions`,
		`CREATE FUNCTION collide() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			CASE nextval('collisions') % 3
				WHEN 1 THEN RAISE EXCEPTION 'made up' USING ERRCODE = 'serialization_failure';
				WHEN 2 THEN RAISE EXCEPTION 'made up' USING ERRCODE = 'deadlock_detected';
				ELSE RETURN NEW;
			END CASE;
		END $$`,
		`CREATE TRIGGER collide BEFORE UPDATE ON rooms FOR EACH ROW EXECUTE FUNCTION collide()`,
	} {
		if _, err := store.DB().DB.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	for range 5 {
		if err := edit(t.Context(), store, full, ada, "again"); err != nil {
			t.Fatal(err)
		}
	}
	if tried := count(t, store, "SELECT last_value FROM collisions"); tried != 15 {
		t.Errorf("tried %d times; want 15", tried)
	}
	if version := view(t, store).Version; version != 7 {
		t.Errorf("version %d; want 7", version)
	}
}

func TestAServerThatIsAwayIsUnavailable(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t)
	store := open(t, db.Config{URL: server.DSN()})
	peopled(t, store)
	server.Kill()
	for range 5 {
		_, err := store.Room(t.Context(), full)
		unavailable(t, err)
		unavailable(t, edit(t.Context(), store, full, ada, "lost"))
		_, err = store.Now(t.Context())
		unavailable(t, err)
	}
	server.Restart()
	if err := edit(t.Context(), store, full, ada, "back"); err != nil {
		t.Error(err)
	}
	if got := view(t, store).Name; got != "back" {
		t.Errorf("name %q", got)
	}
}

func unavailable(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, talk.ErrDatabaseUnavailable) {
		t.Errorf("got %v", err)
	}
}

func TestTerminatedConnectionsAreUnavailableAndNothingIsHalf(t *testing.T) {
	t.Parallel()
	dsn := testenv.Postgres(t)
	store, other := open(t, db.Config{URL: dsn}), open(t, db.Config{URL: dsn})
	peopled(t, store)
	before := view(t, other)
	_, err := store.Change(t.Context(), talk.Scope{Rooms: []talk.RoomID{full}}, func(s *talk.State) error {
		count(t, other, `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
		r, err := s.Room(full)
		if err != nil {
			return err
		}
		return r.Transfer(ada, bob, s.Now)
	})
	unavailable(t, err)
	if after := view(t, other); after.Version != before.Version {
		t.Errorf("half a change: %+v", after)
	}
}

func TestTooManyConnectionsAreUnavailable(t *testing.T) {
	t.Parallel()
	server := testenv.StartPostgres(t)
	hog := openEmpty(t, db.Config{URL: server.AdminDSN(), MaxConns: 1000})
	if _, err := hog.DB().Exec("SELECT 1"); err != nil {
		t.Fatal(err)
	}
	var err error
	for range 1000 {
		conn, refused := hog.DB().Conn(t.Context())
		if refused != nil {
			err = refused
			break
		}
		defer conn.Close()
	}
	if err == nil {
		t.Fatal("the server took a thousand connections")
	}
	_, err = openEmpty(t, db.Config{URL: server.DSN()}).Now(t.Context())
	unavailable(t, err)
}

func TestABadURLIsSaidWithoutItsPassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "sqlite://", "postgres://u:canary@[", "postgres://u:canary@h/db?sslmode=canary"} {
		_, err := db.Open(t.Context(), db.Config{URL: url})
		if err == nil || len(err.Error()) > 60 {
			t.Errorf("%q: got %v", url, err)
		}
	}
}

// TestASlowDatabaseIsWaitedFor: opening a connection takes longer than a pool
// may stand still, and each answer while it is opened nearly so. Whoever waits for the
// one connection behind them is not told that the pool is stuck.
func TestASlowDatabaseIsWaitedFor(t *testing.T) {
	t.Parallel()
	dsn := testenv.Postgres(t)
	peopled(t, open(t, db.Config{URL: dsn}))
	wire := delayed(t, dsn, 400*time.Millisecond)
	var errs []error
	for range 10 { // a machine that stands still itself for a third of a second takes another try
		slow := open(t, db.Config{URL: wire, MaxConns: 2}) // one of them for calls
		first, second := make(chan error, 1), make(chan error, 1)
		go func() { first <- edit(t.Context(), slow, full, ada, "Another name") }()
		go func() { second <- edit(t.Context(), slow, other, eve, "Another name") }() // one room's calls would wait elsewhere
		err := errors.Join(<-first, <-second)
		if err == nil {
			return
		}
		errs = append(errs, err)
	}
	t.Error(errs)
}

// TestCallsThatAreGivenUpCloseNoConnectionOfTheNode: by the connection that is
// left a node goes on to say that it lives, however many others are made anew.
func TestCallsThatAreGivenUpCloseNoConnectionOfTheNode(t *testing.T) {
	t.Parallel()
	dsn := testenv.Postgres(t)
	store, watch := open(t, db.Config{URL: dsn}), open(t, db.Config{URL: dsn})
	peopled(t, watch)
	if _, err := store.Renew(t.Context(), "node", true); err != nil {
		t.Fatal(err)
	}
	var ours int
	if err := watch.DB().NewRaw(renews).Scan(t.Context(), &ours); err != nil {
		t.Fatal(err)
	}
	_, err := watch.Change(t.Context(), talk.Scope{Rooms: []talk.RoomID{full}}, func(*talk.State) error {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if err := edit(ctx, store, full, ada, "Another name"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a call that waits: %v", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Renew(t.Context(), "node", false); err != nil {
		t.Fatal(err)
	}
	if left := count(t, watch, fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE pid = %d", ours)); left != 1 {
		t.Error("the node's connection is gone")
	}
}

// renews is the connection to this database that last looked who lives; the store
// has others.
const renews = `
	SELECT pid
	FROM pg_stat_activity
	WHERE datname = current_database()
	  AND pid <> pg_backend_pid()
	  AND query LIKE '%FROM nodes%'`

// delayed is the database behind a wire on which what is sent takes a while.
func delayed(t *testing.T, dsn string, by time.Duration) string {
	t.Helper()
	at, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	behind := at.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", behind)
			if err != nil {
				_ = near.Close()
				return
			}
			go pass(near, far, 0)
			go pass(far, near, by)
		}
	}()
	at.Host, at.RawQuery = listener.Addr().String(), "sslmode=disable"
	return at.String()
}

// pass hands on what comes, each time after a while, until either side ends.
func pass(to, from net.Conn, by time.Duration) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		<-time.After(by)
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

package db_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/internal/testenv"
	"github.com/free2talk/free2talk/server/talk"
)

// callers is how many people join and leave at once.
const callers = 16

// BenchmarkJoinLeave is goal G8: a join and a leave by the store, against the
// same two transactions by bare pgx with its prepared statements, one statement
// a trip as one writes them, and again pipelined as few would. The variants
// take turns; what is reported is medians, and the store's rate over pgx's.
func BenchmarkJoinLeave(b *testing.B) {
	for name, rooms := range map[string]int{"spread_over_rooms": callers, "in_one_room": 1} {
		b.Run(name, func(b *testing.B) {
			store := open(b, db.Config{URL: testenv.Postgres(b)})
			places := crowd(b, store, rooms)
			pool := bare(b, store)
			variants := map[string]func(context.Context, place) error{
				"store":     func(ctx context.Context, p place) error { return byStore(ctx, store, p) },
				"pgx":       func(ctx context.Context, p place) error { return byPgx(ctx, pool, p, oneByOne) },
				"pipelined": func(ctx context.Context, p place) error { return byPgx(ctx, pool, p, pipelined) },
			}
			took := map[string][]float64{}
			for b.Loop() {
				for name, do := range variants {
					took[name] = append(took[name], measure(b, places, do))
				}
			}
			for name := range variants {
				b.ReportMetric(1/median(took[name]), name+"_pairs/s")
			}
			b.ReportMetric(median(took["pgx"])/median(took["store"]), "store/pgx")
			b.ReportMetric(median(took["pipelined"])/median(took["store"]), "store/pipelined")
		})
	}
}

func median(of []float64) float64 {
	slices.Sort(of)
	return of[len(of)/2]
}

// pairs is how many joins and leaves one caller makes in one turn.
const pairs = 25

// measure returns the seconds that one join and leave took, all callers at it.
func measure(b *testing.B, places []place, do func(context.Context, place) error) float64 {
	b.Helper()
	began := time.Now()
	var all sync.WaitGroup
	for _, p := range places {
		all.Go(func() {
			for range pairs {
				if err := do(b.Context(), p); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return time.Since(began).Seconds() / float64(pairs*len(places))
}

// place is who joins which room.
type place struct {
	who  talk.UserID
	room talk.RoomID
}

func crowd(b *testing.B, store *db.Store, rooms int) []place {
	b.Helper()
	places := make([]place, callers)
	opened := make([]talk.RoomID, rooms)
	for i := range rooms {
		opened[i] = talk.RoomID(talk.NewID())
		person(b, store, fmt.Sprintf("owner%d", i), opened[i])
	}
	for i := range places {
		places[i] = place{person(b, store, fmt.Sprintf("guest%d", i), ""), opened[i%rooms]}
	}
	return places
}

func person(b *testing.B, store *db.Store, name string, owns talk.RoomID) talk.UserID {
	b.Helper()
	id := talk.UserID(talk.NewID())
	_, err := store.Change(b.Context(), talk.Scope{}, func(s *talk.State) error {
		u := s.Register(talk.Account{
			User:  talk.User{ID: id, Username: name, Role: talk.RoleUser, CreatedAt: s.Now, UpdatedAt: s.Now},
			Email: name + "@example.org",
		})
		if owns == "" {
			return nil
		}
		spec := talk.NewRoom{Name: "Room of " + name, Languages: []string{"es-mx", "en"}, Level: talk.LevelAny, Capacity: 100}
		_, err := s.OpenRoom(owns, name, spec, u)
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return id
}

func byStore(ctx context.Context, store *db.Store, p place) error {
	scope := talk.Scope{Rooms: []talk.RoomID{p.room}, Users: []talk.UserID{p.who}}
	for _, rule := range []func(*talk.RoomState, *talk.UserState, time.Time) error{
		(*talk.RoomState).Join,
		func(r *talk.RoomState, u *talk.UserState, now time.Time) error {
			r.Leave(u, talk.LeftByThemselves, now)
			return nil
		},
	} {
		_, err := store.Change(ctx, scope, func(s *talk.State) error {
			r, err := s.Room(p.room)
			if err != nil {
				return err
			}
			u, err := s.User(p.who)
			if err != nil {
				return err
			}
			return rule(r, u, s.Now)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// bare is pgx as it comes: prepared statements, no Bun, the same number of connections.
func bare(b *testing.B, store *db.Store) *pgxpool.Pool {
	b.Helper()
	var dsn string
	if err := store.DB().NewRaw("SELECT 'host=' || host(inet_server_addr()) || ' port=' || inet_server_port() || ' dbname=' || current_database() || ' user=' || current_user").Scan(b.Context(), &dsn); err != nil {
		b.Fatal(err)
	}
	pool, err := pgxpool.New(b.Context(), dsn+" sslmode=disable pool_max_conns=20")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	return pool
}

type statement struct {
	sql  string
	args []any
}

// What a join and a leave read, and what each writes: the SQL of the store, by hand.
func reads(p place) []statement {
	rooms, users := []string{string(p.room)}, []string{string(p.who)}
	return []statement{
		{"SELECT * FROM rooms WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE", []any{rooms}},
		{"SELECT * FROM users WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE", []any{users}},
		{`SELECT p.room_id, p.user_id, u.username, u.display_name, u.avatar_url, p.state, p.state_since, p.joined_at
			FROM participants AS p JOIN users AS u ON u.id = p.user_id WHERE p.room_id = ANY($1)
			ORDER BY p.joined_at, p.user_id`, []any{rooms}},
		{`SELECT b.room_id, b.user_id, u.username, u.display_name, u.avatar_url, b.until, b.reason
			FROM bans AS b JOIN users AS u ON u.id = b.user_id WHERE b.room_id = ANY($1) ORDER BY b.until, b.user_id`, []any{rooms}},
		{`SELECT p.user_id, p.room_id, r.owner_id = p.user_id AS owns
			FROM participants AS p JOIN rooms AS r ON r.id = p.room_id WHERE p.user_id = ANY($1)`, []any{users}},
	}
}

func writes(p place, join bool) []statement {
	seat := statement{"DELETE FROM participants WHERE user_id = $1", []any{p.who}}
	if join {
		seat = statement{"INSERT INTO participants (user_id, room_id, state, state_since, joined_at) VALUES ($1, $2, 'connected', now(), now())", []any{p.who, p.room}}
	}
	return []statement{
		{"UPDATE users SET seq = seq + 1 WHERE id = $1", []any{p.who}},
		seat,
		{`UPDATE rooms SET name = $2, topic = '', languages = '["es-mx", "en"]', tongues = ' es es-mx en ', search = lower($2), level = 1,
			capacity = 100, owner_id = owner_id, version = version + 1, seq = seq + 1, updated_at = now() WHERE id = $1`, []any{p.room, "Room of somebody"}},
		{`INSERT INTO events (topic, seq, kind, payload, keys, at) VALUES
			($1, (SELECT seq FROM rooms WHERE id = $2), 'participant_joined', $3, $4, now()),
			($5, (SELECT seq FROM users WHERE id = $6), 'moved', '{}', '[]', now()) RETURNING id`,
			[]any{"room:" + p.room, p.room, `{"room_id": "` + p.room + `", "version": 1, "participant": {"user": {}, "state": "connected"}}`,
				`["room:` + p.room + `", "user:` + talk.RoomID(p.who) + `"]`, "user:" + p.who, p.who}},
	}
}

func byPgx(ctx context.Context, pool *pgxpool.Pool, p place, send func(context.Context, pgx.Tx, []statement) error) error {
	for _, join := range []bool{true, false} {
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if err := send(ctx, tx, reads(p)); err != nil {
				return err
			}
			return send(ctx, tx, writes(p, join))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func oneByOne(ctx context.Context, tx pgx.Tx, statements []statement) error {
	for _, s := range statements {
		rows, err := tx.Query(ctx, s.sql, s.args...)
		if err != nil {
			return err
		}
		for rows.Next() {
			if _, err := rows.Values(); err != nil {
				return err
			}
		}
		if err := rows.Err(); err != nil {
			return err
		}
	}
	return nil
}

func pipelined(ctx context.Context, tx pgx.Tx, statements []statement) error {
	var batch pgx.Batch
	for _, s := range statements {
		batch.Queue(s.sql, s.args...)
	}
	return tx.SendBatch(ctx, &batch).Close()
}

// BenchmarkRead is a room, and a page of twenty among few rooms and among many.
func BenchmarkRead(b *testing.B) {
	for _, n := range []int{1_000, 100_000} {
		store := open(b, db.Config{URL: testenv.Postgres(b), StatementTimeout: time.Minute})
		town(b, store, n)
		for name, q := range map[string]talk.RoomQuery{
			"popular": {Order: talk.Popular, Size: 20}, "newest": {Order: talk.Newest, Size: 20},
			"language": {Order: talk.Popular, Size: 20, Language: "es"}, "rare_text": {Order: talk.Popular, Size: 20, Text: "room 777"},
		} {
			b.Run(fmt.Sprintf("Rooms/%s_of_%d", name, n), func(b *testing.B) {
				for b.Loop() {
					page, err := store.Rooms(b.Context(), q)
					if err != nil || len(page.Rooms) == 0 {
						b.Fatal(page, err)
					}
				}
			})
		}
		page, err := store.Rooms(b.Context(), talk.RoomQuery{Order: talk.Newest, Size: 1})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("Room_of_%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := store.Room(b.Context(), page.Rooms[0].ID); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// town opens n rooms, each with its owner in it.
func town(b *testing.B, store *db.Store, n int) {
	b.Helper()
	_, err := store.DB().DB.ExecContext(b.Context(), fmt.Sprintf(`
		BEGIN;
		CREATE TEMPORARY TABLE plan ON COMMIT DROP AS
			SELECT i, gen_random_uuid() AS owner, gen_random_uuid() AS room,
				(ARRAY['en', 'es', 'es-mx', 'de', 'fr', 'ja', 'zh', 'pt-br'])[1 + i %% 8] AS language
			FROM generate_series(1, %d) AS i;
		INSERT INTO users (id, email, username, created_at, updated_at)
			SELECT owner, i || '@example.org', 'user' || i, now(), now() FROM plan;
		INSERT INTO rooms (id, slug, name, topic, languages, tongues, search, level, capacity, owner_id, version, seq, created_at, updated_at)
			SELECT room, 'room-' || i, 'Room ' || i, 'Talk', jsonb_build_array(language),
				CASE WHEN language LIKE '%%-%%' THEN ' ' || left(language, 2) ELSE '' END || ' ' || language || ' ',
				'room ' || i || E'\ntalk', 1 + i %% 7, 12, owner, 1, 1, now(), now() FROM plan;
		INSERT INTO participants (user_id, room_id, state, state_since, joined_at)
			SELECT owner, room, 'connected', now(), now() FROM plan;
		COMMIT`, n))
	if err == nil {
		_, err = store.DB().DB.ExecContext(b.Context(), "VACUUM ANALYZE")
	}
	if err != nil {
		b.Fatal(err)
	}
}

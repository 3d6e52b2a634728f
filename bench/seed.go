package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/server/talk"
)

// crowd is a database with people in rooms, and what they show to call.
type crowd struct {
	dsn    string
	rooms  []string     // ids
	people []string     // ids; the first ones own the rooms
	tokens []string     // of the first callers
	read   atomic.Int64 // how many rooms were read for the first time, over all turns
}

// How many sit in each room, and how many could.
const (
	seatedPeople = 4
	roomSeats    = 12
)

// The people and rooms of a crowd are numbered: their ids are the number, in
// the shape of a UUID.
const (
	insertPeople = `
		INSERT INTO users (id, email, username, display_name, created_at, updated_at)
		SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'person-' || n || '@example.org', 'person-' || n, 'Person ' || n, now(), now()
		FROM generate_series(0, ? - 1) AS n`
	insertSessions = `
		INSERT INTO sessions (id, user_id, generation, rotated_at, idle_expires_at, absolute_expires_at, created_at, last_used_at)
		SELECT ('00000000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid, ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid,
			1, now(), now() + interval '7 days', now() + interval '90 days', now(), now()
		FROM generate_series(0, ? - 1) AS n`
	insertRooms = `
		INSERT INTO rooms (id, slug, name, topic, languages, tongues, search, level, capacity, owner_id, version, seq, created_at, updated_at)
		SELECT ('00000000-0000-7000-a000-' || lpad(to_hex(n), 12, '0'))::uuid, 'room-' || n || '-aaaaaaaa', 'A room to talk in', 'What one would do with a year off',
			(ARRAY['["es-mx","en"]', '["fr"]', '["de","en"]', '["ja"]'])[n % 4 + 1]::jsonb, (ARRAY[' es es-mx en ', ' fr ', ' de en ', ' ja '])[n % 4 + 1],
			'a room to talk in what one would do with a year off', n % 7 + 1, 12,
			('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 4, 4, now(), now()
		FROM generate_series(0, ? - 1) AS n`
	insertSeats = `
		INSERT INTO participants (user_id, room_id, state, state_since, joined_at)
		SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, ('00000000-0000-7000-a000-' || lpad(to_hex(n % ?), 12, '0'))::uuid,
			'connected', now(), now() + n * interval '1 microsecond'
		FROM generate_series(0, ? - 1) AS n`
)

// newCrowd fills an empty database with rooms, and makes callers who sit nowhere.
func newCrowd(ctx context.Context, dsn string, rooms, callers int) (*crowd, error) {
	store, err := db.Open(ctx, db.Config{URL: dsn, StatementTimeout: 10 * time.Minute})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	if _, err := store.Migrate(ctx, db.Up); err != nil {
		return nil, err
	}
	seated := rooms * seatedPeople
	tx, err := store.DB().BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }() // after the commit it does nothing
	for _, step := range []struct {
		sql  string
		args []any
	}{
		{insertPeople, []any{seated + callers}}, {insertSessions, []any{seated + callers}},
		{insertRooms, []any{rooms}}, {insertSeats, []any{rooms, seated}},
	} {
		if _, err := tx.NewRaw(step.sql, step.args...).Exec(ctx); err != nil {
			return nil, err
		}
	}
	if err := tx.Commit(); err != nil {
		return nil, err
	}
	if _, err := store.DB().NewRaw("VACUUM ANALYZE").Exec(ctx); err != nil {
		return nil, err
	}
	c := &crowd{dsn: dsn}
	for n := range rooms {
		c.rooms = append(c.rooms, fmt.Sprintf("00000000-0000-7000-a000-%012x", n))
	}
	return c, c.sign(ctx, store, seated, callers)
}

// sign makes access tokens for the callers, with the keys of the database.
func (c *crowd) sign(ctx context.Context, store *db.Store, seated, callers int) error {
	now, err := store.Now(ctx)
	if err != nil {
		return err
	}
	keys, err := talk.NewKeyring(store, nil)
	if err != nil {
		return err
	}
	if err := keys.Load(ctx, now); err != nil {
		return err
	}
	tokens := talk.NewTokens(keys, func() time.Time { return now }, "free2talk", "free2talk")
	for n := seated; n < seated+callers; n++ {
		who := fmt.Sprintf("00000000-0000-7000-8000-%012x", n)
		token, _, err := tokens.Access(talk.UserID(who), talk.SessionID(fmt.Sprintf("00000000-0000-7000-9000-%012x", n)), 1, now)
		if err != nil {
			return err
		}
		c.people, c.tokens = append(c.people, who), append(c.tokens, token)
	}
	return nil
}

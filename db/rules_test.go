package db_test

import (
	"strings"
	"testing"

	"github.com/free2talk/free2talk/db"
	"github.com/free2talk/free2talk/server/talk"
)

// ids of the world that the rules are broken in: Ada owns a room of two and
// sits in it with Bob; Eve owns another; Cy sits nowhere and owns a closed one.
const (
	ada    = "01900000-0000-7000-8000-00000000000a"
	bob    = "01900000-0000-7000-8000-00000000000b"
	cy     = "01900000-0000-7000-8000-00000000000c"
	eve    = "01900000-0000-7000-8000-00000000000e"
	full   = "01900000-0000-7000-8000-0000000000f0"
	other  = "01900000-0000-7000-8000-0000000000f1"
	closed = "01900000-0000-7000-8000-0000000000f2"
	fresh  = "01900000-0000-7000-8000-0000000000ff"
)

func peopled(t *testing.T, store *db.Store) {
	t.Helper()
	_, err := store.Change(t.Context(), talk.Scope{}, func(s *talk.State) error {
		people := map[talk.UserID]*talk.UserState{}
		for id, name := range map[talk.UserID]string{ada: "ada", bob: "bob", cy: "cyril", eve: "eve"} {
			people[id] = s.Register(talk.Account{
				User:  talk.User{ID: id, Username: name, Role: talk.RoleUser, CreatedAt: s.Now, UpdatedAt: s.Now},
				Email: name + "@example.org",
			})
		}
		spec := talk.NewRoom{Name: "Room", Languages: []string{"en"}, Level: talk.LevelAny, Capacity: 2}
		first, err := s.OpenRoom(full, "full", spec, people[ada])
		if err != nil {
			return err
		}
		if _, err = s.OpenRoom(other, "other", spec, people[eve]); err != nil {
			return err
		}
		last, err := s.OpenRoom(closed, "closed", spec, people[cy])
		if err != nil {
			return err
		}
		last.Leave(people[cy], talk.LeftByThemselves, s.Now)
		return first.Join(people[bob], s.Now)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Each statement breaks one rule, whoever sends it. The key is the constraint
// that refuses; what stands after a slash only tells them apart.
var refusedStatements = map[string]string{
	"participants_one_room_a_user":       `INSERT INTO participants (user_id, room_id, state, state_since, joined_at) VALUES ('` + bob + `', '` + other + `', 'connected', NOW, NOW)`,
	"participants_one_room_a_user/moved": `UPDATE participants SET user_id = '` + bob + `' WHERE user_id = '` + eve + `'`,
	"participants_user_exists":           `INSERT INTO participants (user_id, room_id, state, state_since, joined_at) VALUES ('` + fresh + `', '` + other + `', 'connected', NOW, NOW)`,
	"participants_room_exists":           `INSERT INTO participants (user_id, room_id, state, state_since, joined_at) VALUES ('` + cy + `', '` + fresh + `', 'connected', NOW, NOW)`,
	"participants_state_known":           `UPDATE participants SET state = 'asleep'`,
	"rooms_capacity_kept":                `INSERT INTO participants (user_id, room_id, state, state_since, joined_at) VALUES ('` + cy + `', '` + full + `', 'connected', NOW, NOW)`,
	"rooms_capacity_kept/moved":          `UPDATE participants SET room_id = '` + full + `' WHERE user_id = '` + eve + `'`,
	"rooms_capacity_least":               `UPDATE rooms SET capacity = 1 WHERE id = '` + other + `'`,
	"rooms_closed_is_empty":              `INSERT INTO participants (user_id, room_id, state, state_since, joined_at) VALUES ('` + cy + `', '` + closed + `', 'connected', NOW, NOW)`,
	"rooms_closed_is_empty/closed":       `UPDATE rooms SET closed_at = NOW, close_reason = 'owner' WHERE id = '` + other + `'`,
	"rooms_closed_has_reason":            `UPDATE rooms SET close_reason = 'owner' WHERE id = '` + other + `'`,
	"rooms_count_is_counted":             `UPDATE rooms SET participant_count = 0 WHERE id = '` + other + `'`,
	"rooms_count_is_counted/new":         `INSERT INTO rooms (id, slug, name, languages, tongues, search, capacity, owner_id, version, seq, created_at, updated_at, participant_count) VALUES ('` + fresh + `', 'x', 'x', '[]', '', '', 2, '` + cy + `', 1, 0, NOW, NOW, 1)`,
	"rooms_owner_is_seated":              `DELETE FROM participants WHERE user_id = '` + ada + `'`,
	"rooms_owner_is_seated/stranger":     `UPDATE rooms SET owner_id = '` + cy + `' WHERE id = '` + full + `'`,
	"rooms_owner_is_seated/elsewhere":    `UPDATE rooms SET owner_id = '` + bob + `' WHERE id = '` + other + `'`,
	"rooms_owner_is_seated/reopened":     `UPDATE rooms SET closed_at = NULL, close_reason = '' WHERE id = '` + closed + `'`,
	"rooms_one_open_an_owner":            `UPDATE rooms SET owner_id = '` + ada + `' WHERE id = '` + other + `'`,
	"rooms_slug_key":                     `UPDATE rooms SET slug = 'full' WHERE id = '` + other + `'`,
	"rooms_slug_length":                  `UPDATE rooms SET slug = '' WHERE id = '` + other + `'`,
	"rooms_name_length":                  `UPDATE rooms SET name = ''`,
	"rooms_level_known":                  `UPDATE rooms SET level = 8`,
	"rooms_languages_are_a_list":         `UPDATE rooms SET languages = '{}'`,
	"users_email_key":                    `UPDATE users SET email = 'ADA@example.org' WHERE id = '` + bob + `'`,
	"users_username_key":                 `UPDATE users SET username = 'ADA' WHERE id = '` + bob + `'`,
	"users_erased_is_nameless":           `UPDATE users SET deleted_at = NOW WHERE id = '` + cy + `'`,
	"users_erased_is_nameless/living":    `UPDATE users SET email = NULL WHERE id = '` + cy + `'`,
	"users_username_shape":               `UPDATE users SET username = 'a b' WHERE id = '` + cy + `'`,
	"users_email_length":                 `UPDATE users SET email = 'x' WHERE id = '` + cy + `'`,
	"users_role_known":                   `UPDATE users SET role = 3`,
	"users_ban_is_whole":                 `UPDATE users SET ban_reason = 'x'`,
	"sessions_generation_least":          `INSERT INTO sessions (id, user_id, generation, rotated_at, idle_expires_at, absolute_expires_at, created_at, last_used_at) VALUES ('` + fresh + `', '` + cy + `', 0, NOW, NOW, NOW, NOW, NOW)`,
	"sessions_user_exists":               `INSERT INTO sessions (id, user_id, generation, rotated_at, idle_expires_at, absolute_expires_at, created_at, last_used_at) VALUES ('` + fresh + `', '` + fresh + `', 1, NOW, NOW, NOW, NOW, NOW)`,
	"sessions_confirmed_was_made":        `INSERT INTO sessions (id, user_id, generation, confirmed_generation, rotated_at, idle_expires_at, absolute_expires_at, created_at, last_used_at) VALUES ('` + fresh + `', '` + cy + `', 1, 2, NOW, NOW, NOW, NOW, NOW)`,
	"events_topic_seq_key":               `INSERT INTO events (topic, seq, kind, payload, at) SELECT topic, seq, kind, payload, at FROM events WHERE topic <> '' LIMIT 1`,
	"audit_only_grows":                   `UPDATE audit SET action = 'x'`,
	"audit_only_grows/deleted":           `DELETE FROM audit`,
	"audit_one_successor":                `INSERT INTO audit (at, action, prev_hash, hash) SELECT at, action, prev_hash, OTHER FROM audit`,
	"bans_user_exists":                   `INSERT INTO bans VALUES ('` + full + `', '` + fresh + `', NOW, '')`,
	"nodes_incarnation_least":            `INSERT INTO nodes (id, incarnation, seen_at, swept_at) VALUES ('n', 0, NOW, NULL)`,
	"keys_sealed_given":                  `INSERT INTO keys VALUES ('k', 'sign', '', NOW, NOW)`,
}

// unnamed are the rules that SQLite keeps without telling their names.
var unnamed = map[string]string{
	"participants_one_room_a_user": "participants.user_id",
	"rooms_one_open_an_owner":      "rooms.owner_id",
	"rooms_slug_key":               "rooms.slug",
	"rooms_capacity_least":         "rooms_capacity_",
	"events_topic_seq_key":         "events.topic, events.seq",
	"audit_one_successor":          "audit.prev_hash",
	"keys_sealed_given":            "keys.sealed",
	"participants_user_exists":     "FOREIGN KEY",
	"participants_room_exists":     "FOREIGN KEY",
	"rooms_owner_is_seated":        "FOREIGN KEY",
	"sessions_user_exists":         "FOREIGN KEY",
	"bans_user_exists":             "FOREIGN KEY",
}

func TestTheDatabaseItselfRefuses(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		store := open(t, db.Config{URL: dsn})
		peopled(t, store)
		now, sealed, another := "now()", "'x'::bytea", "'y'::bytea"
		if strings.HasPrefix(dsn, "sqlite") {
			now, sealed, another = "'2026-01-01T00:00:00.000000Z'", "x'78'", "x'79'"
		}
		if _, err := store.DB().Exec(strings.ReplaceAll("INSERT INTO audit (at, action, prev_hash, hash) VALUES ("+now+", 'x', SEALED, SEALED)", "SEALED", sealed)); err != nil {
			t.Fatal(err)
		}
		for name, statement := range refusedStatements {
			rule, _, _ := strings.Cut(name, "/")
			if lite, ok := unnamed[rule]; ok && strings.HasPrefix(dsn, "sqlite") {
				rule = lite
			}
			_, err := store.DB().Exec(strings.NewReplacer("NOW", now, "OTHER", another).Replace(statement))
			if err == nil || !strings.Contains(err.Error(), rule) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	})
}

func TestTheCountIsRightWhoeverWrites(t *testing.T) {
	t.Parallel()
	onBoth(t, func(t *testing.T, dsn string) {
		store := open(t, db.Config{URL: dsn})
		peopled(t, store)
		for _, statement := range []string{
			"UPDATE participants SET room_id = '" + other + "' WHERE user_id = '" + bob + "'",
			"DELETE FROM participants WHERE user_id = '" + bob + "'",
		} {
			if _, err := store.DB().Exec(statement); err != nil {
				t.Fatal(err)
			}
			for _, id := range []talk.RoomID{full, other} {
				view, err := store.Room(t.Context(), id)
				if err != nil || view.ParticipantCount != len(view.Participants) {
					t.Errorf("%s: %d counted, %d seated (%v)", statement, view.ParticipantCount, len(view.Participants), err)
				}
			}
		}
	})
}

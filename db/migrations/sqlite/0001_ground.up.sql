CREATE TABLE users (
    id                 TEXT PRIMARY KEY,
    email              TEXT,
    username           TEXT,
    display_name       TEXT NOT NULL DEFAULT '',
    avatar_url         TEXT NOT NULL DEFAULT '',
    bio                TEXT NOT NULL DEFAULT '',
    native_languages   TEXT NOT NULL DEFAULT '[]',
    learning_languages TEXT NOT NULL DEFAULT '[]',
    country            TEXT NOT NULL DEFAULT '',
    role               INTEGER NOT NULL DEFAULT 1,
    password_hash      TEXT NOT NULL DEFAULT '',
    banned             INTEGER NOT NULL DEFAULT FALSE,
    banned_until       TEXT,
    ban_reason         TEXT NOT NULL DEFAULT '',
    seq                INTEGER NOT NULL DEFAULT 0,
    created_at         TEXT NOT NULL,
    updated_at         TEXT NOT NULL,
    last_seen_at       TEXT,
    deleted_at         TEXT,
    CONSTRAINT users_erased_is_nameless CHECK ((deleted_at IS NULL) = (email IS NOT NULL) AND (deleted_at IS NULL) = (username IS NOT NULL)),
    CONSTRAINT users_email_length CHECK (length(email) BETWEEN 3 AND 320),
    CONSTRAINT users_username_shape CHECK (length(username) BETWEEN 1 AND 50 AND username NOT GLOB '*[^A-Za-z0-9_-]*'),
    CONSTRAINT users_display_name_length CHECK (length(display_name) <= 200),
    CONSTRAINT users_avatar_url_length CHECK (length(avatar_url) <= 2048),
    CONSTRAINT users_bio_length CHECK (length(bio) <= 4000),
    CONSTRAINT users_languages_are_lists CHECK (json_type(native_languages) = 'array' AND json_type(learning_languages) = 'array'),
    CONSTRAINT users_role_known CHECK (role IN (1, 2)),
    CONSTRAINT users_ban_is_whole CHECK (banned OR (banned_until IS NULL AND ban_reason = '')),
    CONSTRAINT users_seq_rises CHECK (seq >= 0)
) STRICT;

CREATE UNIQUE INDEX users_email_key ON users (lower(email));
CREATE UNIQUE INDEX users_username_key ON users (lower(username));

CREATE TABLE sessions (
    id                   TEXT PRIMARY KEY,
    user_id              TEXT NOT NULL,
    generation           INTEGER NOT NULL,
    confirmed_generation INTEGER NOT NULL DEFAULT 0,
    rotated_at           TEXT NOT NULL,
    idle_expires_at      TEXT NOT NULL,
    absolute_expires_at  TEXT NOT NULL,
    created_at           TEXT NOT NULL,
    last_used_at         TEXT NOT NULL,
    user_agent           TEXT NOT NULL DEFAULT '',
    ip                   TEXT NOT NULL DEFAULT '',
    cookie               INTEGER NOT NULL DEFAULT FALSE,
    revoked_at           TEXT,
    revoke_reason        TEXT NOT NULL DEFAULT '',
    CONSTRAINT sessions_user_exists FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT sessions_generation_least CHECK (generation >= 1),
    CONSTRAINT sessions_confirmed_was_made CHECK (confirmed_generation BETWEEN 0 AND generation),
    CONSTRAINT sessions_user_agent_length CHECK (length(user_agent) <= 256),
    CONSTRAINT sessions_revoked_has_reason CHECK ((revoked_at IS NULL) = (revoke_reason = ''))
) STRICT;

CREATE INDEX sessions_living ON sessions (user_id) WHERE revoked_at IS NULL;
CREATE INDEX sessions_revoked ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE rooms (
    id                TEXT PRIMARY KEY,
    slug              TEXT NOT NULL,
    name              TEXT NOT NULL,
    topic             TEXT NOT NULL DEFAULT '',
    languages         TEXT NOT NULL,
    tongues           TEXT NOT NULL,              -- the languages and all they begin with, each between spaces: ' es es-mx '
    search            TEXT NOT NULL,              -- name and topic in lower case
    level             INTEGER NOT NULL DEFAULT 1,
    capacity          INTEGER NOT NULL,
    participant_count INTEGER NOT NULL DEFAULT 0, -- kept by participants_are_counted, and by nothing else
    owner_id          TEXT NOT NULL,
    seated_owner_id   TEXT GENERATED ALWAYS AS (CASE WHEN closed_at IS NULL THEN owner_id END) STORED,
    version           INTEGER NOT NULL,
    seq               INTEGER NOT NULL,
    created_at        TEXT NOT NULL,
    updated_at        TEXT NOT NULL,
    closed_at         TEXT,
    close_reason      TEXT NOT NULL DEFAULT '',
    CONSTRAINT rooms_slug_key UNIQUE (slug),
    CONSTRAINT rooms_owner_exists FOREIGN KEY (owner_id) REFERENCES users (id),
    -- Checked at the commit: a room opens before its owner sits down in it.
    CONSTRAINT rooms_owner_is_seated FOREIGN KEY (id, seated_owner_id) REFERENCES participants (room_id, user_id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT rooms_slug_length CHECK (length(slug) BETWEEN 1 AND 200),
    CONSTRAINT rooms_name_length CHECK (length(name) BETWEEN 1 AND 100),
    CONSTRAINT rooms_topic_length CHECK (length(topic) <= 200),
    CONSTRAINT rooms_languages_are_a_list CHECK (json_type(languages) = 'array'),
    CONSTRAINT rooms_level_known CHECK (level BETWEEN 1 AND 7),
    CONSTRAINT rooms_capacity_least CHECK (capacity >= 2),
    CONSTRAINT rooms_capacity_kept CHECK (participant_count <= capacity),
    CONSTRAINT rooms_count_least CHECK (participant_count >= 0),
    CONSTRAINT rooms_closed_is_empty CHECK (closed_at IS NULL OR participant_count = 0),
    CONSTRAINT rooms_closed_has_reason CHECK ((closed_at IS NULL) = (close_reason = '')),
    CONSTRAINT rooms_version_least CHECK (version >= 1),
    CONSTRAINT rooms_seq_rises CHECK (seq >= 0)
) STRICT;

CREATE UNIQUE INDEX rooms_one_open_an_owner ON rooms (owner_id) WHERE closed_at IS NULL;
CREATE INDEX rooms_popular ON rooms (participant_count DESC, id DESC) WHERE closed_at IS NULL;
CREATE INDEX rooms_newest ON rooms (id DESC) WHERE closed_at IS NULL;

CREATE TABLE participants (
    user_id     TEXT NOT NULL,
    room_id     TEXT NOT NULL,
    state       TEXT NOT NULL,
    state_since TEXT NOT NULL,
    joined_at   TEXT NOT NULL,
    CONSTRAINT participants_one_room_a_user PRIMARY KEY (user_id),
    CONSTRAINT participants_seat_key UNIQUE (room_id, user_id),
    CONSTRAINT participants_room_exists FOREIGN KEY (room_id) REFERENCES rooms (id),
    CONSTRAINT participants_user_exists FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT participants_state_known CHECK (state IN ('connected', 'reconnecting'))
) STRICT;

CREATE TRIGGER participants_join_count AFTER INSERT ON participants
BEGIN
    UPDATE rooms SET participant_count = participant_count + 1 WHERE id = NEW.room_id;
END;

CREATE TRIGGER participants_leave_count AFTER DELETE ON participants
BEGIN
    UPDATE rooms SET participant_count = participant_count - 1 WHERE id = OLD.room_id;
END;

CREATE TRIGGER participants_move_count AFTER UPDATE OF room_id ON participants
BEGIN
    UPDATE rooms SET participant_count = participant_count - 1 WHERE id = OLD.room_id;
    UPDATE rooms SET participant_count = participant_count + 1 WHERE id = NEW.room_id;
END;

CREATE TRIGGER rooms_count_starts_at_nothing BEFORE INSERT ON rooms
WHEN NEW.participant_count <> 0
BEGIN
    SELECT RAISE(ABORT, 'rooms_count_is_counted');
END;

-- Rows are counted one by one here, so that the count is right after each.
CREATE TRIGGER rooms_count_is_counted AFTER UPDATE OF participant_count ON rooms
WHEN NEW.participant_count <> (SELECT count(*) FROM participants WHERE room_id = NEW.id)
BEGIN
    SELECT RAISE(ABORT, 'rooms_count_is_counted');
END;

CREATE TABLE bans (
    room_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    until   TEXT NOT NULL,
    reason  TEXT NOT NULL DEFAULT '',
    CONSTRAINT bans_one_a_user PRIMARY KEY (room_id, user_id),
    CONSTRAINT bans_room_exists FOREIGN KEY (room_id) REFERENCES rooms (id),
    CONSTRAINT bans_user_exists FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT bans_reason_length CHECK (length(reason) <= 1000)
) STRICT;

CREATE TABLE events (
    xid       INTEGER NOT NULL DEFAULT 0, -- one writer: the id alone orders
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    topic     TEXT NOT NULL DEFAULT '', -- empty: only keys, for nobody
    seq       INTEGER NOT NULL DEFAULT 0,
    kind      TEXT NOT NULL,
    payload   TEXT NOT NULL,
    keys      TEXT NOT NULL DEFAULT '[]',
    at        TEXT NOT NULL,
    published INTEGER NOT NULL DEFAULT FALSE,
    CONSTRAINT events_kind_given CHECK (kind <> ''),
    CONSTRAINT events_keys_are_a_list CHECK (json_type(keys) = 'array')
) STRICT;

CREATE UNIQUE INDEX events_topic_seq_key ON events (topic, seq) WHERE topic <> '';
CREATE INDEX events_unpublished ON events (id) WHERE NOT published;
CREATE INDEX events_order ON events (xid, id);
CREATE INDEX events_age ON events (at);

CREATE TABLE keys (
    id         TEXT PRIMARY KEY,
    purpose    TEXT NOT NULL,
    sealed     BLOB NOT NULL,
    created_at TEXT NOT NULL,
    active_at  TEXT NOT NULL,
    CONSTRAINT keys_purpose_given CHECK (purpose <> ''),
    CONSTRAINT keys_sealed_given CHECK (length(sealed) > 0)
) STRICT;

CREATE TABLE nodes (
    id          TEXT PRIMARY KEY,
    incarnation INTEGER NOT NULL,
    seen_at     TEXT NOT NULL,
    swept_at    TEXT,
    CONSTRAINT nodes_incarnation_least CHECK (incarnation >= 1)
) STRICT;

CREATE TABLE audit (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    at        TEXT NOT NULL,
    actor_id  TEXT,
    action    TEXT NOT NULL,
    target    TEXT NOT NULL DEFAULT '',
    detail    TEXT NOT NULL DEFAULT '{}',
    prev_hash BLOB NOT NULL,
    hash      BLOB NOT NULL,
    CONSTRAINT audit_hash_key UNIQUE (hash),
    CONSTRAINT audit_one_successor UNIQUE (prev_hash),
    CONSTRAINT audit_actor_exists FOREIGN KEY (actor_id) REFERENCES users (id),
    CONSTRAINT audit_action_given CHECK (action <> '')
) STRICT;

CREATE TRIGGER audit_only_grows BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit_only_grows');
END;

CREATE TRIGGER audit_is_not_deleted BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit_only_grows');
END;

CREATE TABLE users (
    id                 uuid PRIMARY KEY,
    email              text,
    username           text,
    display_name       text NOT NULL DEFAULT '',
    avatar_url         text NOT NULL DEFAULT '',
    bio                text NOT NULL DEFAULT '',
    native_languages   jsonb NOT NULL DEFAULT '[]',
    learning_languages jsonb NOT NULL DEFAULT '[]',
    country            text NOT NULL DEFAULT '',
    role               smallint NOT NULL DEFAULT 1,
    password_hash      text NOT NULL DEFAULT '',
    banned             boolean NOT NULL DEFAULT FALSE,
    banned_until       timestamptz,
    ban_reason         text NOT NULL DEFAULT '',
    seq                bigint NOT NULL DEFAULT 0,
    created_at         timestamptz NOT NULL,
    updated_at         timestamptz NOT NULL,
    last_seen_at       timestamptz,
    deleted_at         timestamptz,
    CONSTRAINT users_erased_is_nameless CHECK ((deleted_at IS NULL) = (email IS NOT NULL) AND (deleted_at IS NULL) = (username IS NOT NULL)),
    CONSTRAINT users_email_length CHECK (char_length(email) BETWEEN 3 AND 320),
    CONSTRAINT users_username_shape CHECK (username ~ '^[A-Za-z0-9_-]{1,50}$'),
    CONSTRAINT users_display_name_length CHECK (char_length(display_name) <= 200),
    CONSTRAINT users_avatar_url_length CHECK (char_length(avatar_url) <= 2048),
    CONSTRAINT users_bio_length CHECK (char_length(bio) <= 4000),
    CONSTRAINT users_languages_are_lists CHECK (jsonb_typeof(native_languages) = 'array' AND jsonb_typeof(learning_languages) = 'array'),
    CONSTRAINT users_role_known CHECK (role IN (1, 2)),
    CONSTRAINT users_ban_is_whole CHECK (banned OR (banned_until IS NULL AND ban_reason = '')),
    CONSTRAINT users_seq_rises CHECK (seq >= 0)
) WITH (fillfactor = 80);

CREATE UNIQUE INDEX users_email_key ON users (lower(email));
CREATE UNIQUE INDEX users_username_key ON users (lower(username));

CREATE TABLE sessions (
    id                   uuid PRIMARY KEY,
    user_id              uuid NOT NULL,
    generation           bigint NOT NULL,
    confirmed_generation bigint NOT NULL DEFAULT 0,
    rotated_at           timestamptz NOT NULL,
    idle_expires_at      timestamptz NOT NULL,
    absolute_expires_at  timestamptz NOT NULL,
    created_at           timestamptz NOT NULL,
    last_used_at         timestamptz NOT NULL,
    user_agent           text NOT NULL DEFAULT '',
    ip                   text NOT NULL DEFAULT '',
    cookie               boolean NOT NULL DEFAULT FALSE,
    revoked_at           timestamptz,
    revoke_reason        text NOT NULL DEFAULT '',
    CONSTRAINT sessions_user_exists FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT sessions_generation_least CHECK (generation >= 1),
    CONSTRAINT sessions_confirmed_was_made CHECK (confirmed_generation BETWEEN 0 AND generation),
    CONSTRAINT sessions_user_agent_length CHECK (char_length(user_agent) <= 256),
    CONSTRAINT sessions_revoked_has_reason CHECK ((revoked_at IS NULL) = (revoke_reason = ''))
) WITH (fillfactor = 80);

CREATE INDEX sessions_living ON sessions (user_id) WHERE revoked_at IS NULL;
CREATE INDEX sessions_revoked ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE rooms (
    id                uuid PRIMARY KEY,
    slug              text NOT NULL,
    name              text NOT NULL,
    topic             text NOT NULL DEFAULT '',
    languages         jsonb NOT NULL,
    tongues           text NOT NULL,              -- the languages and all they begin with, each between spaces: ' es es-mx '
    search            text NOT NULL,              -- name and topic in lower case
    level             smallint NOT NULL DEFAULT 1,
    capacity          integer NOT NULL,
    participant_count integer NOT NULL DEFAULT 0, -- kept by participants_are_counted, and by nothing else
    owner_id          uuid NOT NULL,
    seated_owner_id   uuid GENERATED ALWAYS AS (CASE WHEN closed_at IS NULL THEN owner_id END) STORED,
    version           bigint NOT NULL,
    seq               bigint NOT NULL,
    created_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL,
    closed_at         timestamptz,
    close_reason      text NOT NULL DEFAULT '',
    CONSTRAINT rooms_slug_key UNIQUE (slug),
    CONSTRAINT rooms_owner_exists FOREIGN KEY (owner_id) REFERENCES users (id),
    CONSTRAINT rooms_slug_length CHECK (char_length(slug) BETWEEN 1 AND 200),
    CONSTRAINT rooms_name_length CHECK (char_length(name) BETWEEN 1 AND 100),
    CONSTRAINT rooms_topic_length CHECK (char_length(topic) <= 200),
    CONSTRAINT rooms_languages_are_a_list CHECK (jsonb_typeof(languages) = 'array'),
    CONSTRAINT rooms_level_known CHECK (level BETWEEN 1 AND 7),
    CONSTRAINT rooms_capacity_least CHECK (capacity >= 2),
    CONSTRAINT rooms_capacity_kept CHECK (participant_count <= capacity),
    CONSTRAINT rooms_count_least CHECK (participant_count >= 0),
    CONSTRAINT rooms_closed_is_empty CHECK (closed_at IS NULL OR participant_count = 0),
    CONSTRAINT rooms_closed_has_reason CHECK ((closed_at IS NULL) = (close_reason = '')),
    CONSTRAINT rooms_version_least CHECK (version >= 1),
    CONSTRAINT rooms_seq_rises CHECK (seq >= 0)
) WITH (fillfactor = 80);

CREATE UNIQUE INDEX rooms_one_open_an_owner ON rooms (owner_id) WHERE closed_at IS NULL;
CREATE INDEX rooms_popular ON rooms (participant_count DESC, id DESC) WHERE closed_at IS NULL;
CREATE INDEX rooms_newest ON rooms (id DESC) WHERE closed_at IS NULL;

CREATE TABLE participants (
    user_id     uuid NOT NULL,
    room_id     uuid NOT NULL,
    state       text NOT NULL,
    state_since timestamptz NOT NULL,
    joined_at   timestamptz NOT NULL,
    CONSTRAINT participants_one_room_a_user PRIMARY KEY (user_id),
    CONSTRAINT participants_seat_key UNIQUE (room_id, user_id),
    CONSTRAINT participants_room_exists FOREIGN KEY (room_id) REFERENCES rooms (id),
    CONSTRAINT participants_user_exists FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT participants_state_known CHECK (state IN ('connected', 'reconnecting'))
);

-- Checked at the commit: a room opens before its owner sits down in it.
ALTER TABLE rooms
    ADD CONSTRAINT rooms_owner_is_seated FOREIGN KEY (id, seated_owner_id)
    REFERENCES participants (room_id, user_id) DEFERRABLE INITIALLY DEFERRED;

CREATE FUNCTION participants_are_counted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        UPDATE rooms SET participant_count = participant_count - 1 WHERE id = OLD.room_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        UPDATE rooms SET participant_count = participant_count + 1 WHERE id = NEW.room_id;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER participants_are_counted
    AFTER INSERT OR DELETE OR UPDATE OF room_id ON participants
    FOR EACH ROW EXECUTE FUNCTION participants_are_counted();

CREATE FUNCTION rooms_count_is_counted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rooms_count_is_counted: participant_count is kept by participants_are_counted'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'rooms_count_is_counted', TABLE = 'rooms';
END $$;

CREATE TRIGGER rooms_count_starts_at_nothing
    BEFORE INSERT ON rooms
    FOR EACH ROW WHEN (NEW.participant_count <> 0) EXECUTE FUNCTION rooms_count_is_counted();

CREATE TRIGGER rooms_count_is_counted
    BEFORE UPDATE OF participant_count ON rooms
    FOR EACH ROW WHEN (pg_trigger_depth() = 0) EXECUTE FUNCTION rooms_count_is_counted();

CREATE TABLE bans (
    room_id uuid NOT NULL,
    user_id uuid NOT NULL,
    until   timestamptz NOT NULL,
    reason  text NOT NULL DEFAULT '',
    CONSTRAINT bans_one_a_user PRIMARY KEY (room_id, user_id),
    CONSTRAINT bans_room_exists FOREIGN KEY (room_id) REFERENCES rooms (id),
    CONSTRAINT bans_user_exists FOREIGN KEY (user_id) REFERENCES users (id),
    CONSTRAINT bans_reason_length CHECK (char_length(reason) <= 1000)
);

CREATE TABLE events (
    xid       xid8 NOT NULL DEFAULT pg_current_xact_id(), -- orders what commits out of order: see the lobby
    id        bigserial PRIMARY KEY,
    topic     text NOT NULL DEFAULT '', -- empty: only keys, for nobody
    seq       bigint NOT NULL DEFAULT 0,
    kind      text NOT NULL,
    payload   jsonb NOT NULL,
    keys      jsonb NOT NULL DEFAULT '[]',
    at        timestamptz NOT NULL,
    published boolean NOT NULL DEFAULT FALSE,
    CONSTRAINT events_kind_given CHECK (kind <> ''),
    CONSTRAINT events_keys_are_a_list CHECK (jsonb_typeof(keys) = 'array')
);

CREATE UNIQUE INDEX events_topic_seq_key ON events (topic, seq) WHERE topic <> '';
CREATE INDEX events_unpublished ON events (id) WHERE NOT published;
CREATE INDEX events_order ON events (xid, id);
CREATE INDEX events_age ON events (at);

CREATE TABLE keys (
    id         text PRIMARY KEY,
    purpose    text NOT NULL,
    sealed     bytea NOT NULL,
    created_at timestamptz NOT NULL,
    active_at  timestamptz NOT NULL,
    CONSTRAINT keys_purpose_given CHECK (purpose <> ''),
    CONSTRAINT keys_sealed_given CHECK (octet_length(sealed) > 0)
);

CREATE TABLE nodes (
    id          text PRIMARY KEY,
    incarnation bigint NOT NULL,
    seen_at     timestamptz NOT NULL,
    swept_at    timestamptz,
    CONSTRAINT nodes_incarnation_least CHECK (incarnation >= 1)
);

CREATE TABLE audit (
    id        bigserial PRIMARY KEY,
    at        timestamptz NOT NULL,
    actor_id  uuid,
    action    text NOT NULL,
    target    text NOT NULL DEFAULT '',
    detail    jsonb NOT NULL DEFAULT '{}',
    prev_hash bytea NOT NULL,
    hash      bytea NOT NULL,
    CONSTRAINT audit_hash_key UNIQUE (hash),
    CONSTRAINT audit_one_successor UNIQUE (prev_hash),
    CONSTRAINT audit_actor_exists FOREIGN KEY (actor_id) REFERENCES users (id),
    CONSTRAINT audit_action_given CHECK (action <> '')
);

CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'audit_only_grows: the audit log is only appended to'
        USING ERRCODE = 'check_violation', CONSTRAINT = 'audit_only_grows', TABLE = 'audit';
END $$;

CREATE TRIGGER audit_only_grows
    BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows();

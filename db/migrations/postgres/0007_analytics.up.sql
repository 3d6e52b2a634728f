-- How the service was used, an hour a row; times together are in milliseconds.
CREATE TABLE analytics_hours (
    start         timestamptz PRIMARY KEY,
    peak_online   bigint NOT NULL,
    active_users  bigint NOT NULL,
    joins         bigint NOT NULL,
    rooms_created bigint NOT NULL,
    together      bigint NOT NULL,
    partial       boolean NOT NULL DEFAULT false -- some of it was lost
);

-- Who was active on a day is not the sum of its hours.
CREATE TABLE analytics_days (
    start        timestamptz PRIMARY KEY,
    active_users bigint NOT NULL
);

-- The rooms and the languages that were used most in an hour.
CREATE TABLE analytics_uses (
    start    timestamptz NOT NULL,
    kind     text NOT NULL,
    name     text NOT NULL,
    joins    bigint NOT NULL,
    together bigint NOT NULL,
    PRIMARY KEY (start, kind, name),
    CONSTRAINT analytics_uses_kind CHECK (kind IN ('room', 'language'))
);

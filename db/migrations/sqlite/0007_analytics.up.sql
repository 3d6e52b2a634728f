-- How the service was used, an hour a row; times together are in milliseconds.
CREATE TABLE analytics_hours (
    start         TEXT PRIMARY KEY,
    peak_online   INTEGER NOT NULL,
    active_users  INTEGER NOT NULL,
    joins         INTEGER NOT NULL,
    rooms_created INTEGER NOT NULL,
    together      INTEGER NOT NULL,
    partial       INTEGER NOT NULL DEFAULT 0 -- some of it was lost
) STRICT;

-- Who was active on a day is not the sum of its hours.
CREATE TABLE analytics_days (
    start        TEXT PRIMARY KEY,
    active_users INTEGER NOT NULL
) STRICT;

-- The rooms and the languages that were used most in an hour.
CREATE TABLE analytics_uses (
    start    TEXT NOT NULL,
    kind     text NOT NULL,
    name     text NOT NULL,
    joins    INTEGER NOT NULL,
    together INTEGER NOT NULL,
    PRIMARY KEY (start, kind, name),
    CONSTRAINT analytics_uses_kind CHECK (kind IN ('room', 'language'))
) STRICT;

-- What cursors belong to, and how far back the events reach. Who restores the
-- file from a copy gives it a new id: UPDATE history SET id = lower(hex(randomblob(16))).
CREATE TABLE history (
    id       TEXT PRIMARY KEY,
    floor_tx INTEGER NOT NULL DEFAULT 0,
    floor_id INTEGER NOT NULL DEFAULT 0 -- the last event that was deleted
) STRICT;

INSERT INTO history (id) VALUES (lower(hex(randomblob(16))));
CREATE UNIQUE INDEX history_is_one ON history ((1));

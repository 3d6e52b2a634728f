-- What cursors belong to, and how far back the events reach.
CREATE TABLE history (
    id       text PRIMARY KEY,             -- of this database, since it was made
    floor_tx xid8 NOT NULL DEFAULT '0',    -- the last event that was deleted, in the order of (xid, id)
    floor_id bigint NOT NULL DEFAULT 0
);

INSERT INTO history (id) VALUES (gen_random_uuid()::text);
CREATE UNIQUE INDEX history_is_one ON history ((true));

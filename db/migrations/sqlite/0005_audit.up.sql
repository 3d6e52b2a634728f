-- Who acts may also sit at a shell, and is no user then. Nothing was written here before: the table is made anew.
DROP TABLE audit;

CREATE TABLE audit (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    at        TEXT NOT NULL,
    actor     TEXT NOT NULL DEFAULT '',
    action    TEXT NOT NULL,
    target    TEXT NOT NULL DEFAULT '',
    detail    TEXT NOT NULL DEFAULT '{}',
    prev_hash BLOB NOT NULL,
    hash      BLOB NOT NULL,
    CONSTRAINT audit_hash_key UNIQUE (hash),
    CONSTRAINT audit_one_successor UNIQUE (prev_hash),
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

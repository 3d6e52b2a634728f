-- Who acts may also sit at a shell, and is no user then. The hash of an entry is over the very bytes of its detail,
-- which jsonb would not keep. Nothing was written here before.
ALTER TABLE audit
    DROP COLUMN actor_id,
    ADD COLUMN actor text NOT NULL DEFAULT '',
    ALTER COLUMN detail DROP DEFAULT,
    ALTER COLUMN detail TYPE text USING detail::text,
    ALTER COLUMN detail SET DEFAULT '{}';

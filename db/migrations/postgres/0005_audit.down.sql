ALTER TABLE audit
    DROP COLUMN actor,
    ADD COLUMN actor_id uuid,
    ALTER COLUMN detail DROP DEFAULT,
    ALTER COLUMN detail TYPE jsonb USING detail::jsonb,
    ALTER COLUMN detail SET DEFAULT '{}',
    ADD CONSTRAINT audit_actor_exists FOREIGN KEY (actor_id) REFERENCES users (id);

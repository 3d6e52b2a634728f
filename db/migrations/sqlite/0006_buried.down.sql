ALTER TABLE nodes DROP COLUMN buried_at;

DROP INDEX events_once_key;

ALTER TABLE events DROP COLUMN once;

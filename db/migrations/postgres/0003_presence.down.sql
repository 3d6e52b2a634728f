DROP INDEX participants_reconnecting;

ALTER TABLE participants DROP COLUMN attended;

ALTER TABLE events ADD COLUMN once TEXT;

CREATE UNIQUE INDEX events_once_key ON events (once) WHERE once IS NOT NULL;

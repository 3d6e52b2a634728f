ALTER TABLE events ADD COLUMN once text;

CREATE UNIQUE INDEX events_once_key ON events (once) WHERE once IS NOT NULL;

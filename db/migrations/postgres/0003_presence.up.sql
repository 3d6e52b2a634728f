ALTER TABLE participants ADD COLUMN attended boolean NOT NULL DEFAULT FALSE; -- somebody with a personal stream sat here

CREATE INDEX participants_reconnecting ON participants (state_since) WHERE state = 'reconnecting';

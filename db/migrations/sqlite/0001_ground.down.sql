DROP TABLE audit;
DROP TABLE nodes;
DROP TABLE keys;
DROP TABLE events;
DROP TABLE bans;
-- Rooms and participants refer to each other: they are emptied first.
DROP TRIGGER participants_leave_count;
DELETE FROM participants;
DELETE FROM rooms;
DROP TABLE participants;
DROP TABLE rooms;
DROP TABLE sessions;
DROP TABLE users;

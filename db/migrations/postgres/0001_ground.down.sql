ALTER TABLE rooms DROP CONSTRAINT rooms_owner_is_seated;
DROP TABLE audit, nodes, keys, events, bans, participants, rooms, sessions, users;
DROP FUNCTION audit_only_grows(), rooms_count_is_counted(), participants_are_counted();

-- presence_read: who is online, or connected.
--
--   KEYS[1]  shard   presence:{s}: in front of everything of the shard
--   ARGV[1]  what    'online' (the grace included) or 'conns'
--   ARGV[2…] users
--
-- Returns 1 or 0 for each user; nothing where the shard is not whole.
local base = KEYS[1]
if redis.call('EXISTS', base .. 'whole') == 0 then
  return {}
end
local found
if ARGV[1] == 'online' then
  found = redis.call('ZMSCORE', base .. 'online', unpack(ARGV, 2))
else
  found = redis.call('HMGET', base .. 'conns', unpack(ARGV, 2))
end
for i, there in ipairs(found) do
  found[i] = there and 1 or 0
end
return found

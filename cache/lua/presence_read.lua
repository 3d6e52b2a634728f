-- presence_read: who is online, or connected, or for how long without.
--
--   KEYS[1]  shard   presence:{s}: in front of everything of the shard
--   ARGV[1]  what    'online' (the grace included), 'conns' or 'leaving'
--   ARGV[2…] users
--
-- Returns 1 or 0 for each user, and for 'leaving' the ms that are left of the
-- grace of who has no connection, -1 of who has one; nothing where the shard is
-- not whole.
local base = KEYS[1]
if redis.call('EXISTS', base .. 'whole') == 0 then
  return {}
end
local counts, all = redis.call('HMGET', base .. 'counts', '#', unpack(ARGV, 2)), {}
if not counts[1] then
  return {} -- they are lost, and nobody has found that yet
end
if ARGV[1] ~= 'leaving' then
  for i = 2, #counts do
    all[i - 1] = counts[i] and (counts[i] ~= '0' or ARGV[1] == 'online') and 1 or 0
  end
  return all
end
local leaving, time = redis.call('ZMSCORE', base .. 'leaving', '#', unpack(ARGV, 2)), redis.call('TIME')
if not leaving[1] then
  return {}
end
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #counts do
  all[i - 1] = counts[i] and counts[i] ~= '0' and -1 or math.max(0, (leaving[i] or 0) - now)
end
return all

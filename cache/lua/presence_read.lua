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
local all = {}
if ARGV[1] == 'online' then
  for i, score in ipairs(redis.call('ZMSCORE', base .. 'online', unpack(ARGV, 2))) do
    all[i] = score and 1 or 0
  end
  return all
end
local now, leaving = 0, {}
if ARGV[1] == 'leaving' then
  local time = redis.call('TIME')
  now, leaving = time[1] * 1000 + math.floor(time[2] / 1000), redis.call('ZMSCORE', base .. 'leaving', unpack(ARGV, 2))
end
for i = 2, #ARGV do
  local user = ARGV[i]
  local there = redis.call('ZLEXCOUNT', base .. 'conns', '[' .. user .. ' ', '(' .. user .. '!') > 0
  if ARGV[1] == 'conns' then
    all[i - 1] = there and 1 or 0
  else
    all[i - 1] = there and -1 or math.max(0, (leaving[i - 1] or 0) - now)
  end
end
return all

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
local all = {}
if ARGV[1] == 'online' then
  for i, score in ipairs(redis.call('ZMSCORE', base .. 'online', unpack(ARGV, 2))) do
    all[i] = score and 1 or 0
  end
  return all
end
for i = 2, #ARGV do
  local user = ARGV[i]
  all[i - 1] = redis.call('ZLEXCOUNT', base .. 'conns', '[' .. user .. ' ', '(' .. user .. '!') > 0 and 1 or 0
end
return all

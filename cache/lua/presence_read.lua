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
for i = 2, #ARGV do
  if ARGV[1] == 'online' then
    all[i - 1] = redis.call('ZSCORE', base .. 'online', ARGV[i]) and 1 or 0
  else
    all[i - 1] = redis.call('EXISTS', base .. 'conns:' .. ARGV[i])
  end
end
return all

-- presence_expire: take those offline whose grace is over.
--
--   KEYS[1]  shard   presence:{s}: in front of everything of the shard
--   ARGV[1]  most    users, > 0
--
-- Returns the users that went offline; none where the shard is not whole.
local base = KEYS[1]
if redis.call('EXISTS', base .. 'whole') == 0 then
  return {}
end
local now = redis.call('TIME')
local due = redis.call('ZRANGEBYSCORE', base .. 'leaving', '-inf', now[1] * 1000 + math.floor(now[2] / 1000), 'LIMIT', 0, ARGV[1])
if #due == 0 then
  return {}
end
local counts = redis.call('HMGET', base .. 'counts', '#', unpack(due))
if not counts[1] then
  return {}
end
local drop, gone, flips = {base .. 'counts'}, {}, {}
for n, user in ipairs(due) do
  if counts[n + 1] == '0' then
    gone[#gone + 1], drop[#drop + 1], flips[#flips + 1] = user, user, user .. ' 0'
  end
end
redis.call('ZREM', base .. 'leaving', unpack(due))
if #gone > 0 then
  redis.call('HDEL', unpack(drop))
  redis.call('ZREM', base .. 'online', unpack(gone))
  redis.call('PUBLISH', base .. 'flips', table.concat(flips, '\n'))
end
return gone

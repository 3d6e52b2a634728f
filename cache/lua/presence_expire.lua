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
local gone = {}
for _, user in ipairs(due) do
  redis.call('ZREM', base .. 'leaving', user)
  if redis.call('HLEN', base .. 'conns:' .. user) == 0 and redis.call('ZREM', base .. 'online', user) == 1 then
    redis.call('PUBLISH', base .. 'flips', user .. ' 0')
    gone[#gone + 1] = user
  end
end
return gone

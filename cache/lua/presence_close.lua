-- presence_close: take a connection away; who has none left is leaving.
--
--   KEYS[1]  shard   presence:{s}: in front of everything of the shard
--   ARGV[1]  user
--   ARGV[2]  connection
--   ARGV[3]  node
--   ARGV[4]  grace   ms until the user goes offline, >= 0
--   ARGV[5]  lasts   ms of what every node's reports renew, > 0
--
-- Returns how many connections the user has left, or -1 where this one was not
-- known: then it is not for the caller to say that the user is leaving.
local base = KEYS[1]
local conns = base .. 'conns:' .. ARGV[1]
local known = redis.call('HDEL', conns, ARGV[2])
redis.call('SREM', base .. 'node:' .. ARGV[3], ARGV[1] .. ' ' .. ARGV[2])
local left = redis.call('HLEN', conns)
if left > 0 then
  return left
end
if redis.call('EXISTS', base .. 'swept:' .. ARGV[3]) == 1 then
  return -1
end
if ARGV[4] == '0' and redis.call('EXISTS', base .. 'whole') == 1 then
  redis.call('ZREM', base .. 'leaving', ARGV[1])
  if redis.call('ZREM', base .. 'online', ARGV[1]) == 1 then
    redis.call('PUBLISH', base .. 'flips', ARGV[1] .. ' 0')
  end
  return 0
end
local now = redis.call('TIME')
redis.call('ZADD', base .. 'leaving', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[4], ARGV[1])
redis.call('PEXPIRE', base .. 'leaving', ARGV[5])
if known == 0 then
  return -1
end
return 0

-- presence_open: add a connection, and take back that its user was leaving.
--
--   KEYS[1]  shard   presence:{s}: in front of everything of the shard
--   ARGV[1]  user
--   ARGV[2]  connection
--   ARGV[3]  node
--   ARGV[4]  ttl     ms of the user's connections, > 0
--   ARGV[5]  lasts   ms of what every node's reports renew, > 0
--
-- Returns 1 where the user went online, 0 where they were, -1 where the node
-- was swept.
local base = KEYS[1]
if redis.call('EXISTS', base .. 'swept:' .. ARGV[3]) == 1 then
  return -1
end
local conns, node = base .. 'conns:' .. ARGV[1], base .. 'node:' .. ARGV[3]
redis.call('HSET', conns, ARGV[2], ARGV[3])
redis.call('PEXPIRE', conns, ARGV[4])
redis.call('SADD', node, ARGV[1] .. ' ' .. ARGV[2])
redis.call('PEXPIRE', node, ARGV[5])
redis.call('ZREM', base .. 'leaving', ARGV[1])
local new = redis.call('ZADD', base .. 'online', 0, ARGV[1])
redis.call('PEXPIRE', base .. 'online', ARGV[5])
if new == 1 then
  redis.call('PUBLISH', base .. 'flips', ARGV[1] .. ' 1')
end
return new

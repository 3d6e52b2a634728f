-- presence_sweep: take connections of a dead node away. It is refused from
-- then on.
--
--   KEYS[1]  shard   presence:{s}: in front of everything of the shard
--   ARGV[1]  node
--   ARGV[2]  left    ms until those go offline who have no connection any more, >= 0
--   ARGV[3]  most    connections, > 0
--   ARGV[4]  lasts   ms of what every node's reports renew, > 0
--   ARGV[5]  refuse  ms for which the node is refused, > 0
--
-- Returns how many connections the node has left, and the users whose last
-- connection was taken.
local base = KEYS[1]
redis.call('SET', base .. 'swept:' .. ARGV[1], '1', 'PX', ARGV[5])
redis.call('SREM', base .. 'reported', ARGV[1])
local now = redis.call('TIME')
local at = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2])
local taken = redis.call('SPOP', base .. 'node:' .. ARGV[1], ARGV[3])
local last = {redis.call('SCARD', base .. 'node:' .. ARGV[1])}
if #taken == 0 then
  return last
end
redis.call('ZREM', base .. 'conns', unpack(taken))
local leaving = {}
for _, member in ipairs(taken) do
  local user = string.match(member, '^(%S+) ')
  if redis.call('ZLEXCOUNT', base .. 'conns', '[' .. user .. ' ', '(' .. user .. '!') == 0 then
    leaving[#leaving + 1], leaving[#leaving + 2] = at, user
    last[#last + 1] = user
  end
end
if #leaving > 0 then
  redis.call('ZADD', base .. 'leaving', unpack(leaving))
  redis.call('PEXPIRE', base .. 'leaving', ARGV[4])
end
return last

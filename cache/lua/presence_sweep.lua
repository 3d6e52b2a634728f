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
-- Returns how many connections the node has left, and, where the shard is whole,
-- the users whose last connection was taken.
local base = KEYS[1]
redis.call('SET', base .. 'swept:' .. ARGV[1], '1', 'PX', ARGV[5])
redis.call('SREM', base .. 'reported', ARGV[1])
local now = redis.call('TIME')
local at = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2])
local counts, set, flag = base .. 'counts', base .. 'node:' .. ARGV[1], '#' .. ARGV[1]
local says = redis.call('HMGET', counts, '#', flag)
local is = tonumber(says[2] or 0)
local all = is == redis.call('SCARD', set)
if is > 0 and not all then -- a part of the set is lost: all goes
  redis.call('UNLINK', counts, base .. 'online', base .. 'leaving')
  redis.call('DEL', base .. 'whole', base .. 'reported')
end
-- Where others may have to add theirs again, nobody's connection is known to be the last.
local sure = says[1] and redis.call('EXISTS', base .. 'whole') == 1
local taken = redis.call('SPOP', set, ARGV[3])
local last = {redis.call('SCARD', set)}
if #taken == 0 then
  return last
end
if all and last[1] > 0 then
  redis.call('HSET', counts, flag, last[1])
elseif all then
  redis.call('HDEL', counts, flag)
  redis.call('HSET', counts, '#', without(says[1], ARGV[1]))
end
local leaving = {}
for _, member in ipairs(taken) do
  local user = string.match(member, '^(%S+) ')
  local left = all and redis.call('HINCRBY', counts, user, -1) or tonumber(redis.call('HGET', counts, user) or 0)
  if all and left < 0 then
    redis.call('HDEL', counts, user) -- who was not counted is not
  end
  if left <= 0 then
    leaving[#leaving + 1], leaving[#leaving + 2] = at, user
    if sure then
      last[#last + 1] = user
    end
  end
end
if #leaving > 0 then
  redis.call('ZADD', base .. 'leaving', unpack(leaving))
  redis.call('PEXPIRE', base .. 'leaving', ARGV[4])
end
return last

-- presence_report: a node says how many connections it has.
--
--   KEYS[1]  shard   presence:{s}: in front of everything of the shard
--   ARGV[1]  node
--   ARGV[2]  count   of its connections
--   ARGV[3]  lasts   ms of what every node's reports renew, > 0
--   ARGV[4]  whole   ms for which the shard counts as whole, > 0
--   ARGV[5…] live    the nodes that live
--
-- Returns 1 where the shard is whole, 0 where not every live node has reported,
-- -1 where the node was swept, -2 where Redis counts otherwise.
local base = KEYS[1]
if redis.call('EXISTS', base .. 'swept:' .. ARGV[1]) == 1 then
  return -1
end
local counts, set = base .. 'counts', base .. 'node:' .. ARGV[1]
local has, holds = redis.call('HMGET', counts, '#', '#' .. ARGV[1]), redis.call('SCARD', set)
local is, lost = tonumber(has[2] or 0), not has[1]
if has[1] then
  local _, nodes = string.gsub(has[1], '%S+', '')
  lost = is > 0 and is ~= holds
    or not redis.call('ZSCORE', base .. 'leaving', '#')
    or redis.call('ZCARD', base .. 'online') ~= redis.call('HLEN', counts) - 1 - nodes -- who is online is counted, who has none as 0
end
if lost then
  afresh(base, ARGV[3])
end
if holds > 0 and (lost or is == 0) then
  redis.call('UNLINK', set)
  holds = 0
end
for _, key in ipairs({'node:' .. ARGV[1], 'counts', 'online', 'leaving'}) do
  redis.call('PEXPIRE', base .. key, ARGV[3])
end
if holds ~= tonumber(ARGV[2]) then
  redis.call('SREM', base .. 'reported', ARGV[1])
  return -2
end
redis.call('SADD', base .. 'reported', ARGV[1])
redis.call('PEXPIRE', base .. 'reported', ARGV[3])
for i = 5, #ARGV do
  if redis.call('SISMEMBER', base .. 'reported', ARGV[i]) == 0 then
    return 0
  end
end
redis.call('SET', base .. 'whole', '1', 'PX', ARGV[4])
return 1

-- limit_resets: which limits were reset since a node last looked.
--
--   KEYS[1]  resets  sorted set, as in limit_reset
--   ARGV[1]  after   µs: where the node stands, or -1 where it only asks what time it is
--
-- Returns {where it stands now, in µs, and the names of the logs that were reset since}.
local after = tonumber(ARGV[1])
if after < 0 then
  local time = redis.call('TIME')
  return {string.format('%.0f', time[1] * 1000000 + time[2])}
end
local names = redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', after), '+inf')
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
table.insert(names, 1, string.format('%.0f', math.max(after, last[2] or 0)))
return names

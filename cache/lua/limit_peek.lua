-- limit_peek: how much of a limit a key has used, without taking any of it.
--
--   KEYS[1]  log       sorted set, as in window_take or attempt_begin
--   ARGV[1]  window    µs, > 0
--   ARGV[2]  limit     places in any window, > 0
--   ARGV[3]  patience  µs: what is pending for longer counts as failed; 0 where nothing is ever pending
--
-- Returns {used, wait µs}: the wait is until one more would be let in, 0 where it would now.
local window, limit, patience = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local from = string.format('(%.0f', now - window)
local used = redis.call('ZCOUNT', KEYS[1], from, '+inf')
if patience > 0 then
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], string.format('(%.0f', now - patience), '+inf')) do
    if string.sub(member, 1, 2) == 'p:' then
      used = used - 1
    end
  end
end
if used < limit then
  return {used, 0}
end
local entry = redis.call('ZRANGEBYSCORE', KEYS[1], from, '+inf', 'WITHSCORES', 'LIMIT', used - limit, 1)
return {used, math.max(1, entry[2] + window - now)}

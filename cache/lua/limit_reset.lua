-- limit_reset: tell all nodes that what a key has used of a limit is forgotten.
--
--   KEYS[1]  resets  sorted set: name of a log -> when it was last reset, µs
--   ARGV[1]  name    of the log
--   ARGV[2]  keep    µs: nodes hear of it for so long
--
-- A key that holds something else is unlinked here, and not by the caller, whose unlink might take another's reset away.
-- Later than every reset before, also where the clock was set back: whoever has heard of those hears of this one.
--
-- Returns when that was, in µs.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local holds = redis.call('TYPE', KEYS[1]).ok
if holds ~= 'zset' and holds ~= 'none' then
  redis.call('UNLINK', KEYS[1])
end
local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local at = math.max(now, (last[2] or 0) + 1)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - ARGV[2])) -- first, as in attempt_begin
redis.call('ZADD', KEYS[1], string.format('%.0f', at), ARGV[1])
redis.call('PEXPIRE', KEYS[1], math.floor(ARGV[2] / 1000))
return at

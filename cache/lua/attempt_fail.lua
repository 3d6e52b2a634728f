-- attempt_fail: count an attempt as a failure, from now on. Its place was pending until here.
-- Failing twice is the same as once; an attempt that succeeded gives its place back by ZREM.
--
--   KEYS[1]  log  sorted set, as in attempt_begin
--   ARGV[1]  id   of the attempt
--   ARGV[2]  ttl  ms, at least the window
--
-- Returns how many places are held.
redis.call('ZREM', KEYS[1], 'p:' .. ARGV[1])
local time = redis.call('TIME')
redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', time[1] * 1000000 + time[2]), 'f:' .. ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])

-- attempt_fail: count an attempt as a failure, from when it failed on. Its place was pending until here.
-- Failing twice is the same as once; an attempt that succeeded gives its place back by ZREM.
--
--   KEYS[1]  log  sorted set, as in attempt_begin
--   ARGV[1]  id   of the attempt
--   ARGV[2]  ttl  ms, at least the window
--   ARGV[3]  age  µs: how long ago it failed, rather too short than too long
--
-- Returns how many places are held.
redis.call('ZREM', KEYS[1], 'p:' .. ARGV[1]) -- first, as in attempt_begin
local time = redis.call('TIME')
-- LT: a server that stood still does late what it was asked first, and dates it so; of all it was told the earliest is right.
redis.call('ZADD', KEYS[1], 'LT', string.format('%.0f', time[1] * 1000000 + time[2] - ARGV[3]), 'f:' .. ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])

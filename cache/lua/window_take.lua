-- window_take: take places in a sliding window, all of them or none.
-- One script, so two callers never both see the last place. Redis's clock decides.
--
--   KEYS[1]  log     sorted set: reservation -> time taken, µs
--   ARGV[1]  window  µs, > 0
--   ARGV[2]  limit   places in any window, > 0
--   ARGV[3]  ttl     ms, at least the window
--   ARGV[4]  cost    places wanted, 1 to limit
--   ARGV[5]  id      of this reservation, the same in no other
--   ARGV[6…]         pairs of id and age in µs: what the caller was given
--                    before and Redis may have lost
--
-- Returns {taken 0|1, places left, wait µs}: the wait is until the oldest place
-- is free again, or, where none was taken, until as many as wanted are.
local window, limit, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
for i = 6, #ARGV, 2 do
  redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', now - ARGV[i + 1]), ARGV[i])
end
-- %.0f: Lua would write a number this large as 1.79e+15.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - window))

local held = redis.call('ZCARD', KEYS[1])
local taken = 0
if held + cost <= limit then
  taken = 1
  for i = 1, cost do
    redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[5] .. ':' .. i)
  end
  held = held + cost
end
if held > 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end

-- Free again first: the oldest; after a refusal the one whose going makes room for the cost.
local first = 0
if taken == 0 then
  first = held + cost - limit - 1
end
local entry = redis.call('ZRANGE', KEYS[1], first, first, 'WITHSCORES')
return {taken, math.max(0, limit - held), math.max(0, entry[2] + window - now)}

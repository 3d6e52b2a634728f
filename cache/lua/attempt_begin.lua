-- attempt_begin: take a place that is pending until the attempt has ended.
-- Only failures count: a success gives its place back (see attempt_fail). Beginning twice is the same as once.
--
--   KEYS[1]  log       sorted set: "p:" .. id of a pending attempt or "f:" .. id
--                      of a counted failure -> time begun or failed, µs
--   ARGV[1]  window    µs, > 0
--   ARGV[2]  limit     failures in any window, > 0
--   ARGV[3]  ttl       ms, at least the window
--   ARGV[4]  patience  µs: what is pending for longer counts as failed
--   ARGV[5]  id        of this attempt, the same in no other
--   ARGV[6…]           pairs of member and age in µs: what the caller was given
--                      before and Redis may have lost
--
-- Returns {begun 0|1, places left, wait µs, pending}. Not begun with pending
-- above 0: the limit is full, but only some of it are failures; try again soon.
-- Not begun with pending 0: failures fill it, and wait is until one is too old.
-- Not begun with pending -1: likewise, with what is pending for too long, and may
-- yet succeed.
local window, limit, patience = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[4])

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
-- First, since a full Redis lets a script add only once it has done what takes memory away.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now - window))
for i = 6, #ARGV, 2 do
  if ARGV[i + 1] - window < 0 then
    redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', now - ARGV[i + 1]), ARGV[i])
  end
  if string.sub(ARGV[i], 1, 2) == 'f:' then
    redis.call('ZREM', KEYS[1], 'p:' .. string.sub(ARGV[i], 3))
  end
end

local held = redis.call('ZCARD', KEYS[1])
if held < limit or redis.call('ZSCORE', KEYS[1], 'p:' .. ARGV[5]) then -- sent again, it may be one of those that fill it
  held = held + redis.call('ZADD', KEYS[1], 'NX', string.format('%.0f', now), 'p:' .. ARGV[5])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  local entry = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  return {1, math.max(0, limit - held), math.max(0, entry[2] + window - now), 0}
end

-- Few more members than the limit, and those of the callers' own: short enough to walk.
local failed, counted, pending = {}, {}, 0
local members = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #members, 2 do
  local at, waits = tonumber(members[i + 1]), string.sub(members[i], 1, 2) == 'p:'
  if waits and at > now - patience then
    pending = pending + 1
  else
    counted[#counted + 1] = at
  end
  if not waits then
    failed[#failed + 1] = at
  end
end
if #counted < limit then
  return {0, 0, 0, math.max(1, pending)}
end
local lasts = #failed >= limit
local full = lasts and failed or counted
return {0, 0, math.max(0, full[#full - limit + 1] + window - now), lasts and 0 or -1}

-- window_take: take places in sliding windows: of each log all that are wanted, or none.
-- One script, so two callers never both see the last place. Redis's clock decides. Taking twice by one id is the
-- same as once.
--
--   KEYS[1]  log     sorted set: reservation -> time taken, µs; more may follow, of the same server
--   ARGV[1]  window  µs, > 0
--   ARGV[2]  limit   places in any window, > 0
--   ARGV[3]  ttl     ms, at least the window
--   ARGV[4]  cost    places wanted, 1 to limit
--   ARGV[5]  id      of this reservation, the same in no other
--   ARGV[6]  lost    how many pairs of id and age in µs follow: what the caller was given before and
--                    Redis may have lost
--   ARGV[7…]         those; then all that again for the next log
--
-- Returns for each log {taken 0|1, places left, wait µs}, one after the other: the wait is until the
-- oldest place is free again, or, where none was taken, until as many as wanted are. Taken is -1 where
-- the key holds something else; the others are served all the same.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local at = string.format('%.0f', now) -- Lua would write a number this large as 1.79e+15
local answers = {}
local a = 1
for k, log in ipairs(KEYS) do
  local window, limit, ttl, cost, id = tonumber(ARGV[a]), tonumber(ARGV[a + 1]), ARGV[a + 2], tonumber(ARGV[a + 3]), ARGV[a + 4]
  local pairs_end = a + 5 + 2 * ARGV[a + 5]
  local taken, left, wait = 0, 0, 0
  local old = redis.pcall('ZREMRANGEBYSCORE', log, '-inf', string.format('%.0f', now - window))
  if type(old) == 'table' then
    if not string.find(old.err, 'WRONGTYPE', 1, true) then
      return old
    end
    taken = -1
  else
    for i = a + 6, pairs_end, 2 do
      if ARGV[i + 1] - window < 0 then
        redis.call('ZADD', log, 'NX', string.format('%.0f', now - ARGV[i + 1]), ARGV[i])
      end
    end
    local held, added = redis.call('ZCARD', log), 0
    if held + cost <= limit then
      taken = 1
      for i = 1, cost do
        added = added + redis.call('ZADD', log, 'NX', at, id .. ':' .. i)
      end
      wait = window
    elseif redis.call('ZSCORE', log, id .. ':1') then -- sent again: its own places fill the log
      taken = 1
    end
    if held + taken > 0 then
      redis.call('PEXPIRE', log, ttl)
    end
    if held > 0 then
      -- Free again first: the oldest; after a refusal the one whose going makes room for the cost.
      local first = 0
      if taken == 0 then
        first = held + cost - limit - 1
      end
      local entry = redis.call('ZRANGE', log, first, first, 'WITHSCORES')
      wait = math.max(0, entry[2] + window - now)
    end
    left = math.max(0, limit - held - added)
  end
  answers[3 * k - 2], answers[3 * k - 1], answers[3 * k] = taken, left, wait
  a = pairs_end + 1
end
return answers

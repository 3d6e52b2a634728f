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
--
-- Most logs hold nothing that is over: the oldest place says so, and when it is free again. A script that has
-- written may go on in a Redis whose memory is full: so each log begins with something that takes none.
local call, pcall, all = redis.call, redis.pcall, ARGV
local time = call('TIME')
local now = time[1] * 1000000 + time[2]
local at = string.format('%.0f', now) -- Lua would write a number this large as 1.79e+15
local answers = {}
local a = 1
for k, log in ipairs(KEYS) do
  local window, limit, cost = tonumber(all[a]), tonumber(all[a + 1]), tonumber(all[a + 3])
  local id, pairs_end = all[a + 4], a + 5 + 2 * all[a + 5]
  local taken, left, wait = 0, 0, 0
  local oldest = pcall('ZRANGE', log, 0, 0, 'WITHSCORES')
  if oldest.err then
    if not string.find(oldest.err, 'WRONGTYPE', 1, true) then
      return oldest
    end
    taken = -1
  else
    local over = oldest[2] and oldest[2] - now <= -window
    local lasts = oldest[2] and not over -- else it may be another that begins
    if lasts then
      call('PEXPIRE', log, all[a + 2])
    else
      call('ZREMRANGEBYSCORE', log, '-inf', string.format('%.0f', now - window))
    end
    for i = a + 6, pairs_end, 2 do
      if all[i + 1] - window < 0 then
        over = true
        call('ZADD', log, 'NX', string.format('%.0f', now - all[i + 1]), all[i])
      end
    end
    if over then
      oldest = call('ZRANGE', log, 0, 0, 'WITHSCORES')
    end
    local held, added = oldest[2] and call('ZCARD', log) or 0, 0
    if held + cost <= limit then
      taken = 1
      added = call('ZADD', log, 'NX', at, id .. ':1') -- by itself: spelling a number takes Lua long
      for i = 2, cost do
        added = added + call('ZADD', log, 'NX', at, id .. ':' .. i)
      end
      wait = window
    elseif call('ZSCORE', log, id .. ':1') then -- sent again: its own places fill the log
      taken = 1
    end
    if not lasts and held + taken > 0 then
      call('PEXPIRE', log, all[a + 2])
    end
    if taken == 0 and held + cost > limit + 1 then
      -- The one whose going makes room for the cost.
      local nth = held + cost - limit - 1
      oldest = call('ZRANGE', log, nth, nth, 'WITHSCORES')
    end
    if oldest[2] then
      wait = math.max(0, oldest[2] + window - now)
    end
    left = math.max(0, limit - held - added)
  end
  answers[3 * k - 2], answers[3 * k - 1], answers[3 * k] = taken, left, wait
  a = pairs_end + 1
end
return answers

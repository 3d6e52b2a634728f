-- analytics_drop: forget an hour that was written down. Who was active on its day stays.
--
--   KEYS[1]  base  as in analytics_add
--   ARGV[1]  hour  its Unix time
--
-- Returns how many keys there were.
local base, hour = KEYS[1], ARGV[1]
redis.call('SREM', base .. ':hours', hour)
local gone = 0
for _, part in ipairs({'hour', 'active', 'rooms', 'joins', 'languages'}) do
  gone = gone + redis.call('UNLINK', base .. ':' .. part .. ':' .. hour)
end
return gone

-- analytics_hour: what is known of one hour.
--
--   KEYS[1]  base  as in analytics_add
--   ARGV[1]  hour  its Unix time
--   ARGV[2]  top   how many rooms at most
--
-- Returns {peak online, people, joins, rooms opened, ms together, partial, names and numbers of languages…, "",
-- then of each room its id, ms together and joins}.
local base, hour = KEYS[1], ARGV[1]
local function sum(name)
  return tostring(redis.call('HGET', base .. ':hour:' .. hour, name) or 0)
end
local reply = {
  sum('online'), tostring(redis.call('PFCOUNT', base .. ':active:' .. hour)), sum('joins'), sum('created'), sum('together'),
  sum('partial'),
}
for _, text in ipairs(redis.call('HGETALL', base .. ':languages:' .. hour)) do
  table.insert(reply, text)
end
table.insert(reply, '')
local rooms = redis.call('ZREVRANGE', base .. ':rooms:' .. hour, 0, ARGV[2] - 1, 'WITHSCORES')
for i = 1, #rooms, 2 do
  table.insert(reply, rooms[i])
  table.insert(reply, rooms[i + 1])
  table.insert(reply, tostring(redis.call('HGET', base .. ':joins:' .. hour, rooms[i]) or 0))
end
return reply

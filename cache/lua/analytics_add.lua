-- analytics_add: add what happened between two places of the history, once.
--
--   KEYS[1]  base   the keys of analytics begin with it: <base>:place, a string, up to where events were added;
--                   <base>:hours, a set of hours; and of each hour, by its Unix time, <base>:hour:<h>, a hash of sums,
--                   <base>:active:<h> and <base>:day:<d>, HyperLogLogs of people, <base>:rooms:<h>, a sorted set
--                   room -> ms together, <base>:joins:<h>, a hash room -> joins, <base>:languages:<h>, a hash
--   ARGV[1]  from   the place that must still hold; empty where there must be none
--   ARGV[2]  to     the place from now on
--   ARGV[3]  ttl    ms, of everything
--   ARGV[4]  hours  JSON: what happened, an object for each hour
--
-- Returns 1, or 0 where another place holds and nothing was added.
local base, ttl = KEYS[1], ARGV[3]
if (redis.call('GET', base .. ':place') or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', base .. ':place', ARGV[2], 'PX', ttl)

for _, h in ipairs(cjson.decode(ARGV[4])) do
  redis.call('SADD', base .. ':hours', h.hour)
  redis.call('PEXPIRE', base .. ':hours', ttl)
  local sums = base .. ':hour:' .. h.hour
  for name, n in pairs(h.sums) do
    redis.call('HINCRBY', sums, name, n)
  end
  if h.online > tonumber(redis.call('HGET', sums, 'online') or 0) then
    redis.call('HSET', sums, 'online', h.online)
  end
  if h.partial then
    redis.call('HSET', sums, 'partial', 1)
  end
  redis.call('PEXPIRE', sums, ttl)
  for _, user in ipairs(h.users) do
    redis.call('PFADD', base .. ':active:' .. h.hour, user)
    redis.call('PFADD', base .. ':day:' .. h.day, user)
  end
  redis.call('PEXPIRE', base .. ':active:' .. h.hour, ttl)
  redis.call('PEXPIRE', base .. ':day:' .. h.day, ttl)
  for id, use in pairs(h.rooms) do
    redis.call('ZINCRBY', base .. ':rooms:' .. h.hour, use.together, id)
    redis.call('HINCRBY', base .. ':joins:' .. h.hour, id, use.joins)
  end
  redis.call('PEXPIRE', base .. ':rooms:' .. h.hour, ttl)
  redis.call('PEXPIRE', base .. ':joins:' .. h.hour, ttl)
  for language, use in pairs(h.languages) do
    redis.call('HINCRBY', base .. ':languages:' .. h.hour, 'joins:' .. language, use.joins)
    redis.call('HINCRBY', base .. ':languages:' .. h.hour, 'together:' .. language, use.together)
  end
  redis.call('PEXPIRE', base .. ':languages:' .. h.hour, ttl)
end
return 1

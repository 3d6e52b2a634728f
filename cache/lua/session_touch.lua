-- session_touch: note that a session was used, where nothing newer is noted.
--
--   KEYS[1]  session     hash: at, ip, agent, generation
--   ARGV[1]  at          when it was used, µs
--   ARGV[2]  ip          from where
--   ARGV[3]  agent       with what
--   ARGV[4]  generation  of the token that was shown
--   ARGV[5]  ttl         ms, > 0
--
-- Returns 1 where it noted the use, else 0.
local known = redis.call('HGET', KEYS[1], 'at')
if known and tonumber(known) > tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'at', ARGV[1], 'ip', ARGV[2], 'agent', ARGV[3], 'generation', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1

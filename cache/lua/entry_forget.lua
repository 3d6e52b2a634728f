-- entry_forget: drop an entry, whatever it holds, and tell those who keep a copy of it.
-- One script, so nobody hears of it who could still read the old entry.
--
--   KEYS[1]  entry    string: a lease, a value or an absence
--   ARGV[1]  channel  where the nodes listen
--   ARGV[2]  key      what they know the entry by
--
-- Returns 1 where there was an entry, else 0.
local dropped = redis.call('UNLINK', KEYS[1])
redis.call('PUBLISH', ARGV[1], ARGV[2])
return dropped

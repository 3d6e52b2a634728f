-- entry_fill: store what was loaded, where the lease that it was loaded under still stands.
-- A write in between has taken the lease away, so nothing older than a write is ever stored.
--
--   KEYS[1]  entry  string: a lease, a value or an absence
--   ARGV[1]  lease  the bytes of the lease, as they were set
--   ARGV[2]  value  the bytes to store
--   ARGV[3]  ttl    ms, > 0
--
-- Returns 1 where it stored, else 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1

-- entry_release: give a lease back that nothing will be stored under.
--
--   KEYS[1]  entry  string: a lease, a value or an absence
--   ARGV[1]  lease  the bytes of the lease, as they were set
--
-- Returns 1 where the lease still stood, else 0.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('UNLINK', KEYS[1])

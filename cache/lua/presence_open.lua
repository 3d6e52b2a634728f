-- presence_open: add connections. That a user was leaving is not taken back
-- here: whoever expires finds that they have a connection.
--
--   KEYS[1]  shard   presence:{s}: in front of everything of the shard
--   ARGV[1]  node
--   ARGV[2]  lasts   ms of what every node's reports renew, > 0
--   ARGV[3…] user, connection; again for each, a hundred at most
--
-- Returns for each 1 where the user went online, 0 where they were, -1 where
-- the node was swept.
local base = KEYS[1]
local answers, members, users = {}, {}, {}
for i = 3, #ARGV, 2 do
  local n = #users + 1
  users[n], members[n], answers[n] = ARGV[i], ARGV[i] .. ' ' .. ARGV[i + 1], -1
end
if redis.call('EXISTS', base .. 'swept:' .. ARGV[1]) == 1 then
  return answers
end
local conns, node, online = base .. 'conns', base .. 'node:' .. ARGV[1], base .. 'online'
local known, were = redis.call('HMGET', conns, unpack(users)), redis.call('ZMSCORE', online, unpack(users))
local held, sets, new, flips = {}, {}, {}, {}
for n, user in ipairs(users) do
  local conn, ids = ARGV[2 * n + 2], held[user] or known[n]
  if not ids then
    held[user] = conn
  elseif not string.find(' ' .. ids .. ' ', ' ' .. conn .. ' ', 1, true) then
    held[user] = ids .. ' ' .. conn
  else
    held[user] = ids
  end
  sets[2 * n - 1], sets[2 * n] = user, held[user] -- what comes later counts
  if were[n] then
    answers[n] = 0
  else
    answers[n] = 1
    new[#new + 1], new[#new + 2] = '0', user
    flips[#flips + 1] = user .. ' 1'
  end
end
redis.call('HSET', conns, unpack(sets))
redis.call('SADD', node, unpack(members))
if #flips > 0 then
  redis.call('ZADD', online, unpack(new))
  redis.call('PUBLISH', base .. 'flips', table.concat(flips, '\n'))
end
redis.call('PEXPIRE', conns, ARGV[2])
redis.call('PEXPIRE', node, ARGV[2])
redis.call('PEXPIRE', online, ARGV[2])
return answers

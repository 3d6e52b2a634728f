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
local answers, members, users, scores = {}, {}, {}, {}
for i = 3, #ARGV, 2 do
  local n = #users + 1
  users[n], members[n] = ARGV[i], ARGV[i] .. ' ' .. ARGV[i + 1]
  scores[2 * n - 1], scores[2 * n] = '0', members[n]
  answers[n] = -1
end
if redis.call('EXISTS', base .. 'swept:' .. ARGV[1]) == 1 then
  return answers
end
local conns, node, online = base .. 'conns', base .. 'node:' .. ARGV[1], base .. 'online'
redis.call('ZADD', conns, unpack(scores))
redis.call('SADD', node, unpack(members))
local were, new, flips = redis.call('ZMSCORE', online, unpack(users)), {}, {}
for n, user in ipairs(users) do
  if were[n] then
    answers[n] = 0
  else
    answers[n] = 1
    new[#new + 1], new[#new + 2] = '0', user
    flips[#flips + 1] = user .. ' 1'
  end
end
if #flips > 0 then
  redis.call('ZADD', online, unpack(new))
  redis.call('PUBLISH', base .. 'flips', table.concat(flips, '\n'))
end
for _, key in ipairs({conns, node, online}) do
  redis.call('PEXPIRE', key, ARGV[2])
end
return answers

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
--
-- A call from Lua costs more than what it does: what can be is one for all.
local base, node = KEYS[1], ARGV[1]
local answers, members, users = {}, {}, {}
for i = 3, #ARGV, 2 do
  local n = #users + 1
  users[n], members[n] = ARGV[i], ARGV[i] .. ' ' .. ARGV[i + 1]
  answers[n] = -1
end
if redis.call('EXISTS', base .. 'swept:' .. node) == 1 then
  return answers
end
local counts, set, online = base .. 'counts', base .. 'node:' .. node, base .. 'online'
local nodes, is, has = look(base, node, ARGV[2], users)
local known, marked
for n = 1, #users do
  if has[n] and not known then -- it may be this very connection
    known, marked = redis.call('SMISMEMBER', set, unpack(members)), {}
  end
end
for n = 1, known and #members or 0 do
  marked[n] = known[n] == 0
end
local added = redis.call('SADD', set, unpack(members))
if added < #members then
  marked = marked or {}
  once(members, marked)
end
local write, now = {counts, '#' .. node, is + added}, {}
for n, user in ipairs(users) do
  if not marked or marked[n] then
    local left = (now[user] or has[n] or 0) + 1
    now[user] = left
    write[#write + 1], write[#write + 2] = user, left == 1 and '1' or left -- spelling a number takes Lua long
  end
end
if is == 0 then
  write[#write + 1], write[#write + 2] = '#', nodes .. node .. ' '
end
redis.call('HSET', unpack(write))
local were, fresh, flips = redis.call('ZMSCORE', online, unpack(users)), {}, {}
for n, user in ipairs(users) do
  if were[n] then
    answers[n] = 0
  else
    answers[n] = 1
    fresh[#fresh + 1], fresh[#fresh + 2] = '0', user
    flips[#flips + 1] = user .. ' 1'
  end
end
if #flips > 0 then
  redis.call('ZADD', online, unpack(fresh))
  redis.call('PUBLISH', base .. 'flips', table.concat(flips, '\n'))
end
if is == 0 then
  redis.call('PEXPIRE', set, ARGV[2])
  redis.call('PEXPIRE', online, ARGV[2])
end
return answers

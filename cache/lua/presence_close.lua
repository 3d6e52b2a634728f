-- presence_close: take connections away; who has none left is leaving.
--
--   KEYS[1]  shard   presence:{s}: in front of everything of the shard
--   ARGV[1]  node
--   ARGV[2]  grace   ms until the users go offline, >= 0
--   ARGV[3]  lasts   ms of what every node's reports renew, > 0
--   ARGV[4…] user, connection; again for each, a hundred at most
--
-- Returns for each how many connections the user has left, or -1 where this one
-- was not known: then it is not for the caller to say that the user is leaving.
local base = KEYS[1]
local conns, answers, members, users = base .. 'conns', {}, {}, {}
for i = 4, #ARGV, 2 do
  users[#users + 1], members[#members + 1] = ARGV[i], ARGV[i] .. ' ' .. ARGV[i + 1]
end
local known = redis.call('ZMSCORE', conns, unpack(members))
redis.call('ZREM', conns, unpack(members))
redis.call('SREM', base .. 'node:' .. ARGV[1], unpack(members))
local swept = redis.call('EXISTS', base .. 'swept:' .. ARGV[1]) == 1
local gone = {}
for n, user in ipairs(users) do
  answers[n] = redis.call('ZLEXCOUNT', conns, '[' .. user .. ' ', '(' .. user .. '!') -- the space comes before !
  if answers[n] == 0 then
    if not known[n] or swept then
      answers[n] = -1
    end
    if not swept then
      gone[#gone + 1] = user
    end
  end
end
if #gone == 0 then
  return answers
end
if ARGV[2] == '0' and redis.call('EXISTS', base .. 'whole') == 1 then
  local online, flips = redis.call('ZMSCORE', base .. 'online', unpack(gone)), {}
  for n, user in ipairs(gone) do
    if online[n] then
      flips[#flips + 1] = user .. ' 0'
    end
  end
  redis.call('ZREM', base .. 'leaving', unpack(gone))
  if #flips > 0 then
    redis.call('ZREM', base .. 'online', unpack(gone))
    redis.call('PUBLISH', base .. 'flips', table.concat(flips, '\n'))
  end
  return answers
end
local now = redis.call('TIME')
-- spelled once: Lua would spell it for each, and slowly
local at, leaving = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2]), {}
for _, user in ipairs(gone) do
  leaving[#leaving + 1], leaving[#leaving + 2] = at, user
end
redis.call('ZADD', base .. 'leaving', unpack(leaving))
redis.call('PEXPIRE', base .. 'leaving', ARGV[3])
return answers

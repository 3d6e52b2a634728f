-- presence_close: take connections away; who has none left is leaving. Those of
-- a node that was swept are left to the sweep.
--
--   KEYS[1]  shard   presence:{s}: in front of everything of the shard
--   ARGV[1]  node
--   ARGV[2]  grace   ms until the users go offline, >= 0
--   ARGV[3]  lasts   ms of what every node's reports renew, > 0
--   ARGV[4…] user, connection; again for each, a hundred at most
--
-- Returns for each how many connections the user has left, or -1 for none where
-- this one was not known: then it is not for the caller to say that the user is
-- leaving.
local base, node = KEYS[1], ARGV[1]
local counts, set = base .. 'counts', base .. 'node:' .. node
local answers, members, users = {}, {}, {}
for i = 4, #ARGV, 2 do
  users[#users + 1], members[#members + 1] = ARGV[i], ARGV[i] .. ' ' .. ARGV[i + 1]
end
if redis.call('EXISTS', base .. 'swept:' .. node) == 1 then
  for n, left in ipairs(redis.call('HMGET', counts, unpack(users))) do
    answers[n] = tonumber(left or -1)
  end
  return answers
end
local nodes, is, has = look(base, node, ARGV[3], users)
local known, many = redis.call('SMISMEMBER', set, unpack(members)), 0
for n, there in ipairs(known) do
  known[n] = there == 1
  many = many + there
end
local taken = many == 0 and 0 or redis.call('SREM', set, unpack(members))
if taken < many then
  once(members, known)
end
local now, gone, went = {}, {}, {}
for n, user in ipairs(users) do
  local left = now[user] or tonumber(has[n] or 0)
  if known[n] then
    left = math.max(0, left - 1)
    now[user] = left
  elseif left == 0 then
    left = -1
  end
  answers[n] = left
  if left <= 0 and not went[user] then
    gone[#gone + 1], went[user] = user, true
  end
end
if taken > 0 then
  local write, drop = {counts}, {counts}
  for user, left in pairs(now) do
    if left == 0 then
      drop[#drop + 1] = user
    else
      write[#write + 1], write[#write + 2] = user, left
    end
  end
  if is > taken then
    write[#write + 1], write[#write + 2] = '#' .. node, is - taken
  else
    drop[#drop + 1] = '#' .. node
    write[#write + 1], write[#write + 2] = '#', without(nodes, node)
  end
  redis.call('HSET', unpack(write))
  if #drop > 1 then
    redis.call('HDEL', unpack(drop))
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
return answers

-- presence_close: take connections away; who has none left is leaving. Those of
-- a node that was swept are left to the sweep.
--
--   KEYS[1]  shard   presence:{s}: in front of everything of the shard
--   ARGV[1]  node
--   ARGV[2]  grace   ms until the users go offline, >= 0
--   ARGV[3]  lasts   ms of what every node's reports renew, > 0
--   ARGV[4…] users   each once, a hundred at most; then of each the connection,
--                    as it is in the node's set
--
-- Returns for each how many connections the user has left, or -1 for none where
-- this one was not known: then it is not for the caller to say that the user is
-- leaving.
local base, node, many = KEYS[1], ARGV[1], (#ARGV - 3) / 2
local counts, set = base .. 'counts', base .. 'node:' .. node
local answers = {}
if redis.call('EXISTS', base .. 'swept:' .. node) == 1 then
  local has = redis.call('HMGET', counts, unpack(ARGV, 4, many + 3))
  for n = 1, many do
    local left = tonumber(has[n] or 0)
    answers[n] = left > 0 and left or -1
  end
  return answers
end
local nodes, is, has = look(base, node, ARGV[3], 4, many + 3)
local offline = ARGV[2] == '0' and redis.call('EXISTS', base .. 'whole') == 1
local now = redis.call('TIME')
-- spelled once: Lua would spell it for each, and slowly
local at = string.format('%.0f', now[1] * 1000 + math.floor(now[2] / 1000) + ARGV[2])
local known = redis.call('SMISMEMBER', set, unpack(ARGV, many + 4))
local taken = redis.call('SREM', set, unpack(ARGV, many + 4))
local write, w, drop, flips, leaving, gone = {counts}, 1, {counts}, {}, {}, 0
for n = 1, many do
  local user, before, mine = ARGV[n + 3], has[n + 2], known[n] == 1
  local left = 0
  if before ~= '1' or not mine then
    left = math.max(0, tonumber(before or 0) - known[n])
  end
  answers[n] = (left > 0 or mine) and left or -1
  if left == 0 and offline then
    gone = gone + 1
    leaving[gone] = user
    if before then
      flips[#flips + 1], drop[#drop + 1] = user .. ' 0', user
    end
  elseif left == 0 then
    gone = gone + 2
    leaving[gone - 1], leaving[gone] = at, user
  end
  if mine and (left > 0 or not offline) then
    write[w + 1], write[w + 2] = user, left == 0 and '0' or left
    w = w + 2
  end
end
if taken > 0 and is > taken then
  write[w + 1], write[w + 2] = '#' .. node, is - taken
  redis.call('HSET', unpack(write))
elseif taken > 0 then
  drop[#drop + 1] = '#' .. node
  write[w + 1], write[w + 2] = '#', without(nodes, node)
  redis.call('HSET', unpack(write))
end
if #drop > 1 then
  redis.call('HDEL', unpack(drop))
end
if gone > 0 and not offline then
  redis.call('ZADD', base .. 'leaving', unpack(leaving))
elseif gone > 0 then
  redis.call('ZREM', base .. 'leaving', unpack(leaving))
end
if #flips > 0 then
  redis.call('ZREM', base .. 'online', unpack(leaving))
  redis.call('PUBLISH', base .. 'flips', table.concat(flips, '\n'))
end
return answers

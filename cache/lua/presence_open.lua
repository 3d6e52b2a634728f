-- presence_open: add connections. That a user was leaving is not taken back
-- here: whoever expires finds that they have a connection.
--
--   KEYS[1]  shard   presence:{s}: in front of everything of the shard
--   ARGV[1]  node
--   ARGV[2]  lasts   ms of what every node's reports renew, > 0
--   ARGV[3…] users   each once, a hundred at most; then of each the connection,
--                    as it is in the node's set
--
-- Returns for each 1 where the user went online, 0 where they were, -1 where
-- the node was swept.
--
-- A call from Lua costs more than what it does, and so does asking a table for
-- its length: what can be is one call for all, and tables are counted along.
local base, node, many = KEYS[1], ARGV[1], (#ARGV - 2) / 2
local counts, set, online = base .. 'counts', base .. 'node:' .. node, base .. 'online'
local answers = {}
if redis.call('EXISTS', base .. 'swept:' .. node) == 1 then
  for n = 1, many do
    answers[n] = -1
  end
  return answers
end
local nodes, is, has = look(base, node, ARGV[2], 3, many + 2)
local known = {}
for n = 1, many do
  if has[n + 2] and has[n + 2] ~= '0' then -- it may be this very connection
    known = redis.call('SMISMEMBER', set, unpack(ARGV, many + 3))
    break
  end
end
local added = redis.call('SADD', set, unpack(ARGV, many + 3))
local write, w, fresh, flips, f = {counts, '#' .. node, is + added}, 3, {}, {}, 0
for n = 1, many do
  local user, before = ARGV[n + 2], has[n + 2]
  answers[n] = before and 0 or 1
  if known[n] ~= 1 then
    if not before then
      f = f + 1
      fresh[f * 2 - 1], fresh[f * 2], flips[f] = '0', user, user .. ' 1'
    end
    -- spelling a number takes Lua long
    write[w + 1], write[w + 2] = user, (not before or before == '0') and '1' or before + 1
    w = w + 2
  end
end
if is == 0 then
  write[w + 1], write[w + 2] = '#', nodes .. node .. ' '
end
redis.call('HSET', unpack(write))
if f > 0 then
  redis.call('ZADD', online, unpack(fresh))
  redis.call('PUBLISH', base .. 'flips', table.concat(flips, '\n'))
end
if is == 0 then
  redis.call('PEXPIRE', set, ARGV[2])
  redis.call('PEXPIRE', online, ARGV[2])
end
return answers

-- presence: how all begin that change connections.
--
--   {s}:counts       hash: user → connections, 0 while their grace runs;
--                    '#<node>' → how many of its set are in them; '#' → those nodes
--   {s}:node:<node>  set: the node's connections, as user and connection
--   {s}:leaving      sorted set: besides users, '#' with no end

-- afresh begins a shard of which Redis lost a key, as by eviction: for whom that
-- counted nobody knows, so all goes, as by FLUSHALL. The shard is not whole until
-- every node has reported, and each finds that it has to add all of its own again.
local function afresh(base, lasts)
  local counts, leaving = base .. 'counts', base .. 'leaving'
  redis.call('UNLINK', counts, base .. 'online', leaving)
  redis.call('DEL', base .. 'whole', base .. 'reported')
  redis.call('HSET', counts, '#', ' ')
  redis.call('ZADD', leaving, '+inf', '#')
  redis.call('PEXPIRE', counts, lasts)
  redis.call('PEXPIRE', leaving, lasts)
end

-- look returns the nodes that are counted, how many of this one are, and, from
-- the third on, what the users of those arguments have. A set of which none is
-- counted is older than the counts, and goes.
local function look(base, node, lasts, first, last)
  local has = redis.call('HMGET', base .. 'counts', '#' .. node, '#', unpack(ARGV, first, last))
  local nodes, is = has[2], tonumber(has[1] or 0)
  if not nodes then
    afresh(base, lasts)
    nodes = ' '
  end
  if is == 0 then
    redis.call('UNLINK', base .. 'node:' .. node)
  end
  return nodes, is, has
end

-- without is the nodes but one.
local function without(nodes, node)
  local at = string.find(nodes, ' ' .. node .. ' ', 1, true)
  return at and string.sub(nodes, 1, at) .. string.sub(nodes, at + #node + 2) or nodes
end

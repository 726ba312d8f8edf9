-- What every step shares. All keys of a queue begin with ARGV[1], whose braces put them into one slot of a Redis Cluster;
-- KEYS[1] is its stream of tasks that wait or are worked on. Times are Redis' own, in ms.
local PREFIX, STREAM, GROUP = ARGV[1], KEYS[1], 'workers'
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local NEWEST = 10000 -- tasks of a caller that can be listed

-- what is shown of a task
local FIELDS = {'state', 'created', 'started', 'finished', 'attempts', 'due', 'document', 'reason', 'run'}

local function task(id) return PREFIX .. ':task:' .. id end

local function of_owner(kind, id) return PREFIX .. ':' .. kind .. ':' .. redis.call('HGET', task(id), 'owner') end

local function group()
  -- a Redis that came back empty has none
  if redis.call('EXISTS', STREAM) == 0 then redis.call('XGROUP', 'CREATE', STREAM, GROUP, '0', 'MKSTREAM') end
end

local function tell(id, event, data)
  local key = PREFIX .. ':events:' .. id
  redis.call('XADD', key, 'MAXLEN', '~', 2000, '*', 'event', event, 'data', data)
  redis.call('PEXPIRE', key, math.max(redis.call('PTTL', task(id)), 1000))
  redis.call('PUBLISH', PREFIX .. ':news', id)
end

local function tell_status(id, status, more)
  local attempts = redis.call('HGET', task(id), 'attempts')
  tell(id, 'status', '{"status":"' .. status .. '","attempts":' .. attempts .. (more or '') .. '}')
end

local function leave(id)
  -- the task's entry ends: it neither waits nor is it worked on
  local entry = redis.call('HGET', task(id), 'entry')
  if entry and entry ~= '' then
    -- an entry that was never delivered stays until it is: taken out of the middle, the group's lag would be unknown
    if redis.call('XACK', STREAM, GROUP, entry) == 1 then redis.call('XDEL', STREAM, entry) end
  end
  redis.call('ZREM', PREFIX .. ':delayed', id)
  redis.call('HSET', task(id), 'entry', '', 'lease', '', 'due', '')
end

local function wait(id)
  group()
  redis.call('HSET', task(id), 'state', 'queued', 'entry', redis.call('XADD', STREAM, '*', 'id', id), 'due', '', 'lease', '')
end

local function list(kind, id)
  local key = of_owner(kind, id)
  redis.call('ZADD', key, clock[1] * 1000000 + clock[2], id) -- in microseconds no two are alike
  redis.call('ZREMRANGEBYRANK', key, 0, -NEWEST - 1)
  redis.call('PEXPIRE', key, 2592000000)
end

local function finish(id, state, document, reason, lives)
  local by = redis.call('HGET', task(id), 'lease')
  leave(id)
  redis.call('HSET', task(id), 'state', state, 'finished', now, 'document', document, 'reason', reason, 'by', by or '')
  if state == 'failed' then list('dead', id) else redis.call('HDEL', task(id), 'input') end
  redis.call('PEXPIRE', task(id), lives)
  tell(id, state == 'succeeded' and 'result' or 'error', document)
end


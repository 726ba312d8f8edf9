-- Decides what every step of a budget in Redis begins with: which life of Redis this is, what time, and what its accounts are.
--
-- One step is this file and the step's own, run as one script, so it is atomic. Repeating a step changes nothing further.
-- Amounts are pairs {tokens, nano-USD} of whole numbers below 2^53, which a Lua number holds exactly; `..` would round them.
--
-- KEYS: book   hash: epoch, a:I:START (accounts); alone also w1 and w2 (current windows: "start end" in ms); in a cluster also
--              h:I:START (chunks), m:I:START (spend by model that a report says), reported and lacked (ms), lock ("word ms")
--       open   hash: reservations by request id: "O|L tokens nano start1 start2" (open or lost)
--       lease  sorted set: open reservations by the ms at which their lease ends
--       lost   sorted set: presumed reservations by the ms from which they are forgotten
--       done   sorted set: settled request ids by the ms at which they were settled
--       models hash: spend by model and price: alone "START1/START2/t|n/LABEL"; in a cluster "I/START/t|n/LABEL", what the
--              AgentLedger does not show yet
-- ARGV[1]: the epoch, empty where Redis stands alone.
local BOOK, OPEN, LEASE, LOST, DONE, MODELS = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local EPOCH = ARGV[1]
local OTHER = '["other",""]'
local NO_LIMIT = 9007199254740991
local SWEPT_AT_ONCE = 32
local LOST_KEPT = 86400000
local DONE_KEPT = 32768

local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local function numbers(text)
  local found = {}
  for each in string.gmatch(text, '%S+') do found[#found + 1] = tonumber(each) end
  return found
end

local function digits(...)
  local found = {...}
  for index, number in ipairs(found) do found[index] = string.format('%.0f', number) end
  return table.concat(found, ' ')
end

-- One string, a line for each part: it is read with less effort than a list. Every step of a request answers so.
local function lines(...)
  return table.concat({...}, '\n')
end

local function whole(number)
  return string.format('%.0f', number)
end

-- An old state that a restarted Redis has loaded still names its old epoch, which begins with the run_id of the life that wrote it.
local function run_id()
  return string.sub(string.match(redis.call('INFO', 'server'), 'run_id:(%x+)'), 1, 12)
end

local function is_other_life(stored)
  return EPOCH ~= '' and (stored ~= EPOCH or string.sub(EPOCH, 1, 12) ~= run_id())
end

-- Accounts: {settled t n, presumed t n, reserved t n}. Read once, written once.
local accounts, changed = {}, {}

local function keep(field, text)
  accounts[field] = text and numbers(text) or nil
  return accounts[field]
end

local function account(field)
  return accounts[field] or keep(field, redis.call('HGET', BOOK, field) or nil)
end

local function fields_of(start1, start2)
  return 'a:1:' .. start1, 'a:2:' .. start2
end

local function add(field, index, tokens, nano)
  local found = account(field)
  if not found then return end
  found[index] = found[index] + tokens
  found[index + 1] = found[index + 1] + nano
  changed[field] = true
end

local function save()
  local written = {}
  for field in pairs(changed) do
    written[#written + 1] = field
    written[#written + 1] = digits(unpack(accounts[field]))
  end
  if #written > 0 then redis.call('HSET', BOOK, unpack(written)) end
  changed = {}
end

local function told(field)
  return accounts[field] and digits(unpack(accounts[field])) or ''
end

local function record(text)
  local state, tokens, nano, start1, start2 = string.match(text, '^(%u) (%d+) (%d+) (%-?%d+) (%-?%d+)$')
  return state, tonumber(tokens), tonumber(nano), start1, start2
end

local function write_record(rid, state, tokens, nano, start1, start2)
  redis.call('HSET', OPEN, rid, state .. ' ' .. digits(tokens, nano) .. ' ' .. start1 .. ' ' .. start2)
end

-- Counts as spent what was reserved by those who have not renewed it; so many in one step, the others in the next.
local function presume_the_dead()
  local dead = redis.call('ZRANGEBYSCORE', LEASE, '-inf', now, 'LIMIT', 0, SWEPT_AT_ONCE)
  for _, rid in ipairs(dead) do
    local text = redis.call('HGET', OPEN, rid)
    if text then
      local _, tokens, nano, start1, start2 = record(text)
      local first, second = fields_of(start1, start2)
      for _, field in ipairs({first, second}) do
        add(field, 5, -tokens, -nano)
        add(field, 3, tokens, nano)
      end
      write_record(rid, 'L', tokens, nano, start1, start2)
      redis.call('ZADD', LOST, now + LOST_KEPT, rid)
    end
    redis.call('ZREM', LEASE, rid)
  end
  local forgotten = redis.call('ZRANGEBYSCORE', LOST, '-inf', now, 'LIMIT', 0, SWEPT_AT_ONCE)
  for _, rid in ipairs(forgotten) do
    redis.call('HDEL', OPEN, rid)
    redis.call('ZREM', LOST, rid)
  end
end

-- A chunk: {seq of this Redis' entry in the AgentLedger, so much t n may be spent of the window by all who ever drew from here}.
local NO_CHUNK = {0, 0, 0}

local function chunk_of(field)
  return 'h' .. string.sub(field, 2)
end

-- Takes from the models what the AgentLedger shows, if it is what was reported last.
local function confirm(field, spent)
  local says = redis.call('HGET', BOOK, 'm' .. string.sub(field, 2))
  local report = says and cjson.decode(says)
  if not report or report.spent ~= spent then return end
  local window = string.gsub(string.sub(field, 3), ':', '/', 1)
  for _, entry in ipairs(report.models) do
    for unit, name in ipairs({'t', 'n'}) do
      local key = window .. '/' .. name .. '/' .. entry[1]
      local amount = entry[1 + unit]
      if amount ~= '0' and redis.call('HINCRBY', MODELS, key, '-' .. amount) == 0 then redis.call('HDEL', MODELS, key) end
      if amount == '0' and redis.call('HGET', MODELS, key) == '0' then redis.call('HDEL', MODELS, key) end
    end
  end
  redis.call('HDEL', BOOK, 'm' .. string.sub(field, 2))
end

local DAY = 86400000
local BOOKS_KEPT = {62 * DAY, 397 * DAY}
local REPORTED_KEPT = {3 * DAY, 65 * DAY}

-- Drops the accounts of windows that ended long ago, and what models cost in them.
local function forget()
  local kept = EPOCH == '' and BOOKS_KEPT or REPORTED_KEPT
  for _, field in ipairs(redis.call('HKEYS', BOOK)) do
    local index, start = string.match(field, '^[ahm]:(%d):(%-?%d+)$')
    if index and tonumber(start) < now - kept[tonumber(index)] then redis.call('HDEL', BOOK, field) end
  end
  for _, field in ipairs(redis.call('HKEYS', MODELS)) do
    local month = string.match(field, '^%-?%d+/(%-?%d+)/')
    if month and tonumber(month) < now - kept[2] then redis.call('HDEL', MODELS, field) end
  end
end

-- Alone, what is lost would be forgotten; a cluster's AgentLedger knows better, and an agent's keys go some time after it.
local function keep_keys()
  if EPOCH == '' then return end
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, 40 * DAY) end
end

-- In a cluster the AgentLedger says which windows are current; the first who names one opens its account.
local function open_account(field)
  if accounts[field] then return end
  if redis.call('HSETNX', BOOK, field, '0 0 0 0 0 0') == 1 then
    forget()
    keep_keys()
  end
  keep(field, redis.call('HGET', BOOK, field))
end

-- Whether `start` (text) begins the current window, which is opened if the one before it (`current`: "start end") is over. Alone,
-- Redis' own clock says so, and windows only move forward.
local function is_current(index, start, ending, current)
  local field = 'a:' .. index .. ':' .. start
  if EPOCH ~= '' then
    open_account(field)
    return true
  end
  local last
  if current then
    local from, to = string.match(current, '^(%-?%d+) (%-?%d+)$')
    if from == start then return now < tonumber(to) end
    last = tonumber(to)
  end
  local begins = tonumber(start)
  if last and (now < last or begins < last) then return false end
  if now < begins or now >= tonumber(ending) then return false end
  redis.call('HSET', BOOK, 'w' .. index, start .. ' ' .. ending)
  open_account(field)
  return true
end

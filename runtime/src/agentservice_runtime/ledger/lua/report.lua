-- Tells what the AgentLedger has to be told next, and lets one pod at a time tell it.
--
-- The totals are cumulative, so whoever writes them, and how often, they count once; what is set aside here to be given back is
-- nobody's until `tell` brings what the AgentLedger says after that.
--
-- ARGV: epoch, word of this write, ms for which it keeps the others waiting, age (ms: do nothing when the last report is
--       younger), then for each window that the AgentLedger lists, 8 each: index, start (ms), and of this Redis' entry as it was
--       seen seq, spent t n; what may be given back t n, and 1 if that is so even when somebody lacks it
-- Answer: {REPORT, now, "", "", JSON: [{index, start, account, chunk, returned, models: [[label, t, n]]}]}, all figures as text
--         | {NOTHING, now} | {WAIT, now, "", "", ms}: another pod writes | {EPOCH, now}
local SPARED = 3000

local head = redis.call('HMGET', BOOK, 'epoch', 'reported', 'lock', 'lacked')
if is_other_life(head[1]) then return {'EPOCH', now} end
presume_the_dead()
save()
if now - tonumber(head[2] or 0) < tonumber(ARGV[4]) then return {'NOTHING', now} end
if head[3] then
  local word, ending = string.match(head[3], '^(%S+) (%d+)$')
  if word ~= ARGV[2] and now < tonumber(ending) then return {'WAIT', now, '', '', tonumber(ending) - now} end
end
redis.call('HSET', BOOK, 'reported', now, 'lock', ARGV[2] .. ' ' .. digits(now + tonumber(ARGV[3])))
keep_keys()

local windows, models = {}, {}
for base = 5, #ARGV, 8 do
  local field = 'a:' .. ARGV[base] .. ':' .. ARGV[base + 1]
  windows[#windows + 1] = {field = field, base = base}
  models[field] = {}
  local chunk = redis.call('HGET', BOOK, chunk_of(field))
  windows[#windows].chunk = chunk and numbers(chunk) or {unpack(NO_CHUNK)}
  if tonumber(ARGV[base + 2]) >= windows[#windows].chunk[1] then confirm(field, ARGV[base + 3] .. ' ' .. ARGV[base + 4]) end
end
local entries = redis.call('HGETALL', MODELS)
for each = 1, #entries, 2 do
  local index, start, unit, label = string.match(entries[each], '^(%d)/(%-?%d+)/([tn])/(.*)$')
  local found = index and models['a:' .. index .. ':' .. start]
  if found then
    found[label] = found[label] or {label, '0', '0'}
    found[label][unit == 't' and 2 or 3] = entries[each + 1]
  end
end

local told_windows = {}
for _, one in ipairs(windows) do
  local field, base, chunk = one.field, one.base, one.chunk
  local found = account(field) or {0, 0, 0, 0, 0, 0}
  local returned, said = {0, 0}, {}
  local is_spare = ARGV[base + 7] == '1' or now - tonumber(head[4] or 0) > SPARED
  if is_spare and tonumber(ARGV[base + 2]) == chunk[1] then
    for unit = 1, 2 do
      local free = chunk[1 + unit] - found[unit] - found[2 + unit] - found[4 + unit]
      returned[unit] = math.max(0, math.min(free, tonumber(ARGV[base + 4 + unit])))
      chunk[1 + unit] = chunk[1 + unit] - returned[unit]
    end
    if returned[1] > 0 or returned[2] > 0 then redis.call('HSET', BOOK, chunk_of(field), digits(unpack(chunk))) end
  end
  for _, entry in pairs(models[field]) do said[#said + 1] = entry end
  if #said > 0 then
    local says = cjson.encode({spent = digits(found[1], found[2]), models = said})
    redis.call('HSET', BOOK, 'm' .. string.sub(field, 2), says)
  end
  told_windows[#told_windows + 1] = {index = ARGV[base], start = ARGV[base + 1], account = digits(unpack(found)),
    chunk = digits(unpack(chunk)), returned = digits(unpack(returned)), models = said}
end
return {'REPORT', now, '', '', cjson.encode(told_windows)}

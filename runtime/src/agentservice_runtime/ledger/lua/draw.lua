-- Reserves the bound in both windows from the chunks of an AgentLedger that this Redis has, or tells what it has.
--
-- ARGV: epoch, request id, bound t n, lease in ms, 1 when limits refuse, then for the day and the month, 4 each: start, end (ms),
--       what more than the limit is handed out of it t n (2^53 - 1: no limit)
-- Answer: {code, now, account of the day, account of the month, chunk of the day, chunk of the month, ...} with
--       GRANT t n | SHORT | {EPOCH, now}
local rid = ARGV[2]
local bound = {tonumber(ARGV[3]), tonumber(ARGV[4])}
local start1, start2 = ARGV[7], ARGV[11]
local field1, field2 = fields_of(start1, start2)
local head = redis.call('HMGET', BOOK, 'epoch', field1, field2, chunk_of(field1), chunk_of(field2))
if is_other_life(head[1]) then return {'EPOCH', now} end
keep(field1, head[2])
keep(field2, head[3])

local function answer(code, ...)
  return lines(code, whole(now), told(field1), told(field2), head[4] or '', head[5] or '', ...)
end

local known = redis.call('HGET', OPEN, rid)
if known then
  local _, tokens, nano = record(known)
  return answer('GRANT', whole(tokens), whole(nano))
end
-- a reservation that was given back before it came holds nothing
if redis.call('ZSCORE', DONE, rid) then return answer('GRANT', '0', '0') end
open_account(field1)
open_account(field2)
presume_the_dead()

local is_short = false
if ARGV[6] == '1' then
  for index, field in ipairs({field1, field2}) do
    local found, chunk = accounts[field], head[3 + index] and numbers(head[3 + index]) or NO_CHUNK
    for unit = 1, 2 do
      local excess = tonumber(ARGV[4 + 4 * index + unit])
      local free = chunk[1 + unit] - found[unit] - found[2 + unit] - found[4 + unit]
      if excess ~= NO_LIMIT and bound[unit] > free - excess then is_short = true end
    end
  end
end
if is_short then
  save()
  redis.call('HSET', BOOK, 'lacked', now)
  return answer('SHORT')
end
add(field1, 5, bound[1], bound[2])
add(field2, 5, bound[1], bound[2])
save()
write_record(rid, 'O', bound[1], bound[2], start1, start2)
redis.call('ZADD', LEASE, now + tonumber(ARGV[5]), rid)
return answer('GRANT', whole(bound[1]), whole(bound[2]))

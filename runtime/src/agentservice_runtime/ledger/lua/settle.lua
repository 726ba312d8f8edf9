-- Replaces a reservation, open or presumed, by what was billed; what nobody reserved is counted in the current windows.
--
-- ARGV: epoch, request id, billed t n in the day, in the month (which differ where another life of Redis has made the reservation),
--       label of model and price, start and end (ms) of the day, of the month
-- Answer: {OK, now, account of the day, account of the month, start1, start2} | {REPEATED, now} | STALE w1 w2 | EPOCH
local MODELS_KEPT = 16384
local rid = ARGV[2]
local head = redis.call('HMGET', BOOK, 'epoch', 'w1', 'w2')
if is_other_life(head[1]) then return {'EPOCH', now} end
local text = redis.call('HGET', OPEN, rid)
if not text and redis.call('ZSCORE', DONE, rid) then return {'REPEATED', now} end
local start1, start2, first, second
if text then
  local state, reserved_tokens, reserved_nano
  state, reserved_tokens, reserved_nano, start1, start2 = record(text)
  first, second = fields_of(start1, start2)
  local books = redis.call('HMGET', BOOK, first, second)
  local is_kept = keep(first, books[1]) and keep(second, books[2])
  local index = state == 'O' and 5 or 3
  add(first, index, -reserved_tokens, -reserved_nano)
  add(second, index, -reserved_tokens, -reserved_nano)
  redis.call('HDEL', OPEN, rid)
  redis.call('ZREM', state == 'O' and LEASE or LOST, rid)
  -- its windows are in the books already
  if not is_kept then
    save()
    text = nil
  end
end
if not text then
  start1, start2 = ARGV[8], ARGV[10]
  if not is_current(1, start1, ARGV[9], head[2]) or not is_current(2, start2, ARGV[11], head[3]) then
    return {'STALE', now, '', '', head[2] or '', head[3] or ''}
  end
  first, second = fields_of(start1, start2)
end
add(first, 1, tonumber(ARGV[3]), tonumber(ARGV[4]))
add(second, 1, tonumber(ARGV[5]), tonumber(ARGV[6]))
save()
local label = ARGV[7]
if redis.call('HLEN', MODELS) > MODELS_KEPT then label = OTHER end
local windows = EPOCH == '' and {start1 .. '/' .. start2} or {'1/' .. start1, '2/' .. start2}
for index, window in ipairs(windows) do
  for unit, name in ipairs({'t', 'n'}) do
    local amount = ARGV[2 * index + unit]
    if amount ~= '0' then redis.call('HINCRBY', MODELS, window .. '/' .. name .. '/' .. label, amount) end
  end
end
redis.call('ZADD', DONE, now, rid)
if redis.call('ZCARD', DONE) > DONE_KEPT then redis.call('ZREMRANGEBYRANK', DONE, 0, 31) end
return lines('OK', whole(now), told(first), told(second), start1, start2)

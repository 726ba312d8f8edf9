-- Reserves the bound, or near a limit less, in both windows or in none.
--
-- For a Redis that stands alone; in a cluster it is `draw`.
-- ARGV: epoch (empty), request id, bound t n, minimum t n, lease in ms, 1 when limits refuse, then for the day and the month, 4
--       each: start, end (ms), limit t n (2^53 - 1: none)
-- Answer: {code, now, account of the day, account of the month, ...} with
--       GRANT t n | BUSY | EXHAUSTED index | STALE w1 w2
local rid = ARGV[2]
local bound, minimum = {tonumber(ARGV[3]), tonumber(ARGV[4])}, {tonumber(ARGV[5]), tonumber(ARGV[6])}
local is_hard = ARGV[8] == '1'
local start1, start2 = ARGV[9], ARGV[13]
local field1, field2 = fields_of(start1, start2)
local head = redis.call('HMGET', BOOK, 'w1', 'w2', field1, field2)
keep(field1, head[3])
keep(field2, head[4])

local function answer(code, ...)
  return lines(code, whole(now), told(field1), told(field2), ...)
end

local known = redis.call('HGET', OPEN, rid)
if known then
  local _, tokens, nano = record(known)
  return answer('GRANT', whole(tokens), whole(nano))
end
-- a reservation that was given back before it came holds nothing
if redis.call('ZSCORE', DONE, rid) then return answer('GRANT', '0', '0') end
if not is_current(1, start1, ARGV[10], head[1]) or not is_current(2, start2, ARGV[14], head[2]) then
  return {'STALE', now, '', '', head[1] or '', head[2] or ''}
end
presume_the_dead()

-- agentservice_api.budget.decision.decide, word for word
local function fits(one, other)
  return one[1] <= other[1] and one[2] <= other[2]
end

local function decide(limit, spent, reserved)
  local left = {limit[1] - spent[1], limit[2] - spent[2]}
  local free = {left[1] - reserved[1], left[2] - reserved[2]}
  if fits(bound, free) then return 'GRANT', bound end
  if fits(bound, left) then return 'BUSY' end
  if fits(minimum, free) then return 'GRANT', {math.min(bound[1], free[1]), math.min(bound[2], free[2])} end
  if fits(minimum, left) then return 'BUSY' end
  return 'EXHAUSTED'
end

local amount = bound
if is_hard then
  local is_busy, exhausted = false, nil
  for index, field in ipairs({field1, field2}) do
    local found, base = accounts[field], 5 + 4 * index
    local limit = {tonumber(ARGV[base + 2]), tonumber(ARGV[base + 3])}
    local verdict, granted = decide(limit, {found[1] + found[3], found[2] + found[4]}, {found[5], found[6]})
    if verdict == 'EXHAUSTED' then
      -- the window that ends last says when to come again
      if not exhausted or tonumber(ARGV[base + 1]) > tonumber(ARGV[4 * exhausted + 6]) then exhausted = index end
    elseif verdict == 'BUSY' then
      is_busy = true
    else
      amount = {math.min(amount[1], granted[1]), math.min(amount[2], granted[2])}
    end
  end
  if exhausted or is_busy then
    save()
    if exhausted then return answer('EXHAUSTED', exhausted) end
    return answer('BUSY')
  end
end

add(field1, 5, amount[1], amount[2])
add(field2, 5, amount[1], amount[2])
save()
write_record(rid, 'O', amount[1], amount[2], start1, start2)
redis.call('ZADD', LEASE, now + tonumber(ARGV[7]), rid)
return answer('GRANT', whole(amount[1]), whole(amount[2]))

-- Learns what the AgentLedger says of this Redis' entry. What is older than what is known changes nothing, so it may be told by
-- any pod at any time.
--
-- ARGV: epoch, word of the write that this ends (empty: none), then for each window 7: index, start (ms), seq, what may be spent
--       of it by all who ever drew from here t n, what is spent of that as the AgentLedger shows it t n
-- Answer: {OK, now} | {EPOCH, now}
local head = redis.call('HMGET', BOOK, 'epoch', 'lock')
if is_other_life(head[1]) then return {'EPOCH', now} end
for base = 3, #ARGV, 7 do
  local field, seq = 'a:' .. ARGV[base] .. ':' .. ARGV[base + 1], tonumber(ARGV[base + 2])
  local chunk = redis.call('HGET', BOOK, chunk_of(field))
  local known = chunk and numbers(chunk)[1] or 0
  if seq > known then
    redis.call('HSET', BOOK, chunk_of(field), ARGV[base + 2] .. ' ' .. ARGV[base + 3] .. ' ' .. ARGV[base + 4])
  end
  if seq >= known then confirm(field, ARGV[base + 5] .. ' ' .. ARGV[base + 6]) end
end
if ARGV[2] ~= '' and head[2] and string.match(head[2], '^%S+') == ARGV[2] then redis.call('HDEL', BOOK, 'lock') end
return {'OK', now}

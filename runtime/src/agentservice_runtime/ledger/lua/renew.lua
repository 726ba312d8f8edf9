-- Moves the ends of leases; who is presumed dead and speaks is alive again.
--
-- ARGV: epoch, lease in ms, request ids
-- Answer: {OK, now} | EPOCH
if is_other_life(redis.call('HGET', BOOK, 'epoch')) then return {'EPOCH', now} end
for each = 3, #ARGV do
  local rid = ARGV[each]
  local text = redis.call('HGET', OPEN, rid)
  if text then
    local state, tokens, nano, start1, start2 = record(text)
    if state == 'L' then
      local first, second = fields_of(start1, start2)
      for _, field in ipairs({first, second}) do
        add(field, 3, -tokens, -nano)
        add(field, 5, tokens, nano)
      end
      write_record(rid, 'O', tokens, nano, start1, start2)
      redis.call('ZREM', LOST, rid)
    end
    redis.call('ZADD', LEASE, now + tonumber(ARGV[2]), rid)
  end
end
save()
return {'OK', now}

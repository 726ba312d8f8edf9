-- Tells of the tasks of a caller, the newest first.
--
-- ARGV: prefix, owner, all | dead, those before this place (or +inf), how many
-- Answer: {the place of the last one when there are more or else empty, {id, values of FIELDS} of each}
local key = PREFIX .. ':' .. ARGV[3] .. ':' .. ARGV[2]
local most = tonumber(ARGV[5])
local found, next = {}, ''
for _ = 1, 20 do
  local page = redis.call('ZREVRANGEBYSCORE', key, ARGV[4], '-inf', 'WITHSCORES', 'LIMIT', 0, most + 1)
  local gone = 0
  for i = 1, #page, 2 do
    local id = page[i]
    if redis.call('EXISTS', task(id)) == 0 then
      redis.call('ZREM', key, id)
      gone = gone + 1
    end
  end
  if gone == 0 then
    for i = 1, #page, 2 do
      if #found == most then
        next = page[i - 1]
        break
      end
      found[#found + 1] = {page[i], redis.call('HMGET', task(page[i]), unpack(FIELDS))}
    end
    break
  end
end
return {next, found}

-- Cancels a task: at once while it waits; one that is worked on is cancelled by its worker, which asks for that.
--
-- ARGV: prefix, id, owner, problem of a cancelled one (JSON), life of a result (ms)
-- Answer: UNKNOWN | ENDED | CANCELLED | CANCELLING
local id = ARGV[2]
local known = redis.call('HMGET', task(id), 'owner', 'state')
if known[1] ~= ARGV[3] then return 'UNKNOWN' end
if known[2] == 'queued' then
  finish(id, 'cancelled', ARGV[4], '', ARGV[5])
  return 'CANCELLED'
elseif known[2] == 'running' then
  redis.call('HSET', task(id), 'cancel', now)
  return 'CANCELLING'
end
return known[2] == 'cancelled' and 'CANCELLED' or 'ENDED'

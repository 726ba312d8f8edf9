-- Gives a task back: to be tried again after a while, or at once because its worker stops.
--
-- ARGV: prefix, id, token, after so long (ms), whether the attempt counts (1), problem (JSON or empty), cancelled (JSON), result life (ms)
-- Answer: DONE | LOST
local id, pause = ARGV[2], tonumber(ARGV[4])
local known = redis.call('HMGET', task(id), 'state', 'lease', 'cancel')
if known[1] ~= 'running' or known[2] ~= ARGV[3] then return 'LOST' end
if known[3] then
  finish(id, 'cancelled', ARGV[7], '', ARGV[8])
  return 'DONE'
end
if ARGV[5] ~= '1' then redis.call('HINCRBY', task(id), 'attempts', -1) end
leave(id)
if pause > 0 then
  redis.call('HSET', task(id), 'state', 'queued', 'due', now + pause)
  redis.call('ZADD', PREFIX .. ':delayed', now + pause, id)
else
  wait(id)
end
tell_status(id, 'queued', ARGV[6] ~= '' and ',"problem":' .. ARGV[6] or nil)
return 'DONE'

-- Gives a delivered task to a worker under a lease, and counts the attempt.
--
-- ARGV: prefix, id, entry, consumer, token, whether the worker has a suspect already (1), how long a task may wait (ms)
-- Answer: {GONE} | {LATER} | {BEGUN, attempts, lost, created, started, asker, input}
local id, entry, token = ARGV[2], ARGV[3], ARGV[5]
local known = redis.call('HMGET', task(id), 'state', 'entry', 'lease', 'lost')
if known[1] == 'running' and known[3] == token then
  -- the answer was lost on its way
elseif known[1] ~= 'queued' or known[2] ~= entry then
  redis.call('XACK', STREAM, GROUP, entry)
  redis.call('XDEL', STREAM, entry)
  return {'GONE'}
elseif tonumber(known[4]) > 0 and ARGV[6] == '1' then
  -- one that was there when a worker died may have killed it: two of them never share a process
  leave(id)
  redis.call('ZADD', PREFIX .. ':delayed', now + 1000, id)
  redis.call('HSET', task(id), 'due', now + 1000)
  return {'LATER'}
else
  redis.call('HINCRBY', task(id), 'attempts', 1)
  redis.call('HSET', task(id), 'state', 'running', 'lease', token, 'started', now)
  redis.call('PEXPIRE', task(id), ARGV[7])
  redis.call('XCLAIM', STREAM, GROUP, ARGV[4], 0, entry, 'JUSTID')
  tell_status(id, 'running')
end
local told = redis.call('HMGET', task(id), 'attempts', 'lost', 'created', 'started', 'asker', 'input')
return {'BEGUN', told[1], told[2], told[3], told[4], told[5], told[6]}

-- Takes a task in, once: the same id with the same fingerprint is the same task.
--
-- ARGV: prefix, id, owner, who asks (JSON), input (JSON), fingerprint, how long it may wait (ms)
-- Answer: {NEW | KNOWN | OTHER, state}
local id = ARGV[2]
local known = redis.call('HMGET', task(id), 'print', 'state')
if known[1] then return {known[1] == ARGV[6] and 'KNOWN' or 'OTHER', known[2]} end
redis.call(
  'HSET', task(id), 'owner', ARGV[3], 'asker', ARGV[4], 'input', ARGV[5], 'print', ARGV[6], 'created', now, 'attempts', 0, 'lost', 0
)
redis.call('PEXPIRE', task(id), ARGV[7])
wait(id)
list('all', id)
tell_status(id, 'queued')
return {'NEW', 'queued'}

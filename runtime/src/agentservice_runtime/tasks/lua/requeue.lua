-- Lets a failed task begin from the beginning.
--
-- ARGV: prefix, id, owner, how long it may wait (ms)
-- Answer: UNKNOWN | NOT_FAILED | DONE
local id = ARGV[2]
local known = redis.call('HMGET', task(id), 'owner', 'state')
if known[1] ~= ARGV[3] then return 'UNKNOWN' end
if known[2] ~= 'failed' then return 'NOT_FAILED' end
redis.call('ZREM', of_owner('dead', id), id)
redis.call('HSET', task(id), 'attempts', 0, 'lost', 0)
redis.call('HDEL', task(id), 'document', 'reason', 'finished', 'started', 'cancel', 'run', 'by')
redis.call('PEXPIRE', task(id), ARGV[4])
wait(id)
tell_status(id, 'queued')
return 'DONE'

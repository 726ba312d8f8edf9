-- Writes a task's end, once: by who holds its lease.
--
-- ARGV: prefix, id, token, state, document (JSON), reason, run id, how long it can be asked for (ms)
-- Answer: DONE | LOST
local id = ARGV[2]
local known = redis.call('HMGET', task(id), 'state', 'lease', 'by')
if known[1] ~= 'running' then return known[3] == ARGV[3] and 'DONE' or 'LOST' end
if known[2] ~= ARGV[3] then return 'LOST' end
redis.call('HSET', task(id), 'run', ARGV[7])
finish(id, ARGV[4], ARGV[5], ARGV[6], ARGV[8])
return 'DONE'

-- Tells of a task's progress, as long as the lease is held.
--
-- ARGV: prefix, id, token, then event and data of each
-- Answer: DONE | LOST
local id = ARGV[2]
local known = redis.call('HMGET', task(id), 'state', 'lease')
if known[1] ~= 'running' or known[2] ~= ARGV[3] then return 'LOST' end
for i = 4, #ARGV, 2 do tell(id, ARGV[i], ARGV[i + 1]) end
return 'DONE'

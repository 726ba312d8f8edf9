-- Tells of a task.
--
-- ARGV: prefix, id, owner
-- Answer: {} | {values of FIELDS}
if redis.call('HGET', task(ARGV[2]), 'owner') ~= ARGV[3] then return {} end
return redis.call('HMGET', task(ARGV[2]), unpack(FIELDS))

-- Prolongs a lease that is still held. One that has ended is not taken again: another process may have acted on it.
--
-- KEYS: answer, flight, purges
-- ARGV: token, lease (ms)
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
return {'OK'}

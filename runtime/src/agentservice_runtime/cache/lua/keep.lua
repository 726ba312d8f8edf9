-- Keeps an answer and ends its flight.
--
-- KEYS: answer, flight, purges
-- ARGV: token, version of the purges when the run began, body, life of the answer (ms), life of the purges (ms)
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'of', ARGV[2], 'body', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
-- what says that an answer no longer counts must outlive it
if redis.call('PTTL', KEYS[3]) < tonumber(ARGV[5]) then redis.call('PEXPIRE', KEYS[3], ARGV[5]) end
return {'OK'}

if redis.call('HGET', KEYS[1], 'by') == ARGV[1] then return {1} end
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return {0} end
redis.call('HSET', KEYS[1], 'body', ARGV[2], 'by', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('DEL', KEYS[2])
return {1}

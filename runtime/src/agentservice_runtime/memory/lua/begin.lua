local held = redis.call('GET', KEYS[2])
if held and held ~= ARGV[1] then return {0} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {1, redis.call('HGET', KEYS[1], 'body') or ''}

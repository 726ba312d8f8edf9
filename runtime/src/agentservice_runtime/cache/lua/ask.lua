-- Gives the answer that is kept, or else says who makes it: this process, another one, or everybody for himself.
--
-- KEYS: answer, flight, purges
-- ARGV: token of who asks, lease (ms), id of the answer that was found too old, version of the purges that is known, life of the purges (ms)
-- Answer: {word, version, purges when it is another version, ...}; FOUND: id, version it is of, body
local head = redis.call('HMGET', KEYS[3], 'epoch', 'seq')
if not head[1] then
  -- nothing of before can be trusted: purges may have been lost with it, so answers of another epoch do not count
  redis.call('HSET', KEYS[3], 'epoch', ARGV[1], 'seq', 0)
  redis.call('PEXPIRE', KEYS[3], ARGV[5])
  head = {ARGV[1], '0'}
end
local version = head[1] .. ':' .. head[2]
local purges = {}
if version ~= ARGV[4] then purges = redis.call('HGETALL', KEYS[3]) end
local kept = redis.call('HMGET', KEYS[1], 'id', 'of', 'body')
if kept[1] and kept[1] ~= ARGV[3] then return {'FOUND', version, purges, kept[1], kept[2], kept[3]} end
local holder = redis.call('GET', KEYS[2])
if holder == 'alone' then return {'ALONE', version, purges} end
if holder and holder ~= ARGV[1] then return {'WAIT', version, purges} end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return {'LEAD', version, purges}

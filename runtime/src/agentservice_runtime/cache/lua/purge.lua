-- Says that answers of before no longer count. Nothing is looked for and nothing deleted: they end with their time.
--
-- KEYS: answer (unused), flight (unused), purges
-- ARGV: epoch if there is none, field, how many fields are kept, life of the purges (ms)
if redis.call('HEXISTS', KEYS[3], 'epoch') == 0 then redis.call('HSET', KEYS[3], 'epoch', ARGV[1], 'seq', 0) end
local seq = redis.call('HINCRBY', KEYS[3], 'seq', 1)
local field = ARGV[2]
if redis.call('HLEN', KEYS[3]) >= tonumber(ARGV[3]) and redis.call('HEXISTS', KEYS[3], field) == 0 then field = 'all' end
if field == 'all' then
  -- it says all that the others say
  local epoch = redis.call('HGET', KEYS[3], 'epoch')
  redis.call('DEL', KEYS[3])
  redis.call('HSET', KEYS[3], 'epoch', epoch, 'seq', seq)
end
redis.call('HSET', KEYS[3], field, seq)
redis.call('PEXPIRE', KEYS[3], ARGV[4])
return {'OK'}

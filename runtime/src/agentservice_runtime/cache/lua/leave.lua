-- Ends a flight without an answer: the next one leads, or for a while everybody runs for himself.
--
-- KEYS: answer, flight, purges
-- ARGV: token, how long nobody waits for another (ms, 0: not at all)
if redis.call('GET', KEYS[2]) == ARGV[1] then
  if tonumber(ARGV[2]) > 0 then
    redis.call('SET', KEYS[2], 'alone', 'PX', ARGV[2])
  else
    redis.call('DEL', KEYS[2])
  end
end
return {'OK'}

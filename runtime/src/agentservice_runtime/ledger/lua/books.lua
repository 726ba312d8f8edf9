-- Tells what models cost, for as long as it is kept: all of it where Redis stands alone.
--
-- ARGV: epoch
-- Answer: {OK, now, "", "", {field, amount, field, amount...}}
return {'OK', now, '', '', redis.call('HGETALL', MODELS)}

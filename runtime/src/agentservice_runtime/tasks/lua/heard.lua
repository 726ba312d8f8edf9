-- Tells of a task's progress since a place.
--
-- ARGV: prefix, id, owner, place
-- Answer: {} | {state, document, {place, {event, NAME, data, DATA}} of each}
local known = redis.call('HMGET', task(ARGV[2]), 'owner', 'state', 'document')
if known[1] ~= ARGV[3] then return {} end
return {known[2], known[3] or '', redis.call('XRANGE', PREFIX .. ':events:' .. ARGV[2], '(' .. ARGV[4], '+', 'COUNT', 200)}

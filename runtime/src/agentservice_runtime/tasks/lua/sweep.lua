-- Does what is due: tasks that waited for another try wait for a worker, those whose worker has died are given to another.
--
-- ARGV: prefix, lease (ms), most attempts, problem of one that is given up (JSON), its reason, life of a dead task (ms),
--       problem of a cancelled one, life of a result (ms), least time between two sweeps (ms), how long a task may wait (ms),
--       after how long without a sweep Redis was away (ms)
-- Answer: {waiting, running, delayed, age of the oldest (ms), lost, dead}
local lease = tonumber(ARGV[2])
local swept, delayed = PREFIX .. ':swept', PREFIX .. ':delayed'
group()
local last = tonumber(redis.call('GET', swept))
local lost, dead = 0, 0
if not last or now - last >= tonumber(ARGV[9]) or now < last then
  redis.call('SET', swept, now, 'PX', ARGV[10])
  redis.call('PEXPIRE', STREAM, ARGV[10])
  redis.call('PEXPIRE', delayed, ARGV[10])
  -- nobody could renew a lease while nobody could sweep: first those who live may say so
  if last and now - last > tonumber(ARGV[11]) then redis.call('SET', PREFIX .. ':grace', '1', 'PX', lease) end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', delayed, '-inf', now, 'LIMIT', 0, 200)) do
    redis.call('ZREM', delayed, id)
    if redis.call('HGET', task(id), 'state') == 'queued' then wait(id) end
  end
  if redis.call('EXISTS', PREFIX .. ':grace') == 0 then
    for _, pending in ipairs(redis.call('XPENDING', STREAM, GROUP, 'IDLE', lease, '-', '+', 200)) do
      local entry = pending[1]
      local found = redis.call('XRANGE', STREAM, entry, entry)[1]
      local id = found and found[2][2]
      local known = id and redis.call('HMGET', task(id), 'state', 'entry', 'cancel', 'attempts') or {}
      if known[2] ~= entry then
        redis.call('XACK', STREAM, GROUP, entry)
        redis.call('XDEL', STREAM, entry)
      elseif known[1] == 'queued' then
        -- delivered to one that died before it began
        leave(id)
        wait(id)
      elseif known[3] then
        finish(id, 'cancelled', ARGV[7], '', ARGV[8])
      elseif tonumber(known[4]) >= tonumber(ARGV[3]) then
        dead = dead + 1
        finish(id, 'failed', ARGV[4], ARGV[5], ARGV[6])
      else
        lost = lost + 1
        redis.call('HINCRBY', task(id), 'lost', 1)
        leave(id)
        wait(id)
        tell_status(id, 'queued')
      end
    end
  end
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', STREAM, GROUP)) do
    -- name, pending, idle: those of processes that are gone
    if consumer[4] == 0 and consumer[6] > 3600000 then redis.call('XGROUP', 'DELCONSUMER', STREAM, GROUP, consumer[2]) end
  end
end
local pending = redis.call('XPENDING', STREAM, GROUP)[1]
local oldest = redis.call('XRANGE', STREAM, '-', '+', 'COUNT', 1)[1]
local age = oldest and now - tonumber(string.match(oldest[1], '^%d+')) or 0
return {redis.call('XLEN', STREAM) - pending, pending, redis.call('ZCARD', delayed), math.max(age, 0), lost, dead}

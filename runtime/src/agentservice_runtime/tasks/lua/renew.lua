-- Prolongs the leases that a process still holds, and says which of its tasks are to be cancelled.
--
-- ARGV: prefix, consumer, how long a task may wait (ms), then id and token of each
-- Answer: HELD | CANCEL | LOST of each
local answers = {}
for i = 4, #ARGV, 2 do
  local id = ARGV[i]
  local known = redis.call('HMGET', task(id), 'state', 'lease', 'entry', 'cancel')
  if known[1] == 'running' and known[2] == ARGV[i + 1] then
    redis.call('XCLAIM', STREAM, GROUP, ARGV[2], 0, known[3], 'JUSTID')
    redis.call('PEXPIRE', task(id), ARGV[3])
    answers[#answers + 1] = known[4] and 'CANCEL' or 'HELD'
  else
    answers[#answers + 1] = 'LOST'
  end
end
return answers

-- Tells the time and the windows; in a cluster it names this life of Redis first, or the next one when the last has ended.
--
-- ARGV: epoch, word: with a word, a new life is named run_id-word, and one that is called `epoch` (empty: none) is over; then in a
--       cluster the starts (ms) of the day and the month
-- Answer: {OK, now, account of the day, account of the month, w1, w2 (in a cluster the starts), epoch}
local word = ARGV[2]
local head = redis.call('HMGET', BOOK, 'epoch', 'w1', 'w2')
local epoch = head[1] or ''
if word ~= '' then
  local id = run_id()
  if epoch == '' or epoch == EPOCH or string.sub(epoch, 1, 12) ~= id then
    redis.call('UNLINK', unpack(KEYS))
    epoch = id .. '-' .. word
    redis.call('HSET', BOOK, 'epoch', epoch)
    head = {epoch, false, false}
  end
end
keep_keys()
if ARGV[4] then head = {epoch, ARGV[3] .. ' ', ARGV[4] .. ' '} end
local told_accounts = {'', ''}
for index = 1, 2 do
  local start = head[index + 1] and string.match(head[index + 1], '^(%-?%d+) ')
  if start then told_accounts[index] = redis.call('HGET', BOOK, 'a:' .. index .. ':' .. start) or '' end
end
return {'OK', now, told_accounts[1], told_accounts[2], head[2] or '', head[3] or '', epoch}

-- Begins, ends or shows a maintenance window of a bucket: a time in which guards accept an older `fresh` than they
-- would. It changes nothing else, and a bucket that nobody vouches for on this server gets none.
--
-- KEYS  meta
-- ARGV  log; milliseconds from now until its end (one that is open keeps its begin), 0 to end it, -1 to look at it
-- Returns {status, from, until, left, age}, in ms by this server's clock: OK; CHANGED (not vouched for on this server,
-- or not there); OTHER (another ledger). `left` is 0 where none is open; `age` is how old `fresh` is.

local m = redis.call('HMGET', KEYS[1], 'log', 'run', 'replication', 'fresh', 'window_from', 'window_until')
if m[1] and m[1] ~= ARGV[1] then return {'OTHER', 0, 0, 0, 0} end
local length = tonumber(ARGV[2])
if length == 0 then
  redis.call('HDEL', KEYS[1], 'window_from', 'window_until')
  return {'OK', 0, 0, 0, 0}
end
local info = redis.call('INFO', 'server', 'replication')
local run, replication = string.match(info, 'run_id:(%w+)'), string.match(info, 'master_replid:(%w+)')
if m[2] ~= run or m[3] ~= replication or not tonumber(m[4]) then return {'CHANGED', 0, 0, 0, 0} end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local from, finish = tonumber(m[5]) or now, tonumber(m[6]) or 0
if now < from or now >= finish then from, finish = now, now end
if length > 0 then
  finish = now + length
  redis.call('HSET', KEYS[1], 'window_from', string.format('%.0f', from), 'window_until', string.format('%.0f', finish))
end
return {'OK', from, finish, finish - now, now - tonumber(m[4])}

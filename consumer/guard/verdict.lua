-- Membership, marker and time, and which server this is: in one step, on the server that answers.
--
-- KEYS  meta, set of the location; and, where it is asked why, its state
-- ARGV  a word of the asker's own, digits of each number
-- Returns {the word, run id, replication id, now in ms, marker's run, marker's replication, fresh, begin and end of a
-- maintenance window, 1 or 0 for each number, the record of each number (none where it is not asked why)}; what is not
-- there is false.

local info = redis.call('INFO', 'server', 'replication')
local run = string.find(info, 'run_id:', 1, true) + 7
local replication = string.find(info, 'master_replid:', run, true) + 14
local time = redis.call('TIME')
local marker = redis.call('HMGET', KEYS[1], 'run', 'replication', 'fresh', 'window_from', 'window_until')
return {
  ARGV[1],
  string.sub(info, run, run + 39),
  string.sub(info, replication, replication + 39),
  time[1] * 1000 + math.floor(time[2] / 1000),
  marker[1], marker[2], marker[3], marker[4], marker[5],
  redis.call('SMISMEMBER', KEYS[2], unpack(ARGV, 2)),
  KEYS[3] and redis.call('HMGET', KEYS[3], unpack(ARGV, 2)) or {},
}

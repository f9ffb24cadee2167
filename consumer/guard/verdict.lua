-- Membership, marker and time, and which server this is: in one step, on the server that answers.
--
-- KEYS  meta, set of the location
-- ARGV  digits of each number
-- Returns {run id, replication id, now in ms, marker's run, marker's replication, fresh, 1 or 0 for each number,
-- begin and end of a maintenance window}; what the marker lacks is false.

local info = redis.call('INFO', 'server', 'replication')
local time = redis.call('TIME')
local marker = redis.call('HMGET', KEYS[1], 'run', 'replication', 'fresh', 'window_from', 'window_until')
return {
  string.match(info, 'run_id:(%w+)'),
  string.match(info, 'master_replid:(%w+)'),
  tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000),
  marker[1], marker[2], marker[3],
  redis.call('SMISMEMBER', KEYS[2], unpack(ARGV)),
  marker[4], marker[5],
}

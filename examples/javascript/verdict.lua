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

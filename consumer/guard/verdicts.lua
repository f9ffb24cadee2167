-- As verdict.lua, for many numbers of many locations of one bucket: what is asked and answered is packed, for a server
-- spends most of its time on taking arguments in.
--
-- KEYS  meta; the set of each location; and, where it is asked why, the state of each
-- ARGV  a word of the asker's own; MessagePack: for each location the digits of each number
-- Returns as verdict.lua does, the numbers of all locations in one list.

local info = redis.call('INFO', 'server', 'replication')
local run = string.find(info, 'run_id:', 1, true) + 7
local replication = string.find(info, 'master_replid:', run, true) + 14
local time = redis.call('TIME')
local marker = redis.call('HMGET', KEYS[1], 'run', 'replication', 'fresh', 'window_from', 'window_until')
local asked = cmsgpack.unpack(ARGV[2])

local function each(command, before)
  if #asked == 1 then return redis.call(command, KEYS[before + 1], unpack(asked[1])) end
  local all, count = {}, 0
  for location = 1, #asked do
    local some = redis.call(command, KEYS[before + location], unpack(asked[location]))
    for i = 1, #asked[location] do all[count + i] = some[i] end
    count = count + #asked[location]
  end
  return all
end

return {
  ARGV[1],
  string.sub(info, run, run + 39),
  string.sub(info, replication, replication + 39),
  time[1] * 1000 + math.floor(time[2] / 1000),
  marker[1], marker[2], marker[3], marker[4], marker[5],
  each('SMISMEMBER', 1),
  #KEYS > 1 + #asked and each('HMGET', 1 + #asked) or {},
}

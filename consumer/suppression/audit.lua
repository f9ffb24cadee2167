-- Counts what a bucket holds against what its meta says that it holds.
--
-- KEYS  meta, outbox, locations, then set and state of each location
-- ARGV  epoch, number of locations that the caller knows of
-- Returns {status, counted members, members in meta, counted states, states in meta}: OK (equal), DAMAGED, or CHANGED
-- (the bucket moved on since the caller listed its locations: ask again).

local m = redis.call('HMGET', KEYS[1], 'epoch', 'members', 'states', 'outbox', 'locations')
if m[1] ~= ARGV[1] then return {'CHANGED', 0, 0, 0, 0} end
if redis.call('SCARD', KEYS[3]) ~= tonumber(ARGV[2]) then return {'CHANGED', 0, 0, 0, 0} end
local members, states = 0, 0
for i = 4, #KEYS, 2 do
  members = members + redis.call('SCARD', KEYS[i])
  states = states + redis.call('HLEN', KEYS[i + 1]) - redis.call('HEXISTS', KEYS[i + 1], 'epoch')
end
local waiting, touched = redis.call('ZCARD', KEYS[2]), redis.call('SCARD', KEYS[3])
local expected = {tonumber(m[2]), tonumber(m[3]), tonumber(m[4]), tonumber(m[5])}
local status = 'DAMAGED'
if members == expected[1] and states == expected[2] and waiting == expected[3] and touched == expected[4] then status = 'OK' end
return {status, members, expected[1] or -1, states, expected[2] or -1}

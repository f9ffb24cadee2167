-- Writes into a bucket that it holds, on this very server, everything that inbound held at the time `fresh`.
-- The identity was read before `fresh` was learned and before the ledger's end was; it must still hold.
--
-- KEYS  meta, passes
-- ARGV  log, epoch, run id, replication id, the ledger's end, fresh in ms, the newest time that was read here
-- Returns {status, applied, fresh}: OK; BEHIND (not all is applied); CHANGED (another server, epoch or bucket, or none, or a
-- clock that was set back); EVICTS (the server may drop keys, so nothing can be vouched for); OTHER (another ledger).

local m = redis.call('HMGET', KEYS[1], 'log', 'epoch', 'applied', 'run', 'replication', 'fresh')
if not m[1] or not m[2] or not tonumber(m[3]) then return {'CHANGED', 0, 0} end
if m[1] ~= ARGV[1] then return {'OTHER', 0, 0} end
local info = redis.call('INFO', 'server', 'replication', 'memory')
local run, replication = string.match(info, 'run_id:(%w+)'), string.match(info, 'master_replid:(%w+)')
if m[2] ~= ARGV[2] or run ~= ARGV[3] or replication ~= ARGV[4] then return {'CHANGED', tonumber(m[3]), 0} end
if string.match(info, 'maxmemory_policy:(%S+)') ~= 'noeviction' then return {'EVICTS', tonumber(m[3]), 0} end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local fresh, before = tonumber(ARGV[6]), tonumber(m[6]) or 0
-- Both were read on this very server: where they lie ahead its clock was set back, and says nothing of what came since.
if math.max(fresh, tonumber(ARGV[7])) > now then return {'CHANGED', tonumber(m[3]), 0} end
if tonumber(m[3]) < tonumber(ARGV[5]) then return {'BEHIND', tonumber(m[3]), 0} end
-- Never back under one identity; but what lies ahead was written before the server's clock was set back.
if m[4] == run and m[5] == replication and before <= now then fresh = math.max(fresh, before) end
-- What is there at the first vouching under an identity or epoch may have passed before: on the server that was rolled
-- back or lost, or before the replay that granted it once more. By now all that the ledger held is applied.
if m[4] ~= run or m[5] ~= replication then redis.call('DEL', KEYS[2]) end
-- The first vouching after a silence ends a maintenance window: whoever it was opened for is back.
if m[4] ~= run or m[5] ~= replication or now - before > 60000 then
  redis.call('HDEL', KEYS[1], 'window_from', 'window_until')
end
redis.call('HDEL', KEYS[1], 'rebuilt') -- it has been replayed: what is lost from now on is a loss
redis.call('HSET', KEYS[1], 'run', run, 'replication', replication, 'fresh', string.format('%.0f', fresh))
return {'OK', tonumber(m[3]), fresh}

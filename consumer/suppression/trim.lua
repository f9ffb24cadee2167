-- Forgets the changes below an offset that is known to be committed as published. The count that meta keeps goes down
-- by what was there, so that an outbox that lost entries before is still found out.
--
-- KEYS  meta, outbox
-- ARGV  log, offset
-- Returns how many were forgotten; -1 if the bucket is not there or was made from another ledger.

local m = redis.call('HMGET', KEYS[1], 'log', 'published', 'outbox')
if m[1] ~= ARGV[1] or not tonumber(m[2]) or not tonumber(m[3]) then return -1 end
local gone = redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', '(' .. ARGV[2])
local published = m[2]
if tonumber(ARGV[2]) > tonumber(published) then published = ARGV[2] end
redis.call('HSET', KEYS[1], 'published', published, 'outbox', string.format('%.0f', tonumber(m[3]) - gone))
return gone

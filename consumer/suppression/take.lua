-- Reads what waits to be published, and how far the bucket has read, in one step: an empty outbox says nothing of a
-- record that is applied a moment later.
--
-- KEYS  meta, outbox
-- ARGV  log, offset to begin at, how many at most
-- Returns {status, epoch, applied, published, changes}; a change is "offset:version:bytes". MISSING, DAMAGED and OTHER
-- as in apply.lua.

local m = redis.call('HMGET', KEYS[1], 'log', 'epoch', 'applied', 'published', 'outbox')
if not m[1] and not m[2] then return {'MISSING', '', 0, 0, {}} end
for i = 1, 5 do
  if not m[i] or i > 2 and not tonumber(m[i]) then return {'DAMAGED', m[2] or '', 0, 0, {}} end
end
if m[1] ~= ARGV[1] then return {'OTHER', m[1], 0, 0, {}} end
if redis.call('ZCARD', KEYS[2]) ~= tonumber(m[5]) then return {'DAMAGED', m[2], 0, 0, {}} end
local changes = redis.call('ZRANGE', KEYS[2], ARGV[2], '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[3])
return {'OK', m[2], tonumber(m[3]), tonumber(m[4]), changes}

-- Begins a bucket at offset 0: a new epoch, nothing applied, an empty outbox, no location touched. What the locations
-- held before stays where it is and is dropped when each is first touched. A bucket that is there and is not the one
-- that was found damaged is left as it is: another owner has begun it.
--
-- KEYS  meta, outbox, locations, passes
-- ARGV  log, new epoch, the epoch that was found damaged (empty: only if there is no bucket), published (0: unknown),
--       1 where an operator wants it: its owner then knows that nothing was lost
-- Returns {status, epoch, applied}: OK, or OTHER with the name of the ledger that the bucket was made from.

local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'hash' then
  local m = redis.call('HMGET', KEYS[1], 'log', 'epoch', 'applied', 'published', 'members', 'states', 'outbox', 'locations')
  local whole = true
  for i = 1, 8 do whole = whole and m[i] and (i < 3 or tonumber(m[i])) end
  if m[1] and m[1] ~= ARGV[1] then return {'OTHER', m[1], 0} end
  if whole and m[2] ~= ARGV[3] then return {'OK', m[2], tonumber(m[3])} end
  if m[4] and (tonumber(m[4]) or 0) > tonumber(ARGV[4]) then ARGV[4] = m[4] end
end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4])
redis.call('HSET', KEYS[1], 'log', ARGV[1], 'epoch', ARGV[2], 'applied', '0', 'published', ARGV[4],
  'members', '0', 'states', '0', 'outbox', '0', 'locations', '0')
if ARGV[5] == '1' then redis.call('HSET', KEYS[1], 'rebuilt', '1') end
return {'OK', ARGV[2], 0}

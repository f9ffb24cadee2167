-- Writes what stands there already: only a server that takes writes lets it through. What is denied when memory is full
-- comes first, so that nothing is written before it.
--
-- KEYS  meta
-- Returns 1 if there was something to write, 0 if not.

local applied = redis.call('HGET', KEYS[1], 'applied')
if not applied then return 0 end
redis.call('HSET', KEYS[1], 'applied', applied)
return 1

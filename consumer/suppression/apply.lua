-- Applies one batch of a ledger partition to its bucket: content, outbox and `applied` change in this one step.
-- Everything is decided first and written last, and every key is declared, so that it happens whole or not at all.
--
-- KEYS  meta, outbox, locations, passes, then set and state of each location of the batch
-- ARGV  log, position (where the batch was read from), end (after it), published (0: unknown), number of locations,
--       their ids, then for each record: offset, number of its location, digits, O (out) or I (in), event time in ms,
--       keyword, the record's bytes, event id of the confirmation that a change would bring (empty: none)
-- Returns {status, epoch, applied, outbox's length, decisions}; a decision is {offset, C|U|S, version}.
--   OK       applied; records below `applied` were skipped
--   REFUSED  the batch does not continue what the bucket holds: go on at `applied`
--   MISSING  there is no such bucket: begin it        DAMAGED  something of it is lost: begin it anew
--   OTHER    the bucket was made from another ledger; its name stands in place of the epoch

local meta, outbox, locations, passes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local log, position, finish = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local places = tonumber(ARGV[5])
local CONFIRMATION_WINDOW_MS = 300000

local m = redis.call('HMGET', meta, 'log', 'epoch', 'applied', 'published', 'members', 'states', 'outbox', 'locations')
if not m[1] and not m[2] then return {'MISSING', '', 0, 0, {}} end
for i = 1, 8 do
  if not m[i] or i > 2 and not tonumber(m[i]) then return {'DAMAGED', m[2] or '', 0, 0, {}} end
end
if m[1] ~= log then return {'OTHER', m[1], 0, 0, {}} end
local epoch, applied = m[2], tonumber(m[3])
local members, states, waiting, touched = tonumber(m[5]), tonumber(m[6]), tonumber(m[7]), tonumber(m[8])
if redis.call('ZCARD', outbox) ~= waiting or redis.call('SCARD', locations) ~= touched then return {'DAMAGED', epoch, applied, 0, {}} end
if position > applied then return {'REFUSED', epoch, applied, waiting, {}} end
local published = math.max(tonumber(m[4]), tonumber(ARGV[4]))

-- What is stored of the locations that the batch touches. One that this epoch has not touched yet counts as empty:
-- what it may hold is from before the bucket was begun anew.
local known = {}
for place = 1, places do
  local set, state = KEYS[3 + 2 * place], KEYS[4 + 2 * place]
  known[place] = redis.call('SISMEMBER', locations, ARGV[5 + place]) == 1
  if known[place] then
    local kind = redis.call('TYPE', set).ok
    if kind ~= 'set' and kind ~= 'none' or redis.call('TYPE', state).ok ~= 'hash'
      or redis.call('HGET', state, 'epoch') ~= epoch then
      return {'DAMAGED', epoch, applied, waiting, {}}
    end
  end
end

local function unpacked(record)
  local status, version, time, since, keyword = string.match(record, '^([OI]):(%d+):(%-?%d+):(%-?%d+):(.*)$')
  if not status then return nil end
  return {status = status, version = tonumber(version), time = time, since = since, keyword = keyword}
end

-- Whether one time is before another. Beyond 2^53 two of them can be one number to Lua: then their digits say.
local function before(a, b)
  if tonumber(a) ~= tonumber(b) then return tonumber(a) < tonumber(b) end
  local shorter = #a < #b or #a == #b and a < b
  if string.sub(a, 1, 1) == '-' then shorter = #a > #b or #a == #b and a > b end
  return shorter
end

local current, decisions, changes, granted = {}, {}, {}, {}
for place = 1, places do current[place] = {} end
for i = 6 + places, #ARGV, 8 do
  local offset = tonumber(ARGV[i])
  if offset >= applied then
    local place, digits, status, time, keyword = tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
    local stored = current[place][digits]
    if not stored then
      local record = known[place] and redis.call('HGET', KEYS[4 + 2 * place], digits)
      if record then
        stored = unpacked(record)
        if not stored then return {'DAMAGED', epoch, applied, waiting, {}} end
        stored.before = stored.status
      end
    end
    local decision
    if not stored then
      decision = status == 'O' and 'C' or 'U'
      stored = {status = status, version = status == 'O' and 1 or 0, time = time, since = time, keyword = keyword}
    else
      if before(time, stored.time) or time == stored.time and not (status == 'O' and stored.status == 'I') then
        decision = 'S'
      elseif status == stored.status then
        decision = 'U'
        stored.time = time
      else
        decision = 'C'
        stored.status, stored.version = status, stored.version + 1
        stored.time, stored.since, stored.keyword = time, time, keyword
      end
    end
    current[place][digits] = stored
    decisions[#decisions + 1] = {offset, decision, stored.version}
    if decision == 'C' and offset >= published then
      changes[#changes + 1] = ARGV[i]
      changes[#changes + 1] = ARGV[i] .. ':' .. string.format('%d', stored.version) .. ':' .. ARGV[i + 6]
      if ARGV[i + 7] ~= '' then
        granted[#granted + 1] = tonumber(time) + CONFIRMATION_WINDOW_MS
        granted[#granted + 1] = status .. ':' .. ARGV[i + 7] .. ':' .. digits .. ':' .. ARGV[5 + place]
      end
    end
  end
end

-- From here on only the server itself can fail: every key was found to be of its type, or is deleted first.
for place = 1, places do
  local set, state = KEYS[3 + 2 * place], KEYS[4 + 2 * place]
  local records, out, back = {}, {}, {}
  for digits, stored in pairs(current[place]) do
    records[#records + 1] = digits
    records[#records + 1] = stored.status .. ':' .. string.format('%d', stored.version) .. ':' .. stored.time .. ':'
      .. stored.since .. ':' .. stored.keyword
    local side = stored.status == 'O' and out or back
    side[#side + 1] = digits
    if not stored.before then states = states + 1 end
    if stored.before ~= 'O' and stored.status == 'O' then members = members + 1 end
    if stored.before == 'O' and stored.status ~= 'O' then members = members - 1 end
  end
  if #records > 0 then
    if not known[place] then
      redis.call('DEL', set, state)
      redis.call('HSET', state, 'epoch', epoch)
      redis.call('SADD', locations, ARGV[5 + place])
      touched = touched + 1
    end
    redis.call('HSET', state, unpack(records))
    if #out > 0 then redis.call('SADD', set, unpack(out)) end
    if #back > 0 then redis.call('SREM', set, unpack(back)) end
  end
end
if published > tonumber(m[4]) then -- a view that was put back may hold again what was told since
  waiting = waiting - redis.call('ZREMRANGEBYSCORE', outbox, '-inf', '(' .. string.format('%.0f', published))
end
if #changes > 0 then
  redis.call('ZADD', outbox, unpack(changes))
  waiting = waiting + #changes / 2
end
if #granted > 0 then -- each confirmation may pass once, for five minutes; see confirm.lua
  local time = redis.call('TIME')
  local kind = redis.call('TYPE', passes).ok
  if kind ~= 'zset' and kind ~= 'none' then redis.call('DEL', passes) end
  redis.call('ZREMRANGEBYSCORE', passes, '-inf', tonumber(time[1]) * 1000)
  redis.call('ZADD', passes, unpack(granted))
end
if finish > applied then applied = finish end
redis.call('HSET', meta, 'applied', string.format('%.0f', applied), 'published', string.format('%.0f', published),
  'members', string.format('%.0f', members), 'states', string.format('%.0f', states),
  'outbox', string.format('%.0f', waiting), 'locations', string.format('%.0f', touched))
return {'OK', epoch, applied, waiting, decisions}

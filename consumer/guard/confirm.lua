-- Finds the pass of one confirmation and takes it, in one step: whoever asks again finds none. Nothing is taken while the
-- bucket is not vouched for on this very server: what was granted there may have passed before.
--
-- KEYS  meta, set of the location, passes
-- ARGV  a word of the asker's own, digits, event id of the confirmation, location id, greatest age of fresh in ms (empty:
--       any); and the digits of the number's other spelling, where it has one
-- Returns what verdict.lua does, and in place of the records a list with one of
--   PASSES  it may be sent, now and never again
--   NONE    it has passed, its five minutes are over, or there was never such a one
--   STALE   it is an opt-in's, and whether the patient is opted out again by now is not known

local info = redis.call('INFO', 'server', 'replication')
local run_at = string.find(info, 'run_id:', 1, true) + 7
local replication_at = string.find(info, 'master_replid:', run_at, true) + 14
local run, replication = string.sub(info, run_at, run_at + 39), string.sub(info, replication_at, replication_at + 39)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local marker = redis.call('HMGET', KEYS[1], 'run', 'replication', 'fresh', 'window_from', 'window_until')
local spellings = {ARGV[2], ARGV[6]}
local member = 0
for _, digits in ipairs(spellings) do
  if redis.call('SISMEMBER', KEYS[2], digits) == 1 then member = 1 end
end

local function is_granted(kind, take)
  for _, digits in ipairs(spellings) do
    local pass = kind .. ':' .. ARGV[3] .. ':' .. digits .. ':' .. ARGV[4]
    local until_ = redis.call('ZSCORE', KEYS[3], pass)
    if until_ and tonumber(until_) > now then
      if take then redis.call('ZREM', KEYS[3], pass) end
      return true
    end
  end
  return false
end

local found = 'NONE'
if marker[1] == run and marker[2] == replication and string.match(marker[3] or '', '^%-?%d+$') then
  local age = now - tonumber(marker[3])
  local is_fresh = age >= 0 and (ARGV[5] == '' or age <= tonumber(ARGV[5]))
  if is_granted('O', true) then -- the opt-out's own, whatever has become of the patient since
    found = 'PASSES'
  elseif member == 0 and is_granted('I', is_fresh) then
    found = is_fresh and 'PASSES' or 'STALE'
  end
end
return {
  ARGV[1], run, replication, now, marker[1], marker[2], marker[3], marker[4], marker[5], {member}, {found},
}

-- Starts the lease of a claim again.
--
-- KEYS[1]  the record
-- KEYS[2]  its steps, only where it may have some; they are kept as long
-- ARGV[1]  the record in progress, as it was claimed
-- ARGV[2]  its time to live in milliseconds
-- ARGV[3]  the latest time, in milliseconds of the server's clock, at which a record that is gone
--          may be written again: a command that a stopped server carries out late must not bring a
--          released claim back
--
-- Returns  1  renewed
--          0  lost: another's, released or completed
--         -1  the record is gone, and it is too late to write it again

--- @include "includes/record"
--- @include "includes/steps"

local record_key, claimed_record, ttl_ms, latest_ms = KEYS[1], ARGV[1], ARGV[2], ARGV[3]
local steps_key = KEYS[2]

local header = redis.call('GETRANGE', record_key, 0, OWNER_LAST - 1)
if #header == 0 and redis.call('EXISTS', record_key) == 0 then
  local time = redis.call('TIME')
  local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
  if now_ms > tonumber(latest_ms) then
    return -1
  end
  redis.call('SET', record_key, claimed_record, 'PX', ttl_ms)
  extend_steps(steps_key, ttl_ms)
  return 1
end
local is_ours = string.sub(header, OWNER_FIRST, OWNER_LAST)
    == string.sub(claimed_record, OWNER_FIRST, OWNER_LAST)
if string.sub(header, 1, 2) ~= RUNNING or not is_ours then
  return 0
end
local grace = string.sub(claimed_record, GRACE_FIRST, GRACE_LAST)
if string.sub(header, GRACE_FIRST, GRACE_LAST) ~= grace then
  redis.call('SETRANGE', record_key, GRACE_FIRST - 1, grace)
end
redis.call('PEXPIRE', record_key, ttl_ms)
extend_steps(steps_key, ttl_ms)
return 1

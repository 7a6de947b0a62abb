-- Stores an operator's answer in place of a claim, and wakes the waiters.
--
-- KEYS[1]  the record
-- KEYS[2]  its steps
-- ARGV[1]  the answer, a completed record with an owner token of its own
-- ARGV[2]  its time to live in milliseconds, unless the claim's has more left
-- ARGV[3]  owner token of the claim
-- ARGV[4]  '1' if the claim's lease may still be running
-- ARGV[5]  suffix that makes the record's key the name of its channel
-- ARGV[6]  'PUBLISH', or 'SPUBLISH' in a cluster
--
-- Returns 1  stored, now or before
--         0  the key has another record than this claim, or the claim's lease is running
--
-- A released record is such a claim while a step began that is not known to have ended.

--- @include "includes/record"
--- @include "includes/steps"

local record_key, steps_key = KEYS[1], KEYS[2]
local answer, ttl_ms, owner = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local even_running, channel_suffix, publish = ARGV[4] == '1', ARGV[5], ARGV[6]

local header = redis.call('GETRANGE', record_key, 0, FINGERPRINT_LAST - 1)
local state, current_owner = string.sub(header, 1, 2), string.sub(header, OWNER_FIRST, OWNER_LAST)
if state == COMPLETED and current_owner == string.sub(answer, OWNER_FIRST, OWNER_LAST) then
  return 1
end
local is_open = state == RELEASED
    and has_open_step(steps_key, string.sub(header, FINGERPRINT_FIRST, FINGERPRINT_LAST))
if state ~= RUNNING and state ~= HELD and not is_open or current_owner ~= owner then
  return 0
end
local remaining_ms = redis.call('PTTL', record_key)
local grace = struct.unpack('>I8', string.sub(header, GRACE_FIRST, GRACE_LAST))
if remaining_ms > grace and state == RUNNING and not even_running then
  return 0
end
redis.call('SET', record_key, answer, 'PX', math.max(ttl_ms, remaining_ms))
redis.call('UNLINK', steps_key)
-- The message is empty and means: read the record again.
redis.pcall(publish, record_key .. channel_suffix, '')
return 1

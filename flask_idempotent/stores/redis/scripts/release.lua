-- Gives up a claim, and wakes the waiters.
--
-- KEYS[1]  the record
-- KEYS[2]  its steps, only where it may have some
-- ARGV[1]  owner token of the claim
-- ARGV[2]  time to live in milliseconds of a late owner's response, if the record has one
-- ARGV[3]  time to live in milliseconds of a tombstone
-- ARGV[4]  suffix that makes the record's key the name of its channel
-- ARGV[5]  'PUBLISH', or 'SPUBLISH' in a cluster
-- ARGV[6]  '1' if this owner itself may still run, because an operator releases its claim
-- ARGV[7]  '1' if this owner, which was to decide what follows a crash, holds the key
-- ARGV[8]  name of a step of this owner whose function never ran, although it may be there as one
--          that began; else ''
--
-- Returns 1  released, or held
--         0  the key has no claim of this owner
--
-- Where an earlier owner, or this one, may still run, or there are steps for the next run, the record
-- becomes a tombstone: the same record in the state "released". Where an operator releases it, the
-- steps that began and are not known to have ended are deleted, also from a tombstone. Where this
-- owner was to decide, the record stays, so that the next request is asked when the lease ends: now,
-- unless the key is held.

--- @include "includes/record"
--- @include "includes/steps"

local record_key, owner, response_ttl_ms = KEYS[1], ARGV[1], ARGV[2]
local tombstone_ttl_ms, channel_suffix, publish = ARGV[3], ARGV[4], ARGV[5]
local owner_may_run, holds, unstarted = ARGV[6] == '1', ARGV[7] == '1', ARGV[8]
local steps_key = KEYS[2]
local NONE = string.rep('\0', 4)

local header = redis.call('GETRANGE', record_key, 0, HEADER_SIZE - 1)
local state = string.sub(header, 1, 2)
if #header ~= HEADER_SIZE or string.sub(header, OWNER_FIRST, OWNER_LAST) ~= owner then
  return 0
end
local fingerprint = string.sub(header, FINGERPRINT_FIRST, FINGERPRINT_LAST)
local steps_fingerprint = steps_key and redis.call('HGET', steps_key, 'f')
local is_with_steps = steps_fingerprint == fingerprint
if state == RELEASED and owner_may_run and is_with_steps and delete_open_steps(steps_key) > 0 then
  redis.pcall(publish, record_key .. channel_suffix, '')
  return 1
end
if state ~= RUNNING and state ~= HELD then
  return 0
end
if is_with_steps then
  local mark = unstarted ~= '' and redis.call('HGET', steps_key, 's' .. unstarted)
  if mark and string.sub(mark, 1, OWNER_SIZE) == owner then
    redis.call('HDEL', steps_key, 's' .. unstarted)
  end
  if owner_may_run then
    delete_open_steps(steps_key)
  end
  -- The fingerprint alone is no step.
  is_with_steps = redis.call('HLEN', steps_key) > 1
end
local was_to_decide = string.sub(header, DIED_FIRST, DIED_LAST) ~= NONE
local attempt, offer_offset = struct.unpack('>I4I4', string.sub(header, ATTEMPT_FIRST, OFFER_LAST))
local offer = offer_offset > 0 and redis.call('GETRANGE', record_key, offer_offset, -1)
-- An offset that this package never writes leads to no response: the key is released without one.
if offer and #offer > HEADER_SIZE and string.sub(offer, 1, 2) == COMPLETED then
  redis.call('SET', record_key, offer, 'PX', response_ttl_ms)
  is_with_steps = false
elseif was_to_decide and not owner_may_run then
  local grace = struct.unpack('>I8', string.sub(header, GRACE_FIRST, GRACE_LAST))
  if holds then
    redis.call('SETRANGE', record_key, 1, 'h')
  elseif state ~= HELD and grace < 9007199254740992 then
    redis.call('PEXPIRE', record_key, math.max(1, grace))
  end
  is_with_steps = true
elseif attempt > 1 or owner_may_run or is_with_steps then
  -- The state, a grace of 0, no offer, and nobody who decides.
  redis.call('SETRANGE', record_key, 1, 'r' .. string.rep('\0', 8))
  redis.call('SETRANGE', record_key, ATTEMPT_LAST, NONE)
  redis.call('SETRANGE', record_key, DIED_FIRST - 1, NONE)
  if is_with_steps then
    tombstone_ttl_ms = math.max(tombstone_ttl_ms, redis.call('PTTL', steps_key))
    redis.call('PEXPIRE', steps_key, tombstone_ttl_ms)
  end
  redis.call('PEXPIRE', record_key, tombstone_ttl_ms)
else
  redis.call('DEL', record_key)
end
-- Steps that do not say what request they are of are left to an operator.
local are_nobodys = #(steps_fingerprint or '') ~= FINGERPRINT_SIZE and not owner_may_run
if steps_key and not is_with_steps and not are_nobodys then
  redis.call('UNLINK', steps_key)
end
-- The message is empty and means: read the record again.
redis.pcall(publish, record_key .. channel_suffix, '')
return 1

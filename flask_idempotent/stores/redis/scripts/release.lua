-- Gives up a claim, and wakes the waiters.
--
-- KEYS[1]  the record
-- ARGV[1]  owner token of the claim
-- ARGV[2]  time to live in milliseconds of a late owner's response, if the record has one
-- ARGV[3]  time to live in milliseconds of a tombstone
-- ARGV[4]  suffix that makes the record's key the name of its channel
-- ARGV[5]  'PUBLISH', or 'SPUBLISH' in a cluster
-- ARGV[6]  '1' if this owner itself may still run, because an operator releases its claim
-- ARGV[7]  '1' if this owner, which was to decide what follows a crash, holds the key
--
-- Returns 1  released, or held
--         0  the key has no claim of this owner
--
-- Where an earlier owner, or this one, may still run, the record becomes a tombstone: the same
-- record in the state "released". Where this owner was to decide, the record stays, so that the next
-- request is asked when the lease ends: now, unless the key is held.
--
-- record_format.py has the layout of a record. Offsets here count from 1.
local record_key, owner, response_ttl_ms = KEYS[1], ARGV[1], ARGV[2]
local tombstone_ttl_ms, channel_suffix, publish = ARGV[3], ARGV[4], ARGV[5]
local owner_may_run, holds = ARGV[6] == '1', ARGV[7] == '1'
local GRACE_FIRST, GRACE_LAST = 3, 10
local ATTEMPT_FIRST, ATTEMPT_LAST, OFFER_LAST = 11, 14, 18
local OWNER_FIRST, OWNER_LAST = 19, 34
local DIED_FIRST, DIED_LAST = 55, 58
local HEADER_SIZE = 58
local RUNNING, HELD, COMPLETED = '\1p', '\1h', '\1c'  -- version and state
local NONE = string.rep('\0', 4)

local header = redis.call('GETRANGE', record_key, 0, HEADER_SIZE - 1)
local state = string.sub(header, 1, 2)
local is_claim = #header == HEADER_SIZE and (state == RUNNING or state == HELD)
if not is_claim or string.sub(header, OWNER_FIRST, OWNER_LAST) ~= owner then
  return 0
end
local was_to_decide = string.sub(header, DIED_FIRST, DIED_LAST) ~= NONE
local attempt, offer_offset = struct.unpack('>I4I4', string.sub(header, ATTEMPT_FIRST, OFFER_LAST))
local offer = offer_offset > 0 and redis.call('GETRANGE', record_key, offer_offset, -1)
-- An offset that this package never writes leads to no response: the key is released without one.
if offer and #offer > HEADER_SIZE and string.sub(offer, 1, 2) == COMPLETED then
  redis.call('SET', record_key, offer, 'PX', response_ttl_ms)
elseif was_to_decide and not owner_may_run then
  local grace = struct.unpack('>I8', string.sub(header, GRACE_FIRST, GRACE_LAST))
  if holds then
    redis.call('SETRANGE', record_key, 1, 'h')
  elseif state ~= HELD and grace < 9007199254740992 then
    redis.call('PEXPIRE', record_key, math.max(1, grace))
  end
elseif attempt > 1 or owner_may_run then
  -- The state, a grace of 0, no offer, and nobody who decides.
  redis.call('SETRANGE', record_key, 1, 'r' .. string.rep('\0', 8))
  redis.call('SETRANGE', record_key, ATTEMPT_LAST, NONE)
  redis.call('SETRANGE', record_key, DIED_FIRST - 1, NONE)
  redis.call('PEXPIRE', record_key, tombstone_ttl_ms)
else
  redis.call('DEL', record_key)
end
-- The message is empty and means: read the record again.
redis.pcall(publish, record_key .. channel_suffix, '')
return 1

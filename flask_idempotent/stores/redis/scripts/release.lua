-- Gives up a claim, and wakes the waiters.
--
-- KEYS[1]  the record
-- ARGV[1]  owner token of the claim
-- ARGV[2]  time to live in milliseconds of a late owner's response, if the record has one
-- ARGV[3]  time to live in milliseconds of a tombstone
-- ARGV[4]  suffix that makes the record's key the name of its channel
-- ARGV[5]  'PUBLISH', or 'SPUBLISH' in a cluster
-- ARGV[6]  '1' if this owner itself may still run, because an operator releases its claim
--
-- Returns 1  released
--         0  the key has no claim of this owner
--
-- Where an earlier owner, or this one, may still run, the record becomes a tombstone: the same
-- record in the state "released".
--
-- record_format.py has the layout of a record. Offsets here count from 1.
local record_key, owner, response_ttl_ms = KEYS[1], ARGV[1], ARGV[2]
local tombstone_ttl_ms, channel_suffix, publish = ARGV[3], ARGV[4], ARGV[5]
local owner_may_run = ARGV[6] == '1'
local ATTEMPT_FIRST, ATTEMPT_LAST, OFFER_LAST = 11, 14, 18
local OWNER_FIRST, OWNER_LAST = 19, 34
local HEADER_SIZE = 54
local RUNNING, COMPLETED = '\1p', '\1c'  -- version and state

local header = redis.call('GETRANGE', record_key, 0, OWNER_LAST - 1)
if string.sub(header, 1, 2) ~= RUNNING or string.sub(header, OWNER_FIRST, OWNER_LAST) ~= owner then
  return 0
end
local attempt, offer_offset = struct.unpack('>I4I4', string.sub(header, ATTEMPT_FIRST, OFFER_LAST))
local offer = offer_offset > 0 and redis.call('GETRANGE', record_key, offer_offset, -1)
-- An offset that this package never writes leads to no response: the key is released without one.
if offer and #offer > HEADER_SIZE and string.sub(offer, 1, 2) == COMPLETED then
  redis.call('SET', record_key, offer, 'PX', response_ttl_ms)
elseif attempt > 1 or owner_may_run then
  -- The state, a grace of 0, and no offer.
  redis.call('SETRANGE', record_key, 1, 'r' .. string.rep('\0', 8))
  redis.call('SETRANGE', record_key, ATTEMPT_LAST, string.rep('\0', 4))
  redis.call('PEXPIRE', record_key, tombstone_ttl_ms)
else
  redis.call('DEL', record_key)
end
-- The message is empty and means: read the record again.
redis.pcall(publish, record_key .. channel_suffix, '')
return 1

-- Claims a key that had a record at the first claim, or returns how long the other's lease still lasts.
--
-- KEYS[1]  the record
-- KEYS[2]  its steps. A cluster's node refuses the two keys while their slot migrates, unless both
--          exist: then this is asked without them
-- ARGV[1]  a new record, in progress
-- ARGV[2]  its time to live in milliseconds
-- ARGV[3]  '1' if a claim whose lease has lapsed may be taken over
-- ARGV[4]  suffix that makes the record's key the name of its channel
-- ARGV[5]  'PUBLISH', or 'SPUBLISH' in a cluster
-- ARGV[6]  owner token of the completed record that a corrected request replaces, else ''
-- ARGV[7]  '1' if this request, having taken over, decides what follows the death of the owner
--
-- Returns {1, attempt, first attempt}              the key is ours
--         {1, attempt, first attempt, old record}  the key is ours, taken over from this owner; or
--                                                  this is ours, and we are to decide
--         {2, record}                              completed, or not readable by this script
--         {3, milliseconds, record, is open}       another's; 0 or less if its lease has lapsed,
--                                                  and then 1 if a step began that is not known to
--                                                  have ended. A late owner's offer is cut off the
--                                                  record, and a released record is made a claim
--         {4}                                      the steps are needed to say that
--         an error                                 the server refuses to write, and nothing is
--                                                  completed

--- @include "includes/record"
--- @include "includes/steps"

local record_key, steps_key, new_record, ttl_ms = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
local may_take_over, channel_suffix, publish = ARGV[3] == '1', ARGV[4], ARGV[5]
local replaced_owner, decides = ARGV[6], ARGV[7] == '1'

local function owner_of(record)
  return string.sub(record, OWNER_FIRST, OWNER_LAST)
end
local function fingerprint_of(record)
  return string.sub(record, FINGERPRINT_FIRST, FINGERPRINT_LAST)
end

local record = redis.call('GET', record_key)
local state = record and #record >= HEADER_SIZE and string.sub(record, 1, 2)
local is_replaced = state == COMPLETED and owner_of(record) == replaced_owner
if state == COMPLETED and not is_replaced then
  return {2, record}
end
local grace, attempt, offer_offset
if state == RUNNING or state == HELD or state == RELEASED or is_replaced then
  grace, attempt, offer_offset =
      struct.unpack('>I8I4I4', string.sub(record, GRACE_FIRST, OFFER_LAST))
end
local offer = offer_offset and offer_offset > 0 and string.sub(record, offer_offset + 1)
-- Numbers that this package never writes make a record unreadable. Lua is exact up to 2^53.
local is_readable = attempt and attempt > 0 and attempt < 4294967295 and grace < 9007199254740992
    and (not offer or #offer > HEADER_SIZE and string.sub(offer, 1, 2) == COMPLETED)
if record and not is_readable then
  return {2, record}
end

-- Try this also where there is a record, to find out whether the server accepts writes: no request
-- should wait for a response that cannot be stored. Redis before 7.0 accepts NX only without GET.
local written = redis.pcall('SET', record_key, new_record, 'NX', 'PX', ttl_ms)
if type(written) == 'table' and written.err then
  return written
end
if not record then
  return {1, 1, 1}
end

local is_same_request = fingerprint_of(record) == fingerprint_of(new_record)
local first_attempt =
    struct.unpack('>I4', string.sub(record, FIRST_ATTEMPT_FIRST, FIRST_ATTEMPT_LAST))
local died = struct.unpack('>I4', string.sub(record, DIED_FIRST, DIED_LAST))
local claim_record = string.sub(record, 1, offer and offer_offset or -1)
if state == RELEASED then
  claim_record = RUNNING .. string.sub(record, 3)
end
local function write_new_record(dead_attempt, payload)
  redis.call('SET', record_key,
      string.sub(new_record, 1, GRACE_LAST) .. struct.pack('>I4', attempt)
      .. string.sub(new_record, ATTEMPT_LAST + 1, FINGERPRINT_LAST)
      .. struct.pack('>I4I4', first_attempt, dead_attempt) .. payload, 'PX', ttl_ms)
end
local function claim_next_attempt(dead_owners_record)
  local payload, dead_attempt = string.sub(new_record, HEADER_SIZE + 1), 0
  if dead_owners_record and decides then
    -- What is known of the run that died is kept until a view runs.
    payload = string.sub(dead_owners_record, HEADER_SIZE + 1)
    dead_attempt = died > 0 and died or attempt
  end
  attempt = attempt + 1
  if is_replaced or not is_same_request then
    -- Responses of the runs before this one are refused from now on.
    first_attempt = attempt
    redis.call('UNLINK', steps_key)
  else
    extend_steps(steps_key, ttl_ms)
  end
  write_new_record(dead_attempt, payload)
  return {1, attempt, first_attempt, dead_owners_record}
end

local function store_offer()
  -- An earlier owner finished after its lease: its response is stored, and nobody runs again.
  redis.call('SET', record_key, offer, 'PX', ttl_ms)
  redis.call('UNLINK', steps_key)
  redis.pcall(publish, record_key .. channel_suffix, '')
  return {2, offer}
end

local is_ours = state == RUNNING and owner_of(record) == owner_of(new_record)
if not steps_key and (state == RELEASED or is_replaced or is_ours) then
  return {4}
end
local is_open = false
if state == RELEASED then
  is_open = has_open_step(steps_key, fingerprint_of(record))
end
if state == RELEASED and not is_open or is_replaced then
  return claim_next_attempt()
end
if is_ours then
  if died == 0 or decides then
    -- The reply to our earlier claim was lost.
    redis.call('PEXPIRE', record_key, ttl_ms)
    extend_steps(steps_key, ttl_ms)
    return {1, attempt, first_attempt, died > 0 and claim_record or nil}
  end
  -- We have decided that the view runs.
  if offer then
    return store_offer()
  end
  delete_open_steps(steps_key)
  extend_steps(steps_key, ttl_ms)
  write_new_record(0, string.sub(new_record, HEADER_SIZE + 1))
  return {1, attempt, first_attempt}
end
local lease_left_ms = 0
if state ~= RELEASED then
  local remaining_ms = redis.call('PTTL', record_key)
  if remaining_ms < 0 then
    -- The record's time to live was removed: set it again, which starts its lease again.
    redis.call('PEXPIRE', record_key, ttl_ms)
    extend_steps(steps_key, ttl_ms)
    remaining_ms = tonumber(ttl_ms)
  end
  lease_left_ms = remaining_ms - grace
  if not steps_key and lease_left_ms <= 0 then
    return {4}
  end
  is_open = lease_left_ms <= 0 and has_open_step(steps_key, fingerprint_of(record))
end
local busy = {3, lease_left_ms, claim_record, is_open and 1 or 0}
if lease_left_ms > 0 or not may_take_over or not is_same_request then
  return busy
end
if offer then
  return store_offer()
end
if is_open and not decides then
  return busy
end
return claim_next_attempt(claim_record)

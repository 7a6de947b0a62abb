-- Stores the response of a run, and wakes the waiters.
--
-- KEYS[1]  the record
-- KEYS[2]  its steps, only where it may have some; they are not needed once a response is stored
-- ARGV[1]  the completed record
-- ARGV[2]  its time to live in milliseconds
-- ARGV[3]  suffix that makes the record's key the name of its channel
-- ARGV[4]  'PUBLISH', or 'SPUBLISH' in a cluster
--
-- Returns 1  stored, now or before
--         2  offered: another run is in progress, and the response waits in its record
--         3  refused: another's response is stored, the key belongs to another request, or its
--            record is unreadable
--         4  nothing was done: a later run may have left steps, whose key is needed
--
-- The message is empty and means: read the record. Other users of the server may be able to
-- receive and send messages without access to the key. Where publishing is not permitted, the response
-- is stored anyway and waiters find it when they poll: hence pcall.

--- @include "includes/record"

local record_key, response, ttl_ms = KEYS[1], ARGV[1], ARGV[2]
local channel_suffix, publish, steps_key = ARGV[3], ARGV[4], KEYS[2]
local STORED, OFFERED, REFUSED, NEEDS_STEPS = 1, 2, 3, 4

local function delete_steps()
  if steps_key then
    redis.call('UNLINK', steps_key)
  end
end

local record = redis.call('GET', record_key)
if record then
  local state = #record >= HEADER_SIZE and string.sub(record, 1, 2)
  local is_ours = string.sub(record, OWNER_FIRST, OWNER_LAST)
      == string.sub(response, OWNER_FIRST, OWNER_LAST)
  if state == COMPLETED and is_ours then
    -- WAIT behind this script waits for what this connection has written, and only for that. So the
    -- first byte is written again, as it is: the first call may have come over another connection.
    redis.call('SETRANGE', record_key, 0, string.sub(record, 1, 1))
    delete_steps()
    return STORED
  end
  if state ~= RUNNING and state ~= HELD and state ~= RELEASED then
    return REFUSED
  end
  if not is_ours then
    local is_same_request = string.sub(record, FINGERPRINT_FIRST, FINGERPRINT_LAST)
        == string.sub(response, FINGERPRINT_FIRST, FINGERPRINT_LAST)
    -- Big-endian numbers compare as strings do.
    local is_too_old = string.sub(response, ATTEMPT_FIRST, ATTEMPT_LAST)
        < string.sub(record, FIRST_ATTEMPT_FIRST, FIRST_ATTEMPT_LAST)
    if not is_same_request or is_too_old then
      return REFUSED
    end
    if state == RUNNING then
      if struct.unpack('>I4', string.sub(record, OFFER_FIRST, OFFER_LAST)) == 0 then
        redis.call('APPEND', record_key, response)
        redis.call('SETRANGE', record_key, OFFER_FIRST - 1, struct.pack('>I4', #record))
      end
      return OFFERED
    end
    if not steps_key then
      return NEEDS_STEPS
    end
  end
end
redis.call('SET', record_key, response, 'PX', ttl_ms)
delete_steps()
redis.pcall(publish, record_key .. channel_suffix, '')
return STORED

-- Keeps a step of our run, and starts the lease of the claim again.
--
-- KEYS[1]  the record
-- KEYS[2]  its steps
-- ARGV[1]  the header of the record in progress, as it was claimed, then the payload of the step
-- ARGV[2]  the record's time to live in milliseconds; '' leaves the lease as it is
-- ARGV[3]  's' if the step begins, 'e' if it has ended
-- ARGV[4]  the name of the step
--
-- Returns  1            written, now or before
--          0            lost: another's, held, released or completed
--         -1            the record is gone
--         -2            the steps are damaged: it is unknown what request they are of
--         {kind, step}  's' or 'e', and the step of another run that is there under this name

--- @include "includes/record"
--- @include "includes/steps"

local record_key, steps_key, ttl_ms = KEYS[1], KEYS[2], ARGV[2]
local kind, name = ARGV[3], ARGV[4]
local claimed, payload = string.sub(ARGV[1], 1, HEADER_SIZE), string.sub(ARGV[1], HEADER_SIZE + 1)
local owner = string.sub(claimed, OWNER_FIRST, OWNER_LAST)
local fingerprint = string.sub(claimed, FINGERPRINT_FIRST, FINGERPRINT_LAST)

local header = redis.call('GETRANGE', record_key, 0, HEADER_SIZE - 1)
if #header == 0 and redis.call('EXISTS', record_key) == 0 then
  return -1
end
if string.sub(header, 1, 2) ~= RUNNING or string.sub(header, OWNER_FIRST, OWNER_LAST) ~= owner then
  return 0
end

local steps_fingerprint = redis.call('HGET', steps_key, 'f')
if #(steps_fingerprint or '') ~= FINGERPRINT_SIZE and redis.call('HLEN', steps_key) > 0 then
  return -2
end
local is_of_this_request = steps_fingerprint == fingerprint
if kind == 's' and is_of_this_request then
  for _, earlier_kind in ipairs({'e', 's'}) do
    local earlier = redis.call('HGET', steps_key, earlier_kind .. name)
    if earlier and string.sub(earlier, 1, OWNER_SIZE) ~= owner then
      return {earlier_kind, earlier}
    end
    if earlier and earlier_kind == 'e' then
      -- This command was sent twice, and arrives after the step has ended: write that once more.
      kind, payload = 'e', string.sub(earlier, OWNER_SIZE + 1)
    end
  end
end
if not is_of_this_request then
  redis.call('UNLINK', steps_key)
end
redis.call('HSET', steps_key, 'f', fingerprint, kind .. name, owner .. payload)
if kind == 'e' then
  redis.call('HDEL', steps_key, 's' .. name)
end

local grace, claimed_grace = string.sub(header, GRACE_FIRST, GRACE_LAST),
    string.sub(claimed, GRACE_FIRST, GRACE_LAST)
local remaining_ms = redis.call('PTTL', record_key)
if ttl_ms ~= '' then
  remaining_ms = tonumber(ttl_ms)
elseif remaining_ms >= 0 then
  -- The lease ends when it would have: as much later before the record's end.
  remaining_ms = math.max(1, remaining_ms
      + struct.unpack('>I8', claimed_grace) - struct.unpack('>I8', grace))
end
if grace ~= claimed_grace then
  redis.call('SETRANGE', record_key, GRACE_FIRST - 1, claimed_grace)
end
if remaining_ms >= 0 then
  redis.call('PEXPIRE', record_key, remaining_ms)
  extend_steps(steps_key, remaining_ms)
end
return 1

-- Deletes a record, with its steps, if it is still the one that was inspected, and wakes the waiters.
--
-- KEYS[1]  the record
-- KEYS[2]  its steps
-- ARGV[1]  the bytes at the place of its owner token, '' where the value is not a string
-- ARGV[2]  suffix that makes the record's key the name of its channel
-- ARGV[3]  'PUBLISH', or 'SPUBLISH' in a cluster
--
-- Returns 1  deleted
--         0  gone, or replaced by another record

--- @include "includes/record"

local record_key, inspected_owner = KEYS[1], ARGV[1]
local channel_suffix, publish = ARGV[2], ARGV[3]

local header = redis.pcall('GETRANGE', record_key, 0, OWNER_LAST - 1)
local is_string = type(header) == 'string'
local owner = is_string and string.sub(header, OWNER_FIRST, OWNER_LAST) or ''
if owner ~= inspected_owner or redis.call('UNLINK', record_key) == 0 then
  return 0
end
redis.call('UNLINK', KEYS[2])
-- The message is empty and means: read the record again.
redis.pcall(publish, record_key .. channel_suffix, '')
return 1

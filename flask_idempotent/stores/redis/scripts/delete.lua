-- Deletes a record, whatever it is, with its steps, and wakes the waiters.
--
-- KEYS[1]  the record
-- KEYS[2]  its steps
-- ARGV[1]  suffix that makes the record's key the name of its channel
-- ARGV[2]  'PUBLISH', or 'SPUBLISH' in a cluster
--
-- Returns 1  deleted
--         0  there was none
local record_key, channel_suffix, publish = KEYS[1], ARGV[1], ARGV[2]

local deleted = redis.call('UNLINK', record_key)
redis.call('UNLINK', KEYS[2])
-- The message is empty and means: read the record again.
redis.pcall(publish, record_key .. channel_suffix, '')
return deleted

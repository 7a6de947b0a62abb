-- Does what SET with NX and GET does, on servers before Redis 7.0, which refuse the two together.
--
-- KEYS[1]  the record
-- ARGV[1]  a new record, in progress
-- ARGV[2]  its time to live in milliseconds
--
-- Returns nil     the key was free and is ours
--         record  the key's existing record
local record_key, new_record, ttl_ms = KEYS[1], ARGV[1], ARGV[2]

local record = redis.call('GET', record_key)
if not record then
  redis.call('SET', record_key, new_record, 'PX', ttl_ms)
end
return record

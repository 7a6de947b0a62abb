-- Returns what an operator needs of a record, without its body.
--
-- KEYS[1]  the record
-- KEYS[2]  its steps, unless they cannot be asked for
-- ARGV[1]  how many bytes of its beginning to return
--
-- Returns {}                                                             there is no record
--         {bytes, milliseconds to live, beginning, fields of the steps}  0 bytes if the value is not a
--                                                                        string
local record_key, steps_key, head_size = KEYS[1], KEYS[2], ARGV[1]
local MISSING = -2  -- PTTL's reply

local remaining_ms = redis.call('PTTL', record_key)
if remaining_ms == MISSING then
  return {}
end
local size = redis.pcall('STRLEN', record_key)
if type(size) == 'table' then
  return {0, remaining_ms, '', {}}
end
local fields = steps_key and redis.pcall('HKEYS', steps_key) or {}
local head = redis.call('GETRANGE', record_key, 0, head_size - 1)
return {size, remaining_ms, head, fields.err and {} or fields}

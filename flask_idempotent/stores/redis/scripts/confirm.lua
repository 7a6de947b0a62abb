-- Writes the first byte of our own record again, as it is, and nothing else.
--
-- WAIT waits for what its own connection has written (from Redis 7.2 on only for that). Where it is
-- sent apart from the command that wrote the record, this script goes before it.
--
-- KEYS[1]  the record
-- ARGV[1]  our owner token
--
-- Returns 1  done
--         0  the record is another's, or gone

--- @include "includes/record"

local record_key, owner = KEYS[1], ARGV[1]

local header = redis.call('GETRANGE', record_key, 0, OWNER_LAST - 1)
if string.sub(header, OWNER_FIRST, OWNER_LAST) ~= owner then
  return 0
end
redis.call('SETRANGE', record_key, 0, string.sub(header, 1, 1))
return 1

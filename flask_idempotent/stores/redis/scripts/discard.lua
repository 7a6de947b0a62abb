-- Deletes a record if it is still the one that was seen.
--
-- KEYS[1]  the record
-- ARGV[1]  the bytes of its owner token, whatever they are; none of a foreign kind of value
-- ARGV[2]  what follows the key's name in its channel's
--
-- Returns 1  deleted
--         0  gone, or another record by now
--
-- The empty message tells waiters to claim again. Whoever watches hears deleted, on the channel's
-- name with a '!'.
local head = redis.pcall('GETRANGE', KEYS[1], 0, 33)
local token = type(head) == 'table' and '' or string.sub(head, 19, 34)
if token ~= ARGV[1] or redis.call('UNLINK', KEYS[1]) == 0 then
  return 0
end
redis.pcall('PUBLISH', KEYS[1] .. ARGV[2], '')
redis.pcall('PUBLISH', KEYS[1] .. ARGV[2] .. '!', 'deleted 0 ')
return 1

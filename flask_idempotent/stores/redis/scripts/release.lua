-- Gives a claim up.
--
-- KEYS[1]  the record
-- ARGV[1]  owner token
-- ARGV[2]  time to live in milliseconds of a late owner's response, if one waits here
-- ARGV[3]  what follows the key's name in its channel's
--
-- Returns 1  released
--         0  nothing of ours to release
--
-- The empty message tells waiters to claim again.
local head = redis.call('GETRANGE', KEYS[1], 0, 33)
if #head < 34 or string.byte(head, 1) ~= 1 or string.sub(head, 2, 2) ~= 'p'
    or string.sub(head, 19, 34) ~= ARGV[1] then
  return 0
end
local offer = struct.unpack('>I4', string.sub(head, 15, 18))
if offer > 0 then
  redis.call('SET', KEYS[1], redis.call('GETRANGE', KEYS[1], offer, -1), 'PX', ARGV[2])
else
  redis.call('DEL', KEYS[1])
end
redis.pcall('PUBLISH', KEYS[1] .. ARGV[3], '')
return 1

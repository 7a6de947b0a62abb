-- Gives a claim up.
--
-- KEYS[1]  the record
-- ARGV[1]  owner token
-- ARGV[2]  time to live in milliseconds of a late owner's response, if one waits here
-- ARGV[3]  time to live in milliseconds of a tombstone
-- ARGV[4]  what follows the key's name in its channel's
-- ARGV[5]  '1' when this owner itself may still run, because somebody else gives its claim up
--
-- Returns 1  released
--         0  nothing of ours to release
--
-- Where an earlier owner, or this one, may still run, a tombstone stays: the record with another state.
--
-- The empty message tells waiters to claim again. Whoever watches hears released and how many
-- processes were woken, on the channel's name with a '!', and of a late owner's response completed
-- with the ends of its record.
local head = redis.call('GETRANGE', KEYS[1], 0, 33)
if #head < 34 or string.byte(head, 1) ~= 1 or string.sub(head, 2, 2) ~= 'p'
    or string.sub(head, 19, 34) ~= ARGV[1] then
  return 0
end
local attempt, offer = struct.unpack('>I4I4', string.sub(head, 11, 18))
local answered = offer > 0 and redis.call('GETRANGE', KEYS[1], offer, -1)
if answered then
  redis.call('SET', KEYS[1], answered, 'PX', ARGV[2])
elseif attempt > 1 or ARGV[5] == '1' then
  redis.call('SETRANGE', KEYS[1], 1, 'r' .. string.rep('\0', 8))
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
else
  redis.call('DEL', KEYS[1])
end
local woken = redis.pcall('PUBLISH', KEYS[1] .. ARGV[4], '')
local channel = KEYS[1] .. ARGV[4] .. '!'
redis.pcall('PUBLISH', channel, 'released ' .. (tonumber(woken) or 0) .. ' ')
if answered then
  local ends = string.sub(answered, 1, 34) .. string.rep('\0', 16)
      .. string.sub(answered, 51, 58) .. string.sub(answered, -9)
  redis.pcall('PUBLISH', channel, 'completed 0 ' .. ends)
end
return 1

-- Begins the lease of a claim anew.
--
-- KEYS[1]  the record
-- ARGV[1]  the record in progress as it was claimed
-- ARGV[2]  time to live in milliseconds
-- ARGV[3]  until when, in the server's milliseconds, a record that is gone may be put back: a
--          command that a stopped server carries out later must not revive a released claim
--
-- Returns  1  ours
--          0  lost: another's, or completed
--         -1  gone, and too late to put it back
local head = redis.call('GETRANGE', KEYS[1], 0, 33)
if #head == 0 and redis.call('EXISTS', KEYS[1]) == 0 then
  local time = redis.call('TIME')
  if time[1] * 1000 + math.floor(time[2] / 1000) > tonumber(ARGV[3]) then
    return -1
  end
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
  return 1
end
if string.byte(head, 1) ~= 1 or string.sub(head, 2, 2) ~= 'p'
    or string.sub(head, 19, 34) ~= string.sub(ARGV[1], 19, 34) then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1

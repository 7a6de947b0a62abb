-- Moves the end of a claim's lease.
--
-- KEYS[1]  the record
-- ARGV[1]  the record in progress as it was claimed
-- ARGV[2]  lease in milliseconds
-- ARGV[3]  time to live in milliseconds
-- ARGV[4]  until when, in the server's milliseconds, a record that is gone may be put back: a
--          command that a stopped server carries out later must not revive a released claim
--
-- Returns the new deadline  ours
--         0                 lost: another's, or completed
--         -1                gone, and too late to put it back
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local deadline = now + ARGV[2]
local head = redis.call('GETRANGE', KEYS[1], 0, 33)
if #head == 0 and redis.call('EXISTS', KEYS[1]) == 0 then
  if now > tonumber(ARGV[4]) then
    return -1
  end
  local record = string.sub(ARGV[1], 1, 2) .. struct.pack('>d', deadline) .. string.sub(ARGV[1], 11)
  redis.call('SET', KEYS[1], record, 'PX', ARGV[3])
  return deadline
end
if string.byte(head, 1) ~= 1 or string.sub(head, 2, 2) ~= 'p'
    or string.sub(head, 19, 34) ~= string.sub(ARGV[1], 19, 34) then
  return 0
end
redis.call('SETRANGE', KEYS[1], 2, struct.pack('>d', deadline))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return deadline

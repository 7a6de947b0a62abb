-- Claims a key, or tells what is known of it.
--
-- KEYS[1]  the record
-- ARGV[1]  a new record in progress, its deadline left 0
-- ARGV[2]  lease in milliseconds
-- ARGV[3]  time to live in milliseconds
-- ARGV[4]  '1' when a claim whose lease has lapsed may be taken over
-- ARGV[5]  what follows the key's name in its channel's
--
-- Returns {1, attempt, deadline}         the key is ours
--         {2, record}                    completed, or not readable by this script
--         {3, milliseconds left, header} in progress; none left: its lease has lapsed
--         an error                       when the server refuses to write and nothing is completed
--
-- Offsets are those of records.py, counted from 1.
local old = redis.pcall('SET', KEYS[1], ARGV[1], 'NX', 'GET', 'PX', ARGV[3])
if type(old) == 'string' and string.sub(old, 2, 2) == 'c' then
  return {2, old}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local deadline = now + ARGV[2]
if not old then
  redis.call('SETRANGE', KEYS[1], 2, struct.pack('>d', deadline))
  return {1, 1, deadline}
end
if type(old) == 'table' then
  -- No writes here: what is completed can still be replayed.
  local refused = old
  old = redis.call('GET', KEYS[1])
  if not old or string.sub(old, 2, 2) == 'p' then
    return refused
  end
  return {2, old}
end
if #old < 50 or string.byte(old, 1) ~= 1 or string.sub(old, 2, 2) ~= 'p' then
  return {2, old}
end

local ends, attempt, offer = struct.unpack('>dI4I4', string.sub(old, 3, 18))
if string.sub(old, 19, 34) == string.sub(ARGV[1], 19, 34) then
  -- The reply to our first sending was lost.
  redis.call('SETRANGE', KEYS[1], 2, struct.pack('>d', deadline))
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {1, attempt, deadline}
end
local same = string.sub(old, 35, 50) == string.sub(ARGV[1], 35, 50)
if ends > now or ARGV[4] ~= '1' or not same then
  return {3, ends - now, string.sub(old, 1, 50)}
end
if offer > 0 then
  -- An earlier owner came late with its response; nobody needs to run again.
  local answered = string.sub(old, offer + 1)
  redis.call('SET', KEYS[1], answered, 'PX', ARGV[3])
  redis.pcall('PUBLISH', KEYS[1] .. ARGV[5], '')
  return {2, answered}
end
local head = struct.pack('>dI4', deadline, attempt + 1)
local taken = string.sub(ARGV[1], 1, 2) .. head .. string.sub(ARGV[1], 15)
redis.call('SET', KEYS[1], taken, 'PX', ARGV[3])
return {1, attempt + 1, deadline}

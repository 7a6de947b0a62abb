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
-- Tells whoever watches, on the waiters' channel's name with a '!': claimed, busy, unknown, reused
-- or unreadable, with the record of the request that asks; completed or replayed, with the ends of
-- the response's record. A command that was sent twice tells nothing new. A message that may not be
-- sent fails nothing: pcall.
--
-- Offsets are those of records.py, counted from 1.
local function tell(what, octets)
  redis.pcall('PUBLISH', KEYS[1] .. ARGV[5] .. '!', what .. ' ' .. octets)
end
local function ends(record)
  return string.sub(record, 1, 128) .. string.sub(record, -9)
end

local old = redis.call('GET', KEYS[1])
local same = old and string.sub(old, 35, 50) == string.sub(ARGV[1], 35, 50)
local kind = old and #old >= 50 and string.sub(old, 1, 2)
if kind == '\1c' then
  if same then
    tell('replayed 0', ends(old))
  else
    tell('reused 0', ARGV[1])
  end
  return {2, old}
end
if old and kind ~= '\1p' then
  tell('unreadable 0', ARGV[1])
  return {2, old}
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local deadline = now + ARGV[2]
local head = string.sub(ARGV[1], 1, 2) .. struct.pack('>d', deadline)
local claim = head .. string.sub(ARGV[1], 11)
-- One in progress is tried as well: where nothing can be written, it cannot be completed.
local refused = redis.pcall('SET', KEYS[1], claim, 'NX', 'GET', 'PX', ARGV[3])
if type(refused) == 'table' then
  return refused
end
if not old then
  tell('claimed 0', ARGV[1])
  return {1, 1, deadline}
end
local left, attempt, offer = struct.unpack('>dI4I4', string.sub(old, 3, 18))
left = left - now
if string.sub(old, 19, 34) == string.sub(ARGV[1], 19, 34) then
  -- The reply to our first sending was lost.
  redis.call('SETRANGE', KEYS[1], 2, struct.pack('>d', deadline))
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  return {1, attempt, deadline}
end
if left > 0 or ARGV[4] ~= '1' or not same then
  tell(not same and 'reused 0' or left > 0 and 'busy 0' or 'unknown 0', ARGV[1])
  return {3, left, string.sub(old, 1, 50)}
end
if offer > 0 then
  -- An earlier owner came late with its response; nobody needs to run again.
  local answered = string.sub(old, offer + 1)
  redis.call('SET', KEYS[1], answered, 'PX', ARGV[3])
  local woken = redis.pcall('PUBLISH', KEYS[1] .. ARGV[5], '')
  tell('completed ' .. (tonumber(woken) or 0), ends(answered))
  tell('replayed 0', ends(answered))
  return {2, answered}
end
local taken = head .. struct.pack('>I4', attempt + 1) .. string.sub(ARGV[1], 15)
redis.call('SET', KEYS[1], taken, 'PX', ARGV[3])
tell('claimed 0', taken)
return {1, attempt + 1, deadline}
